"""Which series have all their images, and the one statement that says so.

A series is due when it has been quiet for long enough and no open association is still sending it.
Completing is guarded by the time of the last image that was seen: whoever else touched the series
in between, another process or a late image, makes the guard fail and nothing happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import sqlalchemy as sa

from .schema import Association, Instance, Resent, Series, SeriesState

# Built once: SQLAlchemy takes several times as long to build a statement as the database to run it,
# and a series is marked while everybody else waits for the write lock.
_INSTANCES = (
    sa.select(
        Instance.id,
        Instance.sop_instance_uid,
        Instance.revision,
        Instance.sha256,
        Instance.path,
        # Never NULL here: an instance has a study if it has a series.
        sa.type_coerce(Instance.study_instance_uid, sa.String),
        Instance.patient_id,
        Instance.sop_class_uid,
    )
    .where(Instance.series_instance_uid == sa.bindparam("of_series"))
    .order_by(Instance.revision)
)
_SENDERS = sa.union(
    sa.select(Association.calling_ae, Association.called_ae)
    .join(Instance, Instance.association_id == Association.id)
    .where(Instance.series_instance_uid == sa.bindparam("of_series")),
    sa.select(Association.calling_ae, Association.called_ae)
    .join(Resent, Resent.association_id == Association.id)
    .where(Resent.series_instance_uid == sa.bindparam("of_series")),
)
_SERIES = cast(sa.Table, Series.__table__)
_MARK = (
    sa.update(_SERIES)
    .where(
        _SERIES.c.series_instance_uid == sa.bindparam("of_series"),
        _SERIES.c.state == SeriesState.OPEN,
        _SERIES.c.last_received_at == sa.bindparam("was_last_received_at"),
    )
    .returning(_SERIES.c.series_instance_uid)
)


@dataclass(frozen=True, slots=True)
class DueSeries:
    """A series that may be complete, as it was seen."""

    series_instance_uid: str
    study_instance_uid: str
    trace_id: str
    last_received_at: datetime


@dataclass(frozen=True, slots=True)
class AheadSeries:
    """An open series whose last image came later than now, by a clock that went back meanwhile.

    Attributes
    ----------
    is_sent : bool
        Whether an association that sent some of it is still open.
    """

    series: DueSeries
    is_sent: bool


@dataclass(frozen=True, slots=True)
class SeriesInstance:
    """The newest revision of one SOP instance."""

    id: int
    sop_instance_uid: str
    revision: int
    sha256: str
    path: str
    study_instance_uid: str
    patient_id: str | None
    sop_class_uid: str


@dataclass(frozen=True, slots=True)
class Sender:
    """The AE titles by which an association was asked for: of who called, and of who was called."""

    calling_ae: str
    called_ae: str


def due(
    connection: sa.Connection,
    quiet_since: datetime,
    silent_since: datetime,
    *,
    except_for: Collection[str] = (),
    limit: int = 500,
) -> list[DueSeries]:
    """Return open series that may be complete, the longest quiet first.

    Parameters
    ----------
    quiet_since : datetime
        No image of the series came after this time.
    silent_since : datetime
        An open association that sent none of its images of the series after this time no longer
        counts as sending it.
    except_for : collection of str
        Series Instance UIDs to leave out, so that those that failed do not fill the limit.
    limit : int, default 500
        How many to return.
    """
    still_sending = sa.and_(
        # By a clock that was set back meanwhile an image may come later than those after it.
        Series.last_received_at > silent_since,
        _is_sent(Instance.received_at > silent_since),
    )
    rows = connection.execute(
        _open_series(except_for, limit).where(
            Series.last_received_at <= quiet_since, ~still_sending
        )
    )
    return [DueSeries(*row) for row in rows]


def ahead(
    connection: sa.Connection,
    now: datetime,
    *,
    except_for: Collection[str] = (),
    limit: int = 500,
) -> list[AheadSeries]:
    """Return open series whose last image bears a time that is still to come: `now` went back."""
    rows = connection.execute(
        _open_series(except_for, limit).add_columns(_is_sent()).where(Series.last_received_at > now)
    )
    return [AheadSeries(DueSeries(*row[:-1]), bool(row[-1])) for row in rows]


def _open_series(except_for: Collection[str], limit: int) -> sa.Select[str, str, str, datetime]:
    """Return open series as `DueSeries` has them, the longest quiet first."""
    return (
        sa.select(
            Series.series_instance_uid,
            Series.study_instance_uid,
            Series.trace_id,
            Series.last_received_at,
        )
        .where(
            Series.state == sa.literal_column("'open'"),  # literal: the partial index is used
            Series.series_instance_uid.not_in(except_for),
        )
        .order_by(Series.last_received_at)
        .limit(limit)
    )


def _is_sent(*images: sa.ColumnElement[bool]) -> sa.Exists:
    """Return whether an association is open that sent such images of the series."""
    return (
        sa.select(sa.literal(1))
        .select_from(Instance)
        .join(Association, Association.id == Instance.association_id)
        .where(
            Instance.series_instance_uid == Series.series_instance_uid,
            Association.ended_at.is_(None),
            *images,
        )
        .exists()
    )


def next_quiet(connection: sa.Connection, quiet_since: datetime) -> datetime | None:
    """Return when the last image came to the first open series that was not quiet by then."""
    latest: datetime | None = connection.execute(
        sa.select(sa.func.min(Series.last_received_at)).where(
            Series.state == sa.literal_column("'open'"),  # literal: the partial index is used
            Series.last_received_at > quiet_since,
        )
    ).scalar()
    return latest


def newest_instances(
    connection: sa.Connection, series_instance_uid: str
) -> tuple[SeriesInstance, ...]:
    """Return the newest revision of each SOP instance of a series, in the order of their UIDs."""
    rows = connection.execute(_INSTANCES, {"of_series": series_instance_uid})
    newest = {row.sop_instance_uid: SeriesInstance(*row) for row in rows}
    return tuple(newest[uid] for uid in sorted(newest))


def senders(connection: sa.Connection, series_instance_uid: str) -> frozenset[Sender]:
    """Return who sent images of a series, or sent some of them again.

    Nobody knows of images whose rows were rebuilt.
    """
    rows = connection.execute(_SENDERS, {"of_series": series_instance_uid})
    return frozenset(Sender(*row) for row in rows)


def digest(instances: Sequence[SeriesInstance]) -> str:
    """Return the SHA-256 that identifies a set of instances, whatever their order.

    Over their SOP Instance UIDs, one a line; where other bytes came under a UID later, the digest
    of the newest bytes follows the UID.
    """
    lines = sorted(
        f"{one.sop_instance_uid} {one.sha256}" if one.revision else one.sop_instance_uid
        for one in instances
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def mark_complete(
    connection: sa.Connection,
    seen: DueSeries,
    instance_digest: str,
    routing: str,
    completed_at: datetime,
) -> bool:
    """Complete a series if it is still open and no image came since it was seen."""
    marked = connection.execute(
        _MARK,
        {
            "of_series": seen.series_instance_uid,
            "was_last_received_at": seen.last_received_at,
            "state": SeriesState.COMPLETE,
            "completed_at": completed_at,
            "instance_digest": instance_digest,
            "routing": routing,
        },
    )
    return marked.first() is not None


def amend_routing(connection: sa.Connection, series_instance_uid: str, routing: str) -> None:
    """Say otherwise where a series goes, in the transaction that completed it."""
    connection.execute(
        sa.update(_SERIES)
        .where(_SERIES.c.series_instance_uid == series_instance_uid)
        .values(routing=routing)
    )
