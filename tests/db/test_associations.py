"""The association ledger on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from db.associations import (
    AssociationCounts,
    AssociationRecord,
    close_association,
    close_lost,
    open_association,
)
from db.schema import Association, AssociationEnd

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def record(number: int, acceptor: str = "a1") -> AssociationRecord:
    return AssociationRecord(f"id{number}", acceptor, "SENDER", "PREREAD", "10.0.0.1", 104, NOW)


def rows(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(Association.__table__).order_by(Association.id)))


def test_open_and_close(engine: sa.Engine) -> None:
    counts = AssociationCounts(3, 1, 2**40)
    with engine.begin() as connection:
        open_association(connection, record(1))
    assert rows(engine)[0].ended_at is None
    with engine.begin() as connection:
        close_association(connection, record(1), counts, LATER, AssociationEnd.RELEASED)
    (row,) = rows(engine)
    assert (row.opened_at, row.ended_at, row.ended_by) == (NOW, LATER, "released")
    assert (row.n_received, row.n_refused, row.n_bytes) == (3, 1, 2**40)


def test_the_first_end_counts(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        open_association(connection, record(1))
        for end in (AssociationEnd.ABORTED, AssociationEnd.LOST):
            close_association(connection, record(1), AssociationCounts(), LATER, end)
    (row,) = rows(engine)
    assert row.ended_by == "aborted"


def test_closing_what_was_never_entered(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        close_association(
            connection, record(1), AssociationCounts(1), LATER, AssociationEnd.RELEASED
        )
    (row,) = rows(engine)
    assert (row.n_received, row.ended_by) == (1, "released")


def test_only_the_acceptors_own_rows_are_lost(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for number, acceptor in enumerate(["a1", "a1", "a2"]):
            open_association(connection, record(number, acceptor))
        close_association(
            connection, record(0), AssociationCounts(), LATER, AssociationEnd.RELEASED
        )
        assert close_lost(connection, "a1", LATER) == 1
        assert close_lost(connection, "a1", LATER) == 0
    assert [row.ended_by for row in rows(engine)] == ["released", "lost", None]
