"""The fair write lock: writers of several processes take turns, and a killed one frees it."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest
import sqlalchemy as sa

from db import create_engine

WRITER = """
import sys, time
from db import create_engine
import sqlalchemy as sa
engine = create_engine(sys.argv[1])
end = time.monotonic() + float(sys.argv[2])
count = 0
while time.monotonic() < end:
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t (who) VALUES (:who)"), {"who": sys.argv[3]})
        time.sleep(0.002)
    count += 1
print(count)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'fair.sqlite'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (who TEXT)"))
    engine.dispose()
    return url


def start(url: str, seconds: float, who: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(seconds), str(who)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_saturated_writers_take_turns(url: str) -> None:
    writers = [start(url, 3.0, who) for who in range(4)]
    counts = [int(writer.communicate(timeout=60)[0]) for writer in writers]

    # Without the lock one of four gets nothing for seconds on end.
    assert min(counts) > 0.5 * max(counts), counts
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT COUNT(*) FROM t")).scalar() == sum(counts)
    engine.dispose()


def test_a_killed_holder_frees_the_lock(url: str) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time, sqlalchemy as sa\nfrom db import create_engine\n"
            "c = create_engine(sys.argv[1]).connect()\n"
            "c.execute(sa.text(\"INSERT INTO t VALUES ('held')\"))\n"
            "print('holding', flush=True)\ntime.sleep(60)",
            url,
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    begun = time.monotonic()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t VALUES ('next')"))
    assert time.monotonic() - begun < 5
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT who FROM t")).scalars().all() == ["next"]
    engine.dispose()


def test_reading_needs_no_lock(url: str) -> None:
    engine = create_engine(url)
    with engine.connect() as writer, engine.connect() as reader:
        writer.execute(sa.text("INSERT INTO t VALUES ('x')"))
        assert reader.execute(sa.text("SELECT COUNT(*) FROM t")).scalar() == 0
        writer.rollback()
    engine.dispose()


def test_every_connection_has_the_settings(url: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 1,  # the connection syncs each commit itself
        "foreign_keys": 1,
        "busy_timeout": 30000,
    }


class Log:
    """Takes the place of `os.fdatasync`; says what was seen when the log was synced."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[int] = []
        self.fails = False
        self._sync = os.fdatasync
        self._engine = create_engine(url)
        self._path = f"{sa.make_url(url).database}-wal"
        monkeypatch.setattr(os, "fdatasync", self.sync)

    def sync(self, descriptor: int) -> None:
        assert os.path.sameopenfile(descriptor, os.open(self._path, os.O_RDONLY))
        # Another connection writes meanwhile.
        with sqlite3.connect(self._path.removesuffix("-wal"), timeout=0) as other:
            other.execute("UPDATE t SET who = who")
            self.seen.append(other.execute("SELECT COUNT(*) FROM t").fetchone()[0])
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        self._sync(descriptor)


@pytest.fixture
def log(url: str, monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(url, monkeypatch)


def test_whatever_writes_is_synced_when_others_may_write(url: str, log: Log) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t VALUES ('a')"))
        connection.execute(sa.text("INSERT INTO t VALUES ('b')"))
        assert not log.seen
    assert log.seen == [2]
    with engine.begin() as connection:  # its beginning does not tell that it writes
        connection.exec_driver_sql("WITH c AS (SELECT 'c') INSERT INTO t SELECT * FROM c")
    assert log.seen == [2, 3]

    raw = engine.raw_connection()
    raw.driver_connection.execute("CREATE TABLE u (v)")
    raw.driver_connection.executescript("INSERT INTO t VALUES ('d'); INSERT INTO t VALUES ('e')")
    assert log.seen == [2, 3, 3, 5]
    raw.close()
    with engine.connect() as connection:
        autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
        autocommit.execute(sa.text("INSERT INTO t VALUES ('f')"))
    assert log.seen == [2, 3, 3, 5, 6]
    engine.dispose()


def test_what_writes_nothing_syncs_nothing(url: str, log: Log) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT * FROM t")).all()
        connection.commit()
        connection.execute(sa.text("INSERT INTO t VALUES ('x')"))
        connection.rollback()
        connection.execute(sa.text("SELECT * FROM t")).all()
    assert not log.seen
    engine.dispose()


def test_a_log_that_cannot_be_synced_fails_its_commit_alone(url: str, log: Log) -> None:
    engine = create_engine(url)
    log.fails = True
    with pytest.raises(sa.exc.OperationalError, match="disk I/O error"), engine.begin() as first:
        first.execute(sa.text("INSERT INTO t VALUES ('x')"))
    log.fails = False
    with engine.begin() as second:
        second.execute(sa.text("INSERT INTO t VALUES ('y')"))
    assert log.seen == [1, 2]
    engine.dispose()


def test_without_a_descriptor_the_commit_is_synced_all_the_same(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:  # opens the log
        connection.execute(sa.text("INSERT INTO t VALUES ('a')"))
    raw = engine.raw_connection()
    raw.cursor().execute("INSERT INTO t VALUES ('b')")

    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("db.write_lock.os.open", refuse)
        patch.setattr(os, "fdatasync", lambda _: log.seen.append(-1))
        assert raw.driver_connection.commit_unsynced() is None
    assert log.seen == [1, -1]
    raw.close()
    engine.dispose()
