"""SIGKILL of the receiver at random moments under load: acknowledged is kept, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from kept import assert_intact, assert_kept, assert_nothing_besides, files_of
from running import Node, wait_for
from senders import Senders

SEED = int(os.environ.get("PREREAD_TEST_SEED", "20240607"))
_LONGEST_RUN_SECONDS = 1.2
_KILLED_AT_START = 0.1
# Files younger than a minute may be being received: recovery looks at them again then.
_RECOVERY_SECONDS = 180.0
_ENOUGH = 20


@pytest.fixture(params=["streaming", pytest.param("pynetdicom", marks=pytest.mark.slow)])
def transport(request: pytest.FixtureRequest) -> str:
    """What is tested here lies behind the transport: the other one may wait for the slow suite."""
    return str(request.param)


def nobody(_sender: int) -> bool:
    return False


def every_other(sender: int) -> bool:
    """Never sends an image twice: what became of it is for recovery to find out."""
    return sender % 2 == 1


def kill_often(node: Node, n_kills: int, gives_up: Callable[[int], bool] = nobody) -> Senders:
    """Kill and start again `n_kills` times while eight senders go on, also while it starts."""
    moments = random.Random(SEED)
    recovered: list[float] = []
    with Senders(node.port, 8, timeout=60, gives_up=gives_up) as senders:
        for _ in range(n_kills):
            time.sleep(moments.uniform(0, _LONGEST_RUN_SECONDS))
            node.kill_everything()
            if moments.random() < _KILLED_AT_START:
                node.launch("scp")
                time.sleep(moments.uniform(0, 0.5))
                node.kill_everything()
            started = time.monotonic()
            node.start("scp")
            recovered.append(time.monotonic() - started)
        time.sleep(1)
        await_enough(senders)
    print(
        f"{n_kills} kills (seed {SEED}): {len(senders.acknowledged)} acknowledged, "
        f"{senders.n_resent} unanswered; listens again after {sum(recovered) / n_kills:.2f} s "
        f"(longest {max(recovered):.2f} s)"
    )
    return senders


def await_enough(senders: Senders) -> None:
    wait_for(lambda: len(senders.acknowledged) > _ENOUGH, 60, "images to speak of")


def assert_nothing_lost(node: Node, senders: Senders) -> None:
    assert set(senders.statuses) == {0}, senders.statuses
    assert not senders.n_unanswered
    assert len(senders.acknowledged) > _ENOUGH
    assert_nothing_besides(node, _RECOVERY_SECONDS)
    assert_kept(node, senders.acknowledged)
    assert_intact(node)
    still_open = "SELECT COUNT(*) FROM association WHERE ended_at IS NULL"
    wait_for(lambda: node.query(still_open) == [(0,)], 60, "the end of every association")
    receiving = "SELECT COUNT(*) FROM v_series WHERE state = 'receiving'"
    wait_for(lambda: node.query(receiving) == [(0,)], 90, "complete series")
    count = len(files_of(node))
    n_recovered = sum(event["event"] == "file.recovered" for event in node.events())
    print(
        f"{count} files with a row, {count - len(senders.acknowledged)} never acknowledged, "
        f"{n_recovered} found by recovery"
    )
    assert node.stop() == 0


def test_five_kills(start_receiver: Callable[..., Node], database: str | None) -> None:
    node = start_receiver(database_url=database)
    assert_nothing_lost(node, kill_often(node, 5))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("transport", "database", "n_kills"),
    [
        ("streaming", "sqlite", 100),
        ("streaming", "postgresql", 20),
        ("pynetdicom", "sqlite", 20),
    ],
    indirect=["transport", "database"],
)
def test_many_kills(start_receiver: Any, database: str | None, n_kills: int) -> None:
    node = start_receiver(database_url=database)
    assert_nothing_lost(node, kill_often(node, n_kills, every_other))


def test_stops_under_load(start_receiver: Any) -> None:
    """SIGTERM: what is under way may end, within bounds; nothing is cut."""
    node = start_receiver("shutdown_seconds = 1\n")
    with Senders(node.port, 8, timeout=60) as senders:
        for _ in range(2):
            time.sleep(0.5)
            assert node.stop() == 0
            node.start("scp")
        time.sleep(0.5)
        await_enough(senders)
    assert_nothing_lost(node, senders)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", ["streaming"], indirect=True)
def test_acceptors_are_killed_one_by_one(start_receiver: Any, postgresql_database: str) -> None:
    """Two processes on one port: the other goes on, and the dead one comes back by itself."""
    node = start_receiver("acceptors = 2\n", database_url=postgresql_database)
    wait_for(lambda: len(node.part_pids()) == 2, 60, "two acceptors")
    moments = random.Random(SEED)
    with Senders(node.port, 8, timeout=60, gives_up=every_other) as senders:
        for number in range(4):
            time.sleep(moments.uniform(0.5, 2))
            name = ("scp", "scp-1")[number % 2]
            killed = node.part_pids()[name]
            os.kill(killed, signal.SIGKILL)
            time.sleep(1)
            # Another one: the killed one stays in /proc until the supervisor has looked.
            wait_for(
                lambda name=name, killed=killed: node.part_pids().get(name, killed) != killed,
                60,
                "the acceptor's return",
            )
        time.sleep(5)
        await_enough(senders)
    print(f"{len(senders.acknowledged)} acknowledged, {senders.n_resent} unanswered")
    assert_nothing_lost(node, senders)
