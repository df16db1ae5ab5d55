"""Rows made again from what stored files say, as they came out when the files were received.

Rows are written like those of new images; what follows puts right what only the order of receipt
can tell. Bytes under one SOP Instance UID are numbered as they were received, not as their rows
are made; a study keeps the times of its first and last image. A series that is known keeps its
state, and one that is made anew is complete and was sent to no model: what was lost is a row, not
a reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from .conflicts import flag_mixed, number_by_arrival
from .dialect import Dialect
from .errors import DatabaseAwayError, DatabaseError
from .faults import Fault, fault_of
from .instances import Added, InstanceRecord, write_instances
from .schema import Series, SeriesState, Study

_ATTEMPTS = 5
_OPENED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Placed:
    """How series that are made anew are found later.

    Attributes
    ----------
    routing : str
        Stands where the routing of a series stands (JSON).
    at : datetime
        When they were completed.
    """

    routing: str
    at: datetime


@dataclass(frozen=True, slots=True)
class _Times:
    """When the first and the last image came; of a series with a row its state, too."""

    first: datetime
    last: datetime
    state: str | None = None
    has_row: bool = False

    def with_(self, first: datetime, last: datetime) -> _Times:
        return replace(self, first=min(self.first, first), last=max(self.last, last))


def rebuild(engine: sa.Engine, records: Sequence[InstanceRecord], placed: Placed) -> frozenset[str]:
    """Make the rows of stored instances, in one transaction; return the paths that got one.

    What is there already stays as it is, but for revisions that were received later than one that
    is made: they get the number that is theirs.

    Parameters
    ----------
    records : sequence of InstanceRecord
        In the order in which they were received.

    Raises
    ------
    DatabaseAwayError
        If the database is away; nothing was committed.
    DatabaseError
        If it does not take these records; nothing was committed.
    """
    # What rows can be guilty of; anything else is a defect of this program.
    errors = (sa.exc.SQLAlchemyError, engine.dialect.loaded_dbapi.Error, ValueError, OverflowError)
    for _ in range(_ATTEMPTS):
        try:
            with engine.connect() as connection:
                made = _rebuild(connection, Dialect(engine), records, placed)
                connection.commit()
                return made
        except errors as error:
            cause = getattr(error, "orig", None) or error
            # The driver's message may quote values: only its type is passed on.
            reason = f"rows not committed ({type(cause).__name__})"
            fault = fault_of(cause)
            if fault is Fault.ROW:
                raise DatabaseError(reason) from None
            if fault is Fault.DATABASE:
                raise DatabaseAwayError(reason) from None
    raise DatabaseAwayError("rows not committed: others write the same ones again and again")


def _rebuild(
    connection: sa.Connection, dialect: Dialect, records: Sequence[InstanceRecord], placed: Placed
) -> frozenset[str]:
    if dialect.is_sqlite:
        # The lock comes before the reading, or what was read may have changed when it is used.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    within = [record for record in records if record.study_instance_uid is not None]
    studies = _studies(connection, within)
    series = _series(connection, within)
    uids = sorted({record.sop_instance_uid for record in records})
    # Revisions are counted from 0 without gaps, or equal bytes are not recognised as such.
    number_by_arrival(connection, uids)
    cursor: Any = connection.connection.cursor()
    try:
        added = write_instances(cursor, dialect, records)
    finally:
        cursor.close()
    revised = [
        record.sop_instance_uid
        for record, one in zip(records, added, strict=True)
        if one is Added.REVISED
    ]
    if revised:
        number_by_arrival(connection, revised)
    if within:
        _settle(connection, studies, series, placed, within[0].association_id)
        # Rows that are there already may speak against a study whose row was lost.
        flag_mixed(connection, [uid for uid, at in studies.items() if not at.has_row])
    new = (Added.NEW, Added.REVISED)
    return frozenset(record.path for record, one in zip(records, added, strict=True) if one in new)


def _studies(connection: sa.Connection, records: Sequence[InstanceRecord]) -> dict[str, _Times]:
    columns = (Study.study_instance_uid, Study.received_at, Study.last_received_at)
    return _times(connection, records, columns)


def _series(connection: sa.Connection, records: Sequence[InstanceRecord]) -> dict[str, _Times]:
    columns = (
        Series.series_instance_uid,
        Series.first_received_at,
        Series.last_received_at,
        Series.state,
    )
    return _times(connection, records, columns)


def _times(
    connection: sa.Connection,
    records: Sequence[InstanceRecord],
    columns: Sequence[sa.orm.InstrumentedAttribute[Any]],
) -> dict[str, _Times]:
    """Return the times that studies or series have with these records; lock those that exist."""
    key = columns[0]
    uids = {getattr(record, key.key) for record in records}
    # Sorted, as those who receive lock them.
    known = sa.select(*columns).where(key.in_(uids)).order_by(key).with_for_update()
    before = {row[0]: replace(_Times(*row[1:]), has_row=True) for row in connection.execute(known)}
    first = {getattr(record, key.key): record.received_at for record in reversed(records)}
    last = {getattr(record, key.key): record.received_at for record in records}
    return {
        uid: before[uid].with_(first[uid], last[uid])
        if uid in before
        else _Times(first[uid], last[uid])
        for uid in first
    }


def _settle(
    connection: sa.Connection,
    studies: Mapping[str, _Times],
    series: Mapping[str, _Times],
    placed: Placed,
    association_id: str,
) -> None:
    """Put right what writing rows of new images changes: times, and states of series."""
    uid: sa.BindParameter[str] = sa.bindparam("uid")
    first: sa.BindParameter[datetime] = sa.bindparam("first")
    last: sa.BindParameter[datetime] = sa.bindparam("last")
    study = sa.update(Study).where(Study.study_instance_uid == uid)
    connection.execute(
        study.values(received_at=first, last_received_at=last),
        [{"uid": one, "first": at.first, "last": at.last} for one, at in studies.items()],
    )
    one_series = sa.update(Series).where(Series.series_instance_uid == uid)
    timed = one_series.values(first_received_at=first, last_received_at=last)
    known = [
        {"uid": one, "first": at.first, "last": at.last, "before": at.state}
        for one, at in series.items()
        if at.has_row
    ]
    if known:
        connection.execute(timed.values(state=sa.bindparam("before")), known)
    made = [
        {"uid": one, "first": at.first, "last": at.last}
        for one, at in series.items()
        if not at.has_row
    ]
    if made:
        # One that was received for the first time just now is another association's, and open.
        mine = timed.where(Series.trace_id == association_id)
        complete = {"completed_at": placed.at, "routing": placed.routing}
        connection.execute(mine.values(state=SeriesState.COMPLETE, **complete), made)


def open_again(engine: sa.Engine, routing: str) -> int:
    """Open the series that bear a routing, so that they are routed like received ones; count."""
    uid = Series.series_instance_uid
    last, opened = "", 0
    while True:
        some = (
            sa.select(uid)
            .where(uid > last, Series.state == SeriesState.COMPLETE, Series.routing == routing)
            .order_by(uid)
            .limit(_OPENED_AT_ONCE)
        )
        with engine.begin() as connection:
            found = connection.execute(
                sa.update(Series)
                .where(uid.in_(some))
                .values(state=SeriesState.OPEN, routing=None, completed_at=None)
                .returning(uid)
            )
            uids = [row[0] for row in found]
        if not uids:
            return opened
        last, opened = max(uids), opened + len(uids)
