"""The fair write lock: writers of several processes take turns, and a killed one frees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def test_every_connection_is_durable_at_commit(url: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30000,
    }
