"""The fair write lock: writers of several processes take turns, and a killed one frees it."""

from __future__ import annotations

import errno
import gc
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
from db.errors import DatabaseSettingsError
from db.write_lock import FairConnection

WRITER = """
import sys, time
from db import create_engine
import sqlalchemy as sa
engine = create_engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
count = n_all = 0
while n_all < int(sys.argv[2]):
    with engine.begin() as connection:
        written = {"who": sys.argv[3]}
        n_all = connection.execute(
            sa.text("INSERT INTO t (who) VALUES (:who)"), written
        ).lastrowid
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


def start(url: str, n_rows: int, who: int) -> subprocess.Popen[str]:
    """Start a process that writes, once it is told to, until there are so many rows."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(n_rows), str(who)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_saturated_writers_take_turns(url: str) -> None:
    writers = [start(url, 1000, who) for who in range(4)]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    # They begin and end together: one that is alone has all turns.
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    counts = [int(writer.communicate(timeout=120)[0]) for writer in writers]

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
    assert time.monotonic() - begun < 25  # no time-out of 30 s was waited for
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
        self._path = f"{sa.make_url(url).database}-wal"
        monkeypatch.setattr(os, "fdatasync", self.sync)

    def sync(self, descriptor: int) -> None:
        assert str(Path(f"/proc/self/fd/{descriptor}").readlink()) == self._path
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
    assert log.seen[-1] == 6
    log.seen.clear()
    raw = engine.raw_connection()
    for statement in ("BEGIN", "CREATE TABLE v (w)", "COMMIT", "-- a comment\nCREATE TABLE w (x)"):
        raw.driver_connection.execute(statement)
    assert log.seen == [6, 6]
    raw.close()
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


def rows_without_the_log(url: str) -> list[str]:
    """What the database file itself holds."""
    path = Path(str(sa.make_url(url).database))
    alone = path.with_name("alone.sqlite")
    alone.write_bytes(path.read_bytes())
    with sqlite3.connect(alone) as connection:
        rows = [who for (who,) in connection.execute("SELECT who FROM t")]
    connection.close()
    alone.unlink()
    return rows


