"""What happens to a worker is in the log at once, and in the database when that is there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from db import create_engine
from db.migrate import upgrade
from db.query import rows_of
from db.worker_events import WorkerStep
from inference.engines.engine_events import Event, Step
from inference.event_book import EventBook

READ = sa.text("SELECT reason FROM v_worker_events ORDER BY event_id")


def test_every_step_of_a_ladder_is_one_of_a_worker() -> None:
    assert {str(step) for step in Step} < {str(step) for step in WorkerStep}


def test_events_wait_for_a_database_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "facts.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    counted: Counter[str] = Counter()
    book = EventBook(engine, "host-cuda0", "cuda:0", lambda step: counted.update([step]))
    book.under_way = lambda: "a" * 64
    with capture_logs() as logs:
        book.tell(Event(Step.SMALLER, "torch-cuda", "cuda:0", 8, "no memory"))
    assert [(one["event"], one["log_level"]) for one in logs] == [
        ("engine.smaller_batch", "warning")
    ]
    book.note(WorkerStep.RECYCLED, "grown")
    assert book.lost is None
    with pytest.raises(sa.exc.OperationalError):  # no tables yet
        book.flush()
    upgrade(engine)
    book.flush()
    book.flush()
    with engine.connect() as connection:
        recycled, smaller = rows_of(connection, "v_worker_events", order_by="event_id")
    assert (smaller["step"], smaller["n_rows"], smaller["analysis_id"]) == (
        "smaller_batch", 8, "a" * 64,
    )  # fmt: skip
    assert (recycled["step"], recycled["engine"], recycled["device"]) == (
        "recycled", None, "cuda:0",
    )  # fmt: skip
    assert counted == {"smaller_batch": 1, "recycled": 1}
    engine.dispose()


def test_a_lost_device_is_remembered_and_critical(tmp_path: Path) -> None:
    book = EventBook(create_engine(f"sqlite:///{tmp_path / 'x'}"), "w", "cuda:0")
    with capture_logs() as logs:
        book.tell(Event(Step.DEVICE_LOST, "torch-cuda", "cuda:0", 4, "fallen off the bus"))
    assert logs[0]["log_level"] == "critical"
    assert book.lost == "fallen off the bus"


def test_what_comes_while_a_thousand_are_written_is_neither_lost_nor_written_twice(
    tmp_path: Path,
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'facts.sqlite'}")
    upgrade(engine)
    book = EventBook(engine, "w", "cpu")
    for number in range(1000):
        book.note(WorkerStep.SMALLER, f"early {number}")
    late = []

    @sa.event.listens_for(engine, "commit")
    def another_thread(_connection: sa.Connection) -> None:
        if not late:
            late.extend(range(700))
            for number in late:
                book.note(WorkerStep.SMALLER, f"late {number}")

    book.flush()
    book.flush()
    with engine.connect() as connection:
        said = connection.execute(READ).scalars().all()
    assert said == [f"early {n}" for n in range(1000)] + [f"late {n}" for n in range(700)]
    engine.dispose()


def test_of_a_database_that_is_away_for_long_the_latest_are_kept(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'facts.sqlite'}")
    book = EventBook(engine, "w", "cpu")
    for number in range(1300):
        book.note(WorkerStep.SMALLER, str(number))
        if number % 500 == 0:
            with pytest.raises(sa.exc.OperationalError):
                book.flush()
    upgrade(engine)
    book.flush()
    with engine.connect() as connection:
        said = connection.execute(READ).scalars().all()
    assert said == [str(number) for number in range(300, 1300)]
    engine.dispose()
