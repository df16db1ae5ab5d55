"""Which errors of a database pass by themselves, as real databases raise them."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from db import create_engine
from db.faults import is_away


@pytest.fixture
def facts(database_url: str) -> Iterator[sa.Engine]:
    made = create_engine(database_url, pool_size=1, wait_seconds=0.2)
    with made.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE t (id INTEGER PRIMARY KEY, word VARCHAR NOT NULL)")
        )
    yield made
    made.dispose()


def raised(act: Callable[[], object]) -> Exception:
    try:
        act()
    except Exception as error:  # what it is, is what is asked for
        return error
    raise AssertionError("it went well")


def write(engine: sa.Engine, **row: object) -> Exception:
    def act() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (:id, :word)"), row)

    return raised(act)


def test_faults_of_a_row_are_not_waited_for(facts: sa.Engine) -> None:
    nothing = write(facts, id=1, word=None)
    assert isinstance(nothing, sa.exc.IntegrityError)
    assert not is_away(nothing)
    for odd in ("\ud800", object()):
        error = write(facts, id=2, word=odd)
        assert not is_away(error), error
    if facts.dialect.name == "postgresql":
        assert not is_away(write(facts, id=3, word="\0"))
        # More than an index takes, which PostgreSQL calls operational.
        with facts.begin() as connection:
            connection.execute(sa.text("CREATE INDEX i ON t (word)"))
        long = write(facts, id=4, word=secrets.token_hex(20_000))
        assert isinstance(long, sa.exc.OperationalError)
        assert not is_away(long)
    assert not is_away(ValueError("odd"))


def test_a_pool_without_a_connection_is_waited_for(facts: sa.Engine) -> None:
    with facts.connect():
        error = write(facts, id=1, word="a")
    assert isinstance(error, sa.exc.TimeoutError)
    assert is_away(error)


def test_a_locked_full_or_missing_sqlite_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    engine = create_engine(f"sqlite:///{path}", wait_seconds=0.1)
    assert is_away(write(engine, id=1, word="a"))  # nobody has made its tables yet
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (id INTEGER, word VARCHAR)"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    locked = write(engine, id=1, word="a")
    other.close()
    assert "locked" in str(locked)
    assert is_away(locked)

    def full() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text("PRAGMA max_page_count = 3"))
            connection.execute(sa.text("INSERT INTO t VALUES (1, :word)"), {"word": "x" * 100_000})

    error = raised(full)
    assert "full" in str(error)
    assert is_away(error)
    engine.dispose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_that_was_cut_is_waited_for(facts: sa.Engine) -> None:
    def cut() -> None:
        with facts.connect() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    assert is_away(raised(cut))