def insert(engine: sa.Engine, who: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (:who)"), {"who": who})


def test_behind_a_log_that_failed_to_be_synced_nothing_is_acknowledged(url: str, log: Log) -> None:
    """Linux takes for written what the disk has refused once: a hole in the log would stay."""
    engine = create_engine(url)
    insert(engine, "a")
    log.fails = True
    with pytest.raises(sa.exc.OperationalError, match="disk I/O error"):
        insert(engine, "b")
    log.fails = False
    # A second connection and a second process are told, too.
    other = create_engine(url)
    with sqlite3.connect(str(engine.url.database)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT COUNT(*) FROM t").fetchone() == (2,)
        other.dispose()
        program = (
            "import sys, sqlalchemy as sa\nfrom db import create_engine\n"
            "try:\n"
            "    with create_engine(sys.argv[1], wait_seconds=0.2).begin() as connection:\n"
            "        connection.execute(sa.text(\"INSERT INTO t VALUES ('c')\"))\n"
            "except sa.exc.OperationalError as error:\n"
            "    sys.exit(3 if 'readers hold the log' in str(error) else 4)\n"
        )
        command = [sys.executable, "-c", program, url]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        assert subprocess.run(command, env=environment, check=False).returncode == 3
    reader.close()
    insert(engine, "d")
    # In the database, on disk, before the log went on.
    assert rows_without_the_log(url) == ["a", "b"]
    assert (Path(f"{engine.url.database}.lock")).stat().st_size == 0
    insert(engine, "e")
    assert rows_without_the_log(url) == ["a", "b"]
    engine.dispose()


def test_a_commit_that_is_tried_again_after_a_failed_sync_is_synced(url: str, log: Log) -> None:
    raw = create_engine(url).raw_connection()
    raw.cursor().execute("INSERT INTO t VALUES ('a')")
    log.fails = True
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            raw.commit()
    raw.close()


def test_one_sync_that_succeeds_does_not_cover_another_that_failed(url: str, log: Log) -> None:
    first, second = (create_engine(url).raw_connection() for _ in range(2))
    descriptors = []
    for raw in (first, second):
        raw.cursor().execute("INSERT INTO t VALUES ('x')")
        descriptors.append(raw.driver_connection.commit_unsynced())
    log.fails = True
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        first.driver_connection.sync(descriptors[0])
    log.fails = False
    with pytest.raises(sqlite3.OperationalError, match="of an earlier part"):
        second.driver_connection.sync(descriptors[1])
    first.close()
    second.close()


@pytest.mark.parametrize("fails", [False, True])
def test_a_connection_that_is_closed_meanwhile_is_synced_all_the_same(
    url: str, log: Log, fails: bool
) -> None:
    engine = create_engine(url)
    kept = engine.connect()  # or SQLite deletes the log
    kept.execute(sa.text("SELECT * FROM t")).all()
    raw = engine.raw_connection()
    raw.cursor().execute("INSERT INTO t VALUES ('a')")
    connection = raw.driver_connection
    descriptor = connection.commit_unsynced()
    raw.invalidate()
    log.fails = fails
    if fails:
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            connection.sync(descriptor)
    else:
        connection.sync(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert Path(f"{engine.url.database}.lock").stat().st_size == fails
    log.fails = False
    kept.close()
    insert(engine, "b")  # leaves the other tests of this process a log that can be trusted
    assert Path(f"{engine.url.database}.lock").stat().st_size == 0
    engine.dispose()


def test_a_lock_file_that_someone_removed_stops_nobody(url: str, log: Log) -> None:
    engine = create_engine(url)
    insert(engine, "a")
    Path(f"{engine.url.database}.lock").unlink()
    insert(engine, "b")
    assert log.seen == [1, 2]
    engine.dispose()


def test_a_repair_that_fails_is_tried_again(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(url)
    log.fails = True
    with pytest.raises(sa.exc.OperationalError, match="disk I/O error"):
        insert(engine, "a")
    log.fails = False

    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(sa.exc.OperationalError, match="disk I/O error"):
            insert(engine, "b")
    insert(engine, "c")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30000
        rows = connection.exec_driver_sql("SELECT who FROM t").scalars().all()
    assert rows == ["a", "c"]
    engine.dispose()


def test_a_connection_that_cannot_be_made_leaves_no_descriptor(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, opened = str(sa.make_url(url).database), os.open

    def refuse(name: str, *arguments: int) -> int:
        if str(name).endswith(".lock"):
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(name, *arguments)

    gc.collect()  # what earlier tests have left would be closed meanwhile
    n_before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("db.write_lock.os.open", refuse)
        for _ in range(5):
            with pytest.raises(OSError, match="Too many open files"):
                FairConnection(database)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == n_before


def test_without_a_descriptor_nothing_is_committed(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(url)
    raw = engine.raw_connection()
    raw.cursor().execute("INSERT INTO t VALUES ('b')")
    os.close(raw.driver_connection._spare_logs.pop())

    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("db.write_lock.os.open", refuse)
        with pytest.raises(sqlite3.OperationalError, match="Too many open files"):
            raw.driver_connection.commit_unsynced()
    raw.rollback()
    assert raw.cursor().execute("SELECT COUNT(*) FROM t").fetchone() == (0,)
    assert not log.seen
    raw.close()
    engine.dispose()


@pytest.mark.parametrize("way", ["link", "uri"])
def test_a_database_of_another_name_is_synced_too(
    url: str, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sa.make_url(url).database
    monkeypatch.chdir(tmp_path)
    if way == "link":
        (tmp_path / "link").symlink_to(str(path))
        engine = create_engine(f"sqlite:///{tmp_path}/link")
    else:
        engine = create_engine(f"sqlite:///file:{path}?uri=true")
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fdatasync", lambda d: synced.append(str(Path(f"/proc/self/fd/{d}").readlink()))
    )
    insert(engine, "a")
    raw = engine.raw_connection()
    raw.cursor().execute("INSERT INTO t VALUES ('b')")
    raw.driver_connection.sync(raw.driver_connection.commit_unsynced())
    assert synced == [f"{path}-wal"] * 2
    raw.close()
    engine.dispose()
    assert {one.name for one in tmp_path.glob("*.lock")} == {"fair.sqlite.lock"}
    assert not (tmp_path / "file:").exists(), "a folder made of the letters of a URI"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file:x/a.db", r"add \?uri=true"),
        ("file:x/a.db?uri=false", r"add \?uri=true"),
        ("file::memory:", r"add \?uri=true"),
        ("file::memory:?uri=true", "processes cannot share a memory one"),
        ("file:%3Amemory%3A?uri=true", "processes cannot share a memory one"),
        ("file::memory:?cache=shared&uri=true", "processes cannot share a memory one"),
        ("file:x/a.db?mode=memory&cache=shared&uri=true", "processes cannot share a memory one"),
        ("file:/a.db?vfs=memdb&uri=true", "processes cannot share a memory one"),
        ("file:?uri=true", "processes cannot share a memory one"),
        (":memory:?uri=true", "processes cannot share a memory one"),
    ],
)
def test_a_uri_says_that_it_is_one_and_names_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatabaseSettingsError, match=said):
        create_engine(f"sqlite:///{name}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a b/x.db", "file:a b/x.db?uri=true", "file:a%20b/x.db?uri=true"])
def test_a_file_lies_where_its_name_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = create_engine(f"sqlite:///{name.replace('%', '%25')}")
    engine.raw_connection().close()
    engine.dispose()
    assert (tmp_path / "a b" / "x.db").is_file()


def test_without_a_log_sqlite_syncs_itself(tmp_path: Path) -> None:
    connection = FairConnection(str(tmp_path / "plain.sqlite"))
    connection.sync_here()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.execute("CREATE TABLE t (who)")
    connection.execute("INSERT INTO t VALUES ('a')")
    assert connection.commit_unsynced() is None
    connection.close()
