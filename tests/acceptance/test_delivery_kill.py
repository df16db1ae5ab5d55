"""SIGKILL of the part that delivers, at the worst moments: nothing is lost, nothing is doubled."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from delivered import (
    CLASSES,
    assert_holds_exactly,
    deliveries,
    destination,
    meant_for,
    send,
    wait_until_analysed,
    wait_until_committed,
)
from pacs import Pacs
from running import Node, wait_for

from inference.training.phantoms.files import write_chest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Killer:
    """Kills the part that delivers, once."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.killed = 0

    def __call__(self, *_about: Any) -> dict[str, int]:
        if not self.killed:
            self.killed = self._node.part_pids()["deliver"]
            os.kill(self.killed, signal.SIGKILL)
        return {}


def at_the_first(kill: Killer, pacs: Pacs) -> None:
    """Before the first C-STORE is answered."""
    pacs.breaks = kill
    pacs.answers = lambda _transaction, _instances: {}


def in_between(kill: Killer, pacs: Pacs) -> None:
    """While the second object comes; the first one has been answered."""
    pacs.breaks = lambda _association, _instance: len(pacs.received) > 1 and kill()
    pacs.answers = lambda _transaction, _instances: {}


def before_commitment(kill: Killer, pacs: Pacs) -> None:
    """Everything is stored, the first request for commitment is not answered."""
    pacs.answers = kill


@pytest.mark.parametrize("when", [at_the_first, in_between, before_commitment])
def test_it_is_killed(node: Node, tmp_path: Path, when: Callable[[Killer, Pacs], None]) -> None:
    pacs = Pacs(CLASSES)
    kill = Killer(node)
    when(kill, pacs)
    # Answers of the PACS find the node also when the one who asked is gone.
    pacs.report_port = node.port
    try:
        node.configure(destination("pacs", pacs.port, commit_seconds=2))
        node.start()
        send(node, write_chest(tmp_path / "chest", seed=13, pneumothorax=True))
        wait_until_analysed(node, 1)
        wait_for(lambda: kill.killed, 120, "the kill")
        wait_for(
            lambda: node.part_pids().get("deliver", kill.killed) != kill.killed, 120, "a new part"
        )
        # What the killed one had in hand is left alone for minutes: as if these had passed.
        with node.database() as connection:
            connection.execute("UPDATE delivery SET leased_until = NULL, next_attempt_at = '2000'")
            connection.commit()
        wait_until_committed(node, "pacs")
        assert_holds_exactly(pacs, meant_for(node, "pacs"))
        assert len(deliveries(node, "pacs", "state")) == 2
        assert node.query("SELECT COUNT(*) FROM v_objects") == [(2,)]
        assert node.stop() == 0
    finally:
        pacs.stop()
