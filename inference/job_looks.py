"""How a worker looks at its queues, where the job engine leaves that to the database or to chance.

None of this is part of the engine's interface: methods of its objects are replaced by others that
ask them. Each function is called once, before the first look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from .claims import Claims


def keep_to_slots(system: Any, slots: Mapping[str, int]) -> None:
    """Take as many as this worker has room for, whatever stands in the database.

    There the numbers of the worker that started last stand, for all of them, and the engine reads
    them before each look.

    Parameters
    ----------
    system : SystemDatabase
        The engine's.
    slots : mapping of str to int
        Of this worker, by queue.
    """
    read = system.get_queue

    def get_queue(name: str, **how: Any) -> Any:
        queue = read(name, **how)
        if queue is not None and name in slots:
            queue._worker_concurrency = slots[name]
        return queue

    system.get_queue = get_queue


def count_claims(system: Any, active: Any, claims: Claims) -> None:
    """Let a job take its slot when it is taken, whenever its thread begins.

    Looks follow each other at once when a worker is woken.

    Parameters
    ----------
    system : SystemDatabase
    active : ActiveWorkflowById
        What the engine counts.
    claims : Claims
        Is told what is taken; who begins says so.
    """
    claim, running = system.start_queued_workflows, active.count_for_queue

    def start_queued_workflows(queue: Any, *given: Any, **how: Any) -> Any:
        claimed, reason = claim(queue, *given, **how)
        claims.add(queue.name, claimed)
        return claimed, reason

    def count_for_queue(name: str) -> int:
        # In this order: one that begins in between counts twice, and not never.
        return claims.count(name) + int(running(name))

    system.start_queued_workflows = start_queued_workflows
    active.count_for_queue = count_for_queue
    _give_back(system, claims)


def _give_back(system: Any, claims: Claims) -> None:
    """Let go of the slot of a job that turns out not to begin, for which others would wait."""
    read, give_up = system.get_workflow_statuses, system.dead_letter_workflows

    def get_workflow_statuses(ids: Sequence[str]) -> Any:
        statuses = read(ids)
        for one in statuses:
            if one["status"] != "PENDING":  # cancelled at that very moment
                claims.begun(one["workflow_uuid"])
        return statuses

    def dead_letter_workflows(ids: Sequence[str], **how: Any) -> None:
        give_up(ids, **how)
        for one in ids:
            claims.begun(one)

    system.get_workflow_statuses = get_workflow_statuses
    system.dead_letter_workflows = dead_letter_workflows


def leave(
    system: Any, queue: str, leaves: Callable[[], bool], looking: AbstractContextManager[Any]
) -> None:
    """Take nothing from a queue while that is so, at the very moment that a job would be taken.

    Parameters
    ----------
    system : SystemDatabase
    queue : str
        Name of the queue.
    leaves : callable
        Whether that is so.
    looking : context manager
        Held from the answer until the job is taken. Who changes the answer and holds it afterwards
        knows that no job is taken any more by an answer of before.
    """
    claim = system.start_queued_workflows

    def start_queued_workflows(taken_of: Any, *given: Any, **how: Any) -> Any:
        if taken_of.name != queue:
            return claim(taken_of, *given, **how)
        with looking:
            return ([], None) if leaves() else claim(taken_of, *given, **how)

    system.start_queued_workflows = start_queued_workflows
