"""Which series are due, and the guard under which one is completed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from db.associations import AssociationClosing, AssociationCounts, AssociationRecord
from db.completeness import (
    SeriesInstance,
    digest,
    due,
    mark_complete,
    newest_instances,
    next_quiet,
)
from db.ingest import Ingest, InstanceRecord
from db.schema import AssociationEnd, Series

NOW = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
Put = Callable[..., None]


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def association(name: str) -> AssociationRecord:
    return AssociationRecord(name, "a", "SENDER", "PREREAD", "10.0.0.1", 104, NOW)


@pytest.fixture
def put(engine: sa.Engine) -> Put:
    """Ingest an instance."""
    ingest = Ingest(engine)

    def one(
        uid: str, series: str = "1.2", at: datetime = NOW, by: str = "as1", sha256: str = "0"
    ) -> None:
        absent: dict[str, Any] = dict.fromkeys(
            ("patient_id", "patient_name", "patient_birth_date", "patient_sex", "accession_number",
             "study_date", "study_description", "modality", "series_number", "series_description",
             "body_part", "instance_number")
        )  # fmt: skip
        ingest.add(
            InstanceRecord(
                **absent, study_instance_uid="1", series_instance_uid=series,
                sop_instance_uid=uid, sop_class_uid="1.2", transfer_syntax_uid="1.2",
                path=f"{uid}-{sha256}", size_bytes=1, sha256=sha256, received_at=at,
                association_id=by,
            )
        )  # fmt: skip

    return one


def due_series(engine: sa.Engine, now: datetime, **more: Any) -> list[str]:
    with engine.connect() as connection:
        found = due(connection, now - seconds(5), now - seconds(60), **more)
    return [one.series_instance_uid for one in found]


def test_quiet_time(engine: sa.Engine, put: Put) -> None:
    put("1.2.1", at=NOW)
    put("1.3.1", "1.3", at=NOW - seconds(4))
    assert due_series(engine, NOW) == []
    assert due_series(engine, NOW + seconds(2)) == ["1.3"]
    assert due_series(engine, NOW + seconds(5)) == ["1.3", "1.2"]
    assert due_series(engine, NOW + seconds(5), except_for=["1.3"]) == ["1.2"]
    assert due_series(engine, NOW + seconds(5), limit=1) == ["1.3"]


def test_open_associations(engine: sa.Engine, put: Put) -> None:
    ingest = Ingest(engine)
    ingest.enter(association("as1"))
    assert ingest.flush(30)
    put("1.2.1", by="as1")
    put("1.3.1", "1.3", by="as0")  # of an association that has no row, or none any more
    assert due_series(engine, NOW + seconds(10)) == ["1.3"]
    assert due_series(engine, NOW + seconds(61)) == ["1.2", "1.3"]
    ingest.leave(
        AssociationClosing(association("as1"), AssociationCounts(), NOW, AssociationEnd.LOST)
    )
    assert ingest.flush(60)
    ingest.close()
    assert due_series(engine, NOW + seconds(10)) == ["1.2", "1.3"]


def complete(engine: sa.Engine, **changes: Any) -> bool:
    with engine.begin() as connection:
        (seen,) = due(connection, NOW + seconds(100), NOW + seconds(100))
    with engine.begin() as connection:
        return mark_complete(connection, changes.get("seen", seen), "d", "{}", NOW + seconds(9))


def test_complete_once(engine: sa.Engine, put: Put) -> None:
    put("1.2.1")
    with engine.connect() as connection:
        (seen,) = due(connection, NOW + seconds(100), NOW)
    assert complete(engine)
    with engine.begin() as connection:
        assert not mark_complete(connection, seen, "d", "{}", NOW)
        row = connection.execute(sa.select(Series.__table__)).one()
    assert (row.state, row.instance_digest, row.routing) == ("complete", "d", "{}")
    assert row.completed_at == NOW + seconds(9)
    assert due_series(engine, NOW + seconds(100)) == []


def test_a_late_image_fails_the_guard_and_opens_a_complete_series(
    engine: sa.Engine, put: Put
) -> None:
    put("1.2.1")
    with engine.connect() as connection:
        (seen,) = due(connection, NOW + seconds(100), NOW)
    put("1.2.2", at=NOW + seconds(1))
    with engine.begin() as connection:
        assert not mark_complete(connection, seen, "d", "{}", NOW)
    assert complete(engine)
    put("1.2.3", at=NOW + seconds(2))
    assert due_series(engine, NOW + seconds(100)) == ["1.2"]


def test_only_one_of_many_completes(engine: sa.Engine, put: Put) -> None:
    put("1.2.1")
    with engine.connect() as connection:
        (seen,) = due(connection, NOW + seconds(100), NOW)
    won: list[bool] = []

    def compete() -> None:
        with engine.begin() as connection:
            won.append(mark_complete(connection, seen, "d", "{}", NOW))

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, False, False, True]


def test_newest_revision_of_each_instance(engine: sa.Engine, put: Put) -> None:
    put("1.2.10")
    put("1.2.9", sha256="a")
    put("1.2.9", sha256="b")
    put("1.3.1", "1.3")
    with engine.connect() as connection:
        found = newest_instances(connection, "1.2")
    assert [(one.sop_instance_uid, one.revision, one.sha256) for one in found] == [
        ("1.2.10", 0, "0"), ("1.2.9", 1, "b"),
    ]  # fmt: skip


INSTANCES = st.lists(
    st.builds(
        SeriesInstance,
        id=st.integers(1, 9),
        sop_instance_uid=st.from_regex(r"1(\.[1-9]){1,3}", fullmatch=True),
        revision=st.integers(0, 2),
        sha256=st.sampled_from(["a" * 64, "b" * 64]),
        path=st.just("p"),
    ),
    unique_by=lambda one: one.sop_instance_uid,
    max_size=6,
)


@given(INSTANCES, st.randoms())
def test_the_digest_knows_no_order(instances: list[SeriesInstance], random: Any) -> None:
    shuffled = list(instances)
    random.shuffle(shuffled)
    assert digest(shuffled) == digest(instances)
    if instances:
        assert digest(instances[1:]) != digest(instances)


@given(INSTANCES, INSTANCES)
def test_the_digest_tells_sets_apart(
    one: list[SeriesInstance], other: list[SeriesInstance]
) -> None:
    def named(instances: list[SeriesInstance]) -> set[tuple[str, str]]:
        return {(i.sop_instance_uid, i.sha256 if i.revision else "") for i in instances}

    assert (digest(one) == digest(other)) == (named(one) == named(other))


def test_the_next_quiet_series_is_the_first_open_one_that_is_not_quiet(
    engine: sa.Engine, put: Put
) -> None:
    def after(moment: datetime) -> datetime | None:
        with engine.connect() as connection:
            return next_quiet(connection, moment)

    assert after(NOW) is None
    put("1", "1.1", NOW)
    put("2", "1.2", NOW + seconds(1))
    put("3", "1.3", NOW + seconds(2))
    assert after(NOW - seconds(1)) == NOW
    assert after(NOW) == NOW + seconds(1)
    with engine.begin() as connection:
        connection.execute(
            sa.update(Series)
            .where(Series.series_instance_uid == "1.2")
            .values(state="complete", completed_at=NOW)
        )
    assert after(NOW) == NOW + seconds(2)
    assert after(NOW + seconds(2)) is None
