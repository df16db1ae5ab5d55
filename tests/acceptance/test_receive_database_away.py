"""The database is away: images are kept and acknowledged, and indexed when it is back."""

from __future__ import annotations

import random
import signal
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from encoded import image, sha256
from kept import assert_intact, assert_kept, assert_nothing_besides, wait_until_indexed
from own_postgresql import OwnPostgresql
from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE, Instance
from raw_scu import RawAssociation
from running import Node, wait_for
from senders import Senders

CONTEXTS = ((CT_IMAGE, EXPLICIT_LITTLE),)
OUT_OF_RESOURCES = 0xA700
LONG = pytest.param(20.0, marks=pytest.mark.slow)


@pytest.fixture(params=["streaming", pytest.param("pynetdicom", marks=pytest.mark.slow)])
def transport(request: pytest.FixtureRequest) -> str:
    """What is tested here lies behind the transport: the other one may wait for the slow suite."""
    return str(request.param)


def said(node: Node) -> list[str]:
    events = [event["event"] for event in node.events()]
    return [event for event in events if event.startswith("database.")]


def assert_caught_up(node: Node, acknowledged: dict[str, str], seconds: float = 60) -> None:
    """Every row is there, every series complete, nothing is left waiting."""
    wait_until_indexed(node, acknowledged, seconds)
    assert_kept(node, acknowledged)
    assert_nothing_besides(node)
    assert_intact(node)
    receiving = "SELECT COUNT(*) FROM v_series WHERE state = 'receiving'"
    wait_for(lambda: node.query(receiving) == [(0,)], 90, "complete series")
    assert "database.away" in said(node)
    wait_for(lambda: "database.back" in said(node), 60, "word of the database's return")


@contextmanager
def stopped(server: OwnPostgresql, how: int) -> Iterator[None]:
    server.stop(how)
    try:
        yield
    finally:
        server.start()


@contextmanager
def frozen(server: OwnPostgresql) -> Iterator[None]:
    """Takes connections and queries, answers none: worse than a server that is down."""
    server.signal_all(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal_all(signal.SIGCONT)


@contextmanager
def locked(node: Node) -> Iterator[None]:
    """Another program that does not know of the fair lock writes for long."""
    holder = sqlite3.connect(node.data / "preread.sqlite", isolation_level=None, timeout=30)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def send_while(node: Node, away: Any, seconds: float) -> None:
    with Senders(node.port, 4, timeout=60) as senders:
        wait_for(lambda: len(senders.acknowledged) > 20, 60)
        with away:
            n_before = len(senders.acknowledged)
            time.sleep(seconds)
            wait_for(
                lambda: len(senders.acknowledged) >= n_before + 20, 60, "images in the meantime"
            )
            n_meanwhile = len(senders.acknowledged) - n_before
        time.sleep(1)
    slowest = max(senders.seconds)
    print(
        f"{len(senders.acknowledged)} acknowledged, {n_meanwhile} of them in {seconds:.0f} s "
        f"without the database; median {1e3 * statistics.median(senders.seconds):.0f} ms, "
        f"slowest {slowest:.2f} s; statuses {dict(senders.statuses)}"
    )
    assert set(senders.statuses) == {0}, senders.statuses
    assert not senders.n_resent
    assert_caught_up(node, senders.acknowledged)
    assert node.stop() == 0


@pytest.mark.parametrize("seconds", [3.0, LONG])
def test_postgresql_is_stopped(
    own_postgresql: OwnPostgresql, start_receiver: Any, seconds: float
) -> None:
    node = start_receiver(database_url=own_postgresql.database())
    send_while(node, stopped(own_postgresql, signal.SIGINT), seconds)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["streaming"], indirect=True)
def test_postgresql_crashes(own_postgresql: OwnPostgresql, start_receiver: Any) -> None:
    node = start_receiver(database_url=own_postgresql.database())
    send_while(node, stopped(own_postgresql, signal.SIGQUIT), 20)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["streaming"], indirect=True)
def test_postgresql_freezes(own_postgresql: OwnPostgresql, start_receiver: Any) -> None:
    node = start_receiver(database_url=own_postgresql.database())
    send_while(node, frozen(own_postgresql), 25)


