"""Whole associations of the streaming transport, with state machine, store and database."""

from __future__ import annotations

import pytest
from association_requests import request
from conversation import ending, messages_of
from damage import damaged, splice
from fuzzed_node import fuzzed_node
from inputs import Rng, run
from raw_pdus import ASSOCIATE_AC

N_NORMAL, N_SLOW = 500, 9_000


def conversation(rng: Rng) -> bytes:
    """From A-ASSOCIATE-RQ to the end, most of them accepted."""
    start = [request(rng, 0.3)] if rng.chance(0.95) else []
    if rng.chance(0.05):
        start.append(request(rng, 0.1))
    content = damaged(rng, messages_of(rng), ending(rng), start, (0.3, 0.25, 0.2, 0.15))
    if rng.chance(0.05):
        content = splice(rng, content, damaged(rng, messages_of(rng), ending(rng), start))
    return content


def converse(n_inputs: int) -> None:
    kinds: dict[int, int] = {}
    with fuzzed_node() as node:

        def one_input(rng: Rng) -> None:
            rng.made = conversation(rng)
            for kind in node.converse(rng.made).kinds:
                kinds[kind] = kinds.get(kind, 0) + 1

        done = run("association", n_inputs, one_input)
    print(f"{done} associations, {node.n_acknowledged} images acknowledged, PDUs answered: {kinds}")
    if done > 1:
        assert node.n_acknowledged > done / 10


def test_associations(crashes: list[str]) -> None:
    converse(N_NORMAL)


@pytest.mark.slow
def test_many_associations(crashes: list[str]) -> None:
    converse(N_SLOW)


def repeat(n_inputs: int) -> None:
    n_known = 0
    with fuzzed_node() as node:

        def one_input(rng: Rng) -> None:
            nonlocal n_known
            rng.made = conversation(rng)
            first = node.answers_to(rng.made)
            n_known += first[:1] == bytes((ASSOCIATE_AC,))
            assert node.answers_to(rng.made) == first
            node.converse(rng.made)

        done = run("repeated", n_inputs, one_input)
    print(f"{done} associations three times each, {n_known} accepted")
    if done > 1:
        assert n_known > done / 4


def test_a_request_is_answered_as_it_was_before(crashes: list[str]) -> None:
    """The answers to a known request come from memory."""
    repeat(N_NORMAL // 2)


@pytest.mark.slow
def test_many_requests_are_answered_as_they_were_before(crashes: list[str]) -> None:
    repeat(N_SLOW // 3)
