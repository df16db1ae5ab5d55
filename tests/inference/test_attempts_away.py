"""The end of an analysis waits for a database that is away, and keeps its code."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from db import create_engine
from db.query import rows_of
from db.worker_events import WorkerEventRecord, add
from inference import attempts as attempts_module
from inference.attempts import Attempts
from inference.engines import DeviceLostError
from inference.engines.engine_events import Event
from inference.event_book import EventBook
from inference.job_states import JobState, Priority
from inference.jobs import JobQueue
from inference.scheduling import DeviceQueue
from inference.watchdog import Watchdog


class Away:
    """A database that nobody else can write to: another program holds what they need."""

    def __init__(self, engine: sa.Engine, table: str) -> None:
        self._engine = engine
        self._table = table
        self._close: Callable[[], None] | None = None

    def begin(self) -> None:
        if self._engine.dialect.name == "sqlite":
            other = sqlite3.connect(str(self._engine.url.database), isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            self._close = other.close
            return
        connection = self._engine.connect()
        connection.execute(sa.text(f"LOCK TABLE {self._table} IN ACCESS EXCLUSIVE MODE"))
        self._close = connection.close

    def end(self) -> None:
        if self._close is not None:
            self._close()
            self._close = None


class FailingAnalyst:
    """Whose analyses fail, and whose failures go into the database, after two tries."""

    def __init__(self, engine: sa.Engine, error: Exception, away: Away) -> None:
        self._engine = engine
        self._error = error
        self._away = away
        self.attempts = 0
        self.tries = 0

    def analyse(self, _analysis_id: str) -> None:
        self.attempts += 1
        if self.attempts == 3 or isinstance(self._error, DeviceLostError):
            self._away.begin()
        raise self._error

    def fail(self, analysis_id: str, code: str, reason: str) -> None:
        self.tries += 1
        if self.tries == 3:
            self._away.end()
        with self._engine.begin() as connection:
            said = WorkerEventRecord(datetime.now(UTC), "w", code, reason, analysis_id=analysis_id)
            add(connection, [said])


class Book(EventBook):
    """Counts how often the end of an analysis on a lost device is tried."""

    tries = 0
    at_third: Callable[[], None]

    def lose(self, engine: str, error: Exception) -> None:
        self.tries += 1
        if self.tries == 3:
            self.at_third()
        super().lose(engine, error)

    def tell(self, event: Event) -> None:
        super().tell(event)


@pytest.fixture
def facts(jobs_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    """A database that is waited for only shortly."""
    monkeypatch.setattr(attempts_module, "_RETRY_SECONDS", 0.01)
    made = create_engine(jobs_engine.url.render_as_string(hide_password=False), wait_seconds=0.2)
    yield made
    made.dispose()


def attempts_of(engine: sa.Engine, analyst: Any, queue: JobQueue, book: EventBook) -> Attempts:
    return Attempts(engine, analyst, queue, DeviceQueue(), Watchdog(), book)


def runs(engine: sa.Engine) -> JobQueue:
    """Enqueue an analysis, and say that this worker runs it."""
    queue = JobQueue(engine)
    schema = "" if engine.dialect.name == "sqlite" else "dbos."
    with engine.begin() as connection:
        queue.enqueue(connection, "one", Priority.ROUTINE)
        connection.execute(
            sa.text(f"UPDATE {schema}workflow_status SET status = 'PENDING', executor_id = 'w'")
        )
    return queue


def test_a_failure_is_stored_with_its_code_once_the_database_is_back(facts: sa.Engine) -> None:
    away = Away(facts, "worker_event")
    analyst = FailingAnalyst(facts, ValueError("odd"), away)
    book = EventBook(facts, "w", "cpu")
    attempts_of(facts, analyst, runs(facts), book).run("one")
    assert (analyst.attempts, analyst.tries) == (3, 3)
    with facts.connect() as connection:
        (stored,) = rows_of(connection, "v_worker_events", order_by="event_id")
    assert (stored["analysis_id"], stored["step"]) == ("one", "error")
    assert stored["reason"].startswith("ValueError at test_attempts_away.py")


def test_what_lies_on_a_lost_gpu_is_queued_once_the_database_is_back(facts: sa.Engine) -> None:
    queue = runs(facts)
    away = Away(facts, "dbos.workflow_status")
    book = Book(facts, "w", "cuda:0")
    book.at_third = away.end
    analyst = FailingAnalyst(facts, DeviceLostError("fallen off the bus"), away)
    attempts_of(facts, analyst, queue, book).run("one")
    assert (analyst.attempts, analyst.tries, book.tries) == (1, 0, 3)
    states = sorted(job.state for job in queue.jobs(["one"]))
    assert states == sorted([JobState.RUNNING, JobState.QUEUED])


def test_what_was_queued_though_the_database_could_not_say_so_is_queued_once(
    facts: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = runs(facts)
    plain = queue.enqueue_again

    def lost(connection: sa.Connection, *arguments: Any) -> None:
        plain(connection, *arguments)
        connection.commit()
        raise sa.exc.OperationalError("COMMIT", {}, Exception("away"))

    monkeypatch.setattr(queue, "enqueue_again", lost)
    analyst = FailingAnalyst(facts, DeviceLostError("gone"), Away(facts, "analysis"))
    analyst._away.begin = lambda: None  # type: ignore[method-assign]
    attempts_of(facts, analyst, queue, EventBook(facts, "w", "cuda:0")).run("one")
    assert len(queue.jobs(["one"])) == 2


def test_what_lies_on_a_lost_gpu_is_queued_also_where_all_that_ran_there_is_at_once(
    facts: sa.Engine,
) -> None:
    """Each has one connection then, and no second one to wait for."""
    queue = runs(facts)
    url = facts.url.render_as_string(hide_password=False)
    engine = create_engine(url, wait_seconds=0.2, pool_size=1)
    queue_of_one = JobQueue(engine)
    book = Book(engine, "w", "cuda:0")
    analyst = FailingAnalyst(engine, DeviceLostError("gone"), Away(engine, "analysis"))
    analyst._away.begin = lambda: None  # type: ignore[method-assign]
    attempts_of(engine, analyst, queue_of_one, book).run("one")
    assert book.tries == 1
    assert len(queue.jobs(["one"])) == 2
    engine.dispose()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_database_that_goes_away_at_the_last_attempt_is_no_failure(
    facts: sa.Engine,
) -> None:
    away = sa.exc.OperationalError("SELECT", {}, Exception("away"))
    errors: list[Exception | None] = [ValueError("a"), ValueError("b"), away, away, None]

    class Analyst(FailingAnalyst):
        def analyse(self, _analysis_id: str) -> None:
            self.attempts += 1
            if (error := errors[self.attempts - 1]) is not None:
                raise error

    analyst = Analyst(facts, ValueError("x"), Away(facts, "analysis"))
    attempts_of(facts, analyst, runs(facts), EventBook(facts, "w", "cpu")).run("one")
    assert (analyst.attempts, analyst.tries) == (5, 0)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_no_waiting_mends_is_not_waited_for(facts: sa.Engine) -> None:
    class Analyst(FailingAnalyst):
        def analyse(self, _analysis_id: str) -> None:
            raise ValueError("odd")

        def fail(self, _analysis_id: str, _code: str, _reason: str) -> None:
            self.tries += 1
            raise sa.exc.IntegrityError("UPDATE", {}, sqlite3.IntegrityError("no"))

    analyst = Analyst(facts, ValueError("x"), Away(facts, "analysis"))
    with pytest.raises(sa.exc.IntegrityError):
        attempts_of(facts, analyst, runs(facts), EventBook(facts, "w", "cpu")).run("one")
    assert analyst.tries == 1
