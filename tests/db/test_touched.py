"""Study and series are not written for every image, and yet no image comes unnoticed."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from records import RECORD, count

from db.completeness import due, mark_complete
from db.ingest import Added, Ingest, InstanceRecord
from db.schema import Instance, Series
from db.touched import TouchedSeries


def image(number: int, seconds_ago: float = 0.0, **changes: object) -> InstanceRecord:
    received_at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    uid = f"1.2.3.1.{number}"
    return replace(RECORD, sop_instance_uid=uid, received_at=received_at, **changes)


def series(engine: sa.Engine) -> sa.Row:
    with engine.connect() as connection:
        return connection.execute(
            sa.text(
                "SELECT state, series.last_received_at, has_conflict "
                "FROM series JOIN study USING (study_instance_uid)"
            )
        ).one()


def test_a_series_just_written_is_written_again_on_postgresql_alone(engine: sa.Engine) -> None:
    ingest = Ingest(engine, touch_seconds=30)
    ingest.add(image(1))
    before = series(engine)
    for number in range(2, 6):
        assert ingest.add(image(number)) == Added.NEW
    assert (series(engine) == before) == (engine.dialect.name == "sqlite")
    assert count(engine, "instance") == 5


def test_after_the_time_it_is_written_again(engine: sa.Engine) -> None:
    ingest = Ingest(engine, touch_seconds=30)
    ingest.add(image(1, seconds_ago=31))
    before = series(engine)
    ingest.add(image(2))
    assert series(engine).last_received_at > before.last_received_at


def test_a_series_completed_meanwhile_is_open_again(engine: sa.Engine) -> None:
    ingest = Ingest(engine, touch_seconds=30)
    ingest.add(image(1))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE series SET state = 'complete'"))
    ingest.add(image(2))
    assert series(engine).state == "open"


def test_a_series_removed_meanwhile_comes_back(engine: sa.Engine) -> None:
    ingest = Ingest(engine, touch_seconds=30)
    ingest.add(image(1))
    with engine.begin() as connection:
        for table in ("instance", "series", "study"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    assert ingest.add(image(2)) == Added.NEW
    assert ingest.add(image(3)) == Added.NEW
    assert series(engine).state == "open"


def test_an_image_of_another_patient_is_seen(engine: sa.Engine) -> None:
    ingest = Ingest(engine, touch_seconds=30)
    ingest.add(image(1))
    ingest.add(image(2, patient_id="P-2"))
    assert series(engine).has_conflict


def test_who_waited_long_for_the_database_writes_everything(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The series may have been completed while the image waited for the write lock."""
    ingest = Ingest(engine, touch_seconds=30)
    ingest.add(image(1))
    before = series(engine)
    monkeypatch.setattr(TouchedSeries, "is_outdated", lambda *_: True)
    ingest.add(image(2))
    assert series(engine).last_received_at > before.last_received_at


def test_no_image_comes_between_the_look_at_a_series_and_its_completion(
    engine: sa.Engine,
) -> None:
    quiet = timedelta(seconds=5)
    ingest = Ingest(engine, touch_seconds=1.25)
    ingest.add(image(1, seconds_ago=6))
    now = datetime.now(UTC)
    with engine.connect() as connection:
        (seen,) = due(connection, now - quiet, now - timedelta(minutes=1))
    ingest.add(image(2))
    with engine.begin() as connection:
        assert not mark_complete(connection, seen, "digest", "", now)


def note(touched: TouchedSeries, *records: InstanceRecord) -> None:
    touched.written(records)
    touched.commit()


def test_a_clock_that_was_set_back_covers_nothing() -> None:
    touched = TouchedSeries(30)
    note(touched, image(1, seconds_ago=-60))
    assert touched.split([image(2)])[0] == []
    touched.forget()
    note(touched, image(1))
    assert len(touched.split([image(2)])[0]) == 1


def test_what_was_not_written_makes_nothing_younger() -> None:
    """Over many transactions that wrote the series no more, its time would be left behind."""
    touched = TouchedSeries(30)
    note(touched, image(1, seconds_ago=29.9))
    for number in range(2, 9):
        covered, others = touched.split([image(number)])
        touched.written(others)
        time.sleep(0.03)
        touched.commit()
        if not covered:
            return
    raise AssertionError("the series counts as just written for ever")


def test_under_load_the_time_is_never_much_behind(engine: sa.Engine) -> None:
    window, numbers = 0.1, itertools.count()
    ingest, enough = Ingest(engine, touch_seconds=window), threading.Event()

    def store() -> None:
        while not enough.is_set():
            ingest.add(image(next(numbers)))

    # Behind the images that are there: how long one takes until it is, is the machine's affair.
    newest = sa.select(sa.func.max(Instance.received_at)).scalar_subquery()
    behind = []
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(store) for _ in range(4)]
        try:
            while len(behind) < 50 and not any(one.done() for one in running):
                time.sleep(0.05)
                with engine.connect() as connection:
                    found = connection.execute(sa.select(Series.last_received_at, newest)).first()
                if found is not None:
                    behind.append((found[1] - found[0]).total_seconds())
        finally:
            enough.set()
        for one in running:
            one.result()
    assert sorted(behind)[len(behind) // 2] < 2 * window, behind


def test_a_revision_opens_a_completed_series(engine: sa.Engine) -> None:
    ingest = Ingest(engine, touch_seconds=30)
    ingest.add(image(1))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE series SET state = 'complete'"))
    assert ingest.add(image(1, sha256="b" * 64, path="images/00/b.dcm")) == Added.REVISED
    assert series(engine).state == "open"


def test_more_series_than_are_remembered_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.touched._MOST", 2)
    touched = TouchedSeries(30)
    for number in range(10):
        note(touched, image(1, series_instance_uid=f"1.2.{number}"))
    assert len(touched.split([image(2, series_instance_uid="1.2.9")])[0]) == 1
    assert touched.split([image(2, series_instance_uid="1.2.0")])[0] == []