@pytest.mark.parametrize("seconds", [pytest.param(8.0), LONG])
def test_sqlite_is_locked(start_receiver: Any, seconds: float) -> None:
    node = start_receiver()
    send_while(node, locked(node), seconds)


def test_above_the_bound_images_are_refused(
    own_postgresql: OwnPostgresql, start_receiver: Any
) -> None:
    node = start_receiver(
        "max_unindexed = 5\nacceptors = 1\n", database_url=own_postgresql.database()
    )
    instances = [image("bound", number) for number in range(12)]
    with RawAssociation(node.port, CONTEXTS, timeout=60) as opened:
        assert opened.store(image("before")) == 0
        with stopped(own_postgresql, signal.SIGINT):
            statuses = [opened.store(one) for one in instances]
            assert statuses == [0] * 5 + [OUT_OF_RESOURCES] * 7
        refused = instances[5:]
        wait_for(lambda: opened.store(refused[0]) == 0, 60, "room for more")
        # Until then there may be room for no more than were in the line that is done with.
        wait_for(lambda: "database.back" in said(node), 60, "the database")
        assert [opened.store(one) for one in refused] == [0] * 7
    assert_caught_up(node, {one.sop_instance_uid: sha256(one) for one in instances})


def test_a_node_starts_and_receives_without_its_database(
    own_postgresql: OwnPostgresql, start_receiver: Any
) -> None:
    """Killed while the database is away, it comes back, and nothing that waits is lost."""
    node = start_receiver(database_url=own_postgresql.database())
    instances = [image("survivor", number, n_bytes=20_000) for number in range(40)]
    with stopped(own_postgresql, signal.SIGQUIT):
        opened = RawAssociation(node.port, CONTEXTS, timeout=60)
        assert [opened.store(one) for one in instances[:30]] == [0] * 30
        node.kill_everything()
        opened.close()
        node.start("scp")
        with RawAssociation(node.port, CONTEXTS, timeout=60) as opened:
            assert [opened.store(one) for one in instances[30:]] == [0] * 10
    acknowledged = {one.sop_instance_uid: sha256(one) for one in instances}
    assert_caught_up(node, acknowledged)


def test_duplicates_while_the_database_is_away(
    own_postgresql: OwnPostgresql, start_receiver: Any
) -> None:
    """Equal bytes stay one instance and other bytes another one, whenever they came."""
    node = start_receiver(database_url=own_postgresql.database())
    before, same, other = image("a"), image("b"), image("b", pixels="others")
    with RawAssociation(node.port, CONTEXTS, timeout=60) as opened:
        assert opened.store(before) == 0
        with stopped(own_postgresql, signal.SIGINT):
            assert [opened.store(one) for one in (before, same, same, other, same)] == [0] * 5
        wait_for(lambda: "database.back" in said(node), 60, "the database")
        assert [opened.store(one) for one in (before, same, other)] == [0] * 3
    rows = node.query("SELECT sop_instance_uid, revision, sha256 FROM instance ORDER BY 1, 2")
    assert sorted(rows) == sorted(
        (one.sop_instance_uid, revision, sha256(one))
        for one, revision in ((before, 0), (same, 0), (other, 1))
    )
    assert_nothing_besides(node)


@pytest.mark.slow
def test_killed_while_it_catches_up(own_postgresql: OwnPostgresql, start_receiver: Any) -> None:
    """What was indexed before the kill comes again from the backlog, and stays one row each."""
    node = start_receiver(database_url=own_postgresql.database())
    with stopped(own_postgresql, signal.SIGINT):
        with Senders(node.port, 8, tiny, per_sender=400) as senders:
            senders.join()
        node.kill_everything()
    moments = random.Random(3)
    for _ in range(10):
        node.start("scp")
        time.sleep(moments.uniform(0, 0.4))
        node.kill_everything()
    n_rows = node.query("SELECT COUNT(*) FROM instance")[0][0]
    print(f"{n_rows} of {len(senders.acknowledged)} rows after ten kills")
    node.start("scp")
    wait_until_indexed(node, senders.acknowledged)
    assert_kept(node, senders.acknowledged)
    assert_nothing_besides(node)
    # A row is there before its line is done with.
    wait_for(lambda: not list((node.data / "unindexed").iterdir()), 60, "the end of the backlog")


def tiny(sender: int, number: int) -> Instance:
    return image(sender, number, n_bytes=600, study=sender, series=sender)
