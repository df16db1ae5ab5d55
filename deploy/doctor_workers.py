"""What ``preread doctor`` says of the workers: whether they live, and on what they run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from db.worker_events import WorkerStep, count, latest_reason
from db.workers import WorkerSeen, workers
from inference.worker_id import is_gone

from .check import Check, Verdict
from .settings import Settings

_LATELY = timedelta(days=1)
# What nobody has to look after: the ladder did, and the analysis went on.
_HARMLESS = frozenset({WorkerStep.SMALLER, WorkerStep.RECYCLED})
_ENDS = (WorkerStep.KILLED, WorkerStep.CRASHED)


def examine_workers(settings: Settings, engine: sa.Engine) -> Iterator[Check]:
    """Yield a check for each worker, and one for what happened to them within a day."""
    now = datetime.now(UTC)
    with engine.connect() as connection:
        found = workers(connection)
        happened = {step: count(connection, step, since=now - _LATELY) for step in WorkerStep}
        ended = latest_reason(connection, _ENDS, now - _LATELY)
    for one in found:
        if _is_gone(settings, one):
            yield _gone(one)
        else:
            yield _worker(one, now, timedelta(seconds=settings.inference.silence_seconds))
    if told := [f"{number} {step}" for step, number in happened.items() if number]:
        bad = any(number for step, number in happened.items() if step not in _HARMLESS)
        yield Check(
            "worker events",
            Verdict.WARNING if bad else Verdict.GOOD,
            f"within 24 hours: {', '.join(told)}{_last_end(ended)}; v_worker_events has them, and "
            "the docs (failures) what to do",
        )


def _last_end(ended: tuple[str, str] | None) -> str:
    return "" if ended is None else f" (last {ended[0]}: {ended[1]})"


def _is_gone(settings: Settings, one: WorkerSeen) -> bool:
    """Tell whether it ran here, and its process has ended without a word."""
    if one.host != socket.gethostname():
        return False
    return is_gone(settings.data_dir / "workers", one.id, one.pid)


def _gone(one: WorkerSeen) -> Check:
    return Check(
        "worker",
        Verdict.WARNING,
        f"{one.id} has ended without a word: its process {one.pid} is gone. Where a node runs it "
        "is started anew within a minute; look at the log, and at the kernel's for memory",
    )


def _worker(one: WorkerSeen, now: datetime, silence: timedelta) -> Check:
    if now - one.seen_at > silence:
        seconds = int((now - one.seen_at).total_seconds())
        return Check(
            "worker",
            Verdict.WARNING,
            f"{one.id} was last seen {seconds} s ago: it was killed, or its node is not running",
        )
    if one.trouble is not None:
        place = f"{one.id} runs on {one.device}"
        wanted = f", not on {one.wanted_device}" if one.wanted_device else ""
        return Check(
            "worker",
            Verdict.BAD,
            f"{place}{wanted}: {one.trouble}. See to the GPU (nvidia-smi, the kernel's log) and "
            'start the node again; without one set inference.device = "cpu"',
        )
    return Check("worker", Verdict.GOOD, f"{one.id} runs on {one.device}")
