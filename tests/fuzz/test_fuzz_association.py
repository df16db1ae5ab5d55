"""Whole associations of the streaming transport, with state machine, store and database."""

from __future__ import annotations

import pytest
from association_requests import request
from conversation import ending, messages_of
from damage import damaged, splice
from fuzzed_node import fuzzed_node
from inputs import Rng, run

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
