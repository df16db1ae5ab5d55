"""Rows that are made again come out as when they were received."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta
from itertools import permutations

import pytest
import sqlalchemy as sa
from records import RECORD, rows

from db.conflicts import number_by_arrival
from db.errors import DatabaseAwayError, DatabaseError
from db.ingest import Ingest
from db.rebuild import Placed, open_again, rebuild

NOON = RECORD.received_at
PLACED = Placed('{"routes": [], "reasons": ["rebuilt"]}', NOON + timedelta(days=1))


@pytest.fixture
def ingest(engine: sa.Engine) -> Iterator[Ingest]:
    made = Ingest(engine)
    yield made
    made.close()


def test_a_rebuilt_series_is_complete_and_a_known_one_keeps_its_state(
    engine: sa.Engine, ingest: Ingest
) -> None:
    ingest.add(replace(RECORD, sop_instance_uid="1.9"))
    other = replace(RECORD, series_instance_uid="1.2.3.2", sop_instance_uid="1.8", path="b")

    made = rebuild(engine, [RECORD, other], PLACED)

    assert made == {RECORD.path, "b"}
    series = rows(engine, "SELECT state, routing FROM series ORDER BY series_instance_uid")
    assert series == [("open", None), ("complete", PLACED.routing)]
    assert open_again(engine, PLACED.routing) == 1
    assert rows(engine, "SELECT DISTINCT state, routing, completed_at FROM series") == [
        ("open", None, None)
    ]


def test_rebuilding_what_is_there_changes_nothing(engine: sa.Engine, ingest: Ingest) -> None:
    ingest.add(RECORD)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE series SET state = 'complete', routing = 'x'"))
    before = [rows(engine, f"SELECT * FROM {table}") for table in ("study", "series", "instance")]

    assert rebuild(engine, [RECORD], PLACED) == frozenset()
    after = [rows(engine, f"SELECT * FROM {table}") for table in ("study", "series", "instance")]
    assert after == before


def test_times_of_study_and_series_only_widen(engine: sa.Engine, ingest: Ingest) -> None:
    hour = timedelta(hours=1)
    ingest.add(replace(RECORD, sop_instance_uid="1.1"))
    ingest.add(replace(RECORD, sop_instance_uid="1.2", received_at=NOON + 3 * hour))
    late = replace(RECORD, sop_instance_uid="1.3", received_at=NOON + 2 * hour)
    early = replace(RECORD, sop_instance_uid="1.4", received_at=NOON - hour)
    rebuild(engine, [early, late], PLACED)

    with engine.connect() as connection:
        study = connection.execute(
            sa.text("SELECT received_at, last_received_at FROM study").columns(
                received_at=sa.DateTime, last_received_at=sa.DateTime
            )
        ).one()
    assert [time.replace(tzinfo=UTC) for time in study] == [NOON - hour, NOON + 3 * hour]


def test_revisions_are_numbered_as_they_were_received(engine: sa.Engine, ingest: Ingest) -> None:
    hour = timedelta(hours=1)
    revisions = [
        replace(
            RECORD, sha256=f"{number:064x}", path=f"p{number}", received_at=NOON + number * hour
        )
        for number in range(4)
    ]
    for number in (3, 1):  # the rows of 0 and 2 were lost, and nobody closed the gaps
        ingest.add(revisions[number])
    assert not rows(engine, "SELECT path FROM instance WHERE path IN ('p0', 'p2')")

    made = rebuild(engine, [revisions[0], revisions[2]], PLACED)

    assert made == {"p0", "p2"}
    found = rows(engine, "SELECT revision, path FROM instance ORDER BY revision")
    assert found == [(0, "p0"), (1, "p1"), (2, "p2"), (3, "p3")]
    assert rows(engine, "SELECT count(*) FROM study WHERE has_conflict") == [(1,)]


def test_revisions_in_any_order_get_their_numbers(engine: sa.Engine, ingest: Ingest) -> None:
    for serial, order in enumerate(permutations(range(4))):
        for number in order:  # the numbers that they get first say nothing of their times
            received_at = NOON + timedelta(hours=number)
            ingest.add(
                replace(
                    RECORD,
                    sop_instance_uid=f"1.2.{serial}",
                    sha256=f"{number:064x}",
                    path=f"p{number}",
                    received_at=received_at,
                )
            )
    with engine.begin() as connection:
        number_by_arrival(connection, [f"1.2.{serial}" for serial in range(24)])

    assert rows(engine, "SELECT DISTINCT revision, path FROM instance ORDER BY revision") == [
        (number, f"p{number}") for number in range(4)
    ]


def test_a_lost_first_revision_makes_no_second_row_of_equal_bytes(
    engine: sa.Engine, ingest: Ingest
) -> None:
    second = replace(RECORD, sha256="b" * 64, path="p1", received_at=NOON + timedelta(hours=1))
    ingest.add(RECORD)
    ingest.add(second)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM instance WHERE revision = 0"))

    assert rebuild(engine, [RECORD, second], PLACED) == {RECORD.path}
    found = rows(engine, "SELECT revision, path FROM instance ORDER BY revision")
    assert found == [(0, RECORD.path), (1, "p1")]


def test_of_two_files_of_one_instant_the_plain_name_came_first(
    engine: sa.Engine, ingest: Ingest
) -> None:
    ingest.add(replace(RECORD, sha256="b" * 64, path="images/00/1.2.3.1.1.abcdef0123456789.dcm"))
    ingest.add(RECORD)
    with engine.begin() as connection:
        number_by_arrival(connection, [RECORD.sop_instance_uid])

    assert rows(engine, "SELECT path FROM instance ORDER BY revision")[0] == (RECORD.path,)


def test_objects_without_study_have_an_instance_row_only(engine: sa.Engine) -> None:
    private = replace(RECORD, study_instance_uid=None, series_instance_uid=None)
    assert rebuild(engine, [private], PLACED) == {RECORD.path}
    assert rows(engine, "SELECT (SELECT count(*) FROM study), count(*) FROM instance") == [(0, 1)]


def test_a_record_that_no_database_takes_is_told_apart_from_a_database_that_is_away(
    engine: sa.Engine,
) -> None:
    with pytest.raises(DatabaseError) as raised:
        rebuild(engine, [replace(RECORD, size_bytes=2**70)], PLACED)
    assert not isinstance(raised.value, DatabaseAwayError)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE instance RENAME TO gone"))
    with pytest.raises(DatabaseAwayError):
        rebuild(engine, [RECORD], PLACED)
