"""Analyses from request to start: what was asked for, and what a worker is given.

Every function works on the caller's connection, so that the caller decides what is one
transaction: a request with its job. How analyses end is in `db.outcomes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .corrections import corrections
from .errors import DatabaseError
from .schema import (
    Analysis,
    AnalysisInstance,
    AnalysisState,
    Association,
    Instance,
    ResultObject,
    UtcDateTime,
)


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """One model on one set of instances.

    `id` is the digest of everything that identifies it; `received_at` is when the last of the
    instances came.
    """

    id: str
    study_instance_uid: str
    series_instance_uid: str
    instance_ids: tuple[int, ...]
    instance_digest: str
    model_name: str
    model_version: str
    weights_sha256: str
    configuration_digest: str
    priority: str
    shadow: bool
    trace_id: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class RequestedImage:
    """An instance that an analysis was given."""

    instance_id: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str


@dataclass(frozen=True, slots=True)
class RequestedAnalysis:
    """An analysis as a worker finds it.

    Attributes
    ----------
    calling_ae : str or None
        AE title that sent its images, most of them if there were several; None if the ledger does
        not say.
    """

    id: str
    study_instance_uid: str
    series_instance_uid: str
    model_name: str
    model_version: str
    weights_sha256: str
    configuration_digest: str
    state: str
    shadow: bool
    version: int
    predecessor_id: str | None
    trace_id: str
    requested_at: datetime
    images: tuple[RequestedImage, ...]
    calling_ae: str | None
    corrections: Mapping[str, str]


# Built once: SQLAlchemy takes several times as long to build a statement as the database to run it,
# and these are built while everybody else waits for the write lock.
_ANALYSIS = cast(sa.Table, Analysis.__table__)
_REQUESTED = tuple(name for name in AnalysisRequest.__slots__ if name != "instance_ids")
_INSERT_INSTANCES = sa.insert(cast(sa.Table, AnalysisInstance.__table__))
_START = (
    sa.update(_ANALYSIS)
    .where(_ANALYSIS.c.id == sa.bindparam("of_id"))
    .values(
        started_at=sa.func.coalesce(
            _ANALYSIS.c.started_at, sa.bindparam("now", type_=UtcDateTime())
        ),
        last_started_at=sa.bindparam("now", type_=UtcDateTime()),
        attempts=_ANALYSIS.c.attempts + 1,
    )
    .returning(_ANALYSIS.c.started_at)
)

_URGE = (
    sa.update(_ANALYSIS)
    .where(
        _ANALYSIS.c.id == sa.bindparam("of_id"),
        _ANALYSIS.c.state == AnalysisState.PENDING,
        _ANALYSIS.c.priority != "stat",
    )
    .values(priority="stat")
    .returning(_ANALYSIS.c.id)
)


@lru_cache
def _insert_analysis(dialect: str) -> sa.Executable:
    """Return the dialect's INSERT, for its ON CONFLICT."""
    of_model = sa.and_(
        _ANALYSIS.c.series_instance_uid == sa.bindparam("of_series"),
        _ANALYSIS.c.model_name == sa.bindparam("of_model"),
    )
    earlier = sa.select(_ANALYSIS.c.id).where(of_model).order_by(_ANALYSIS.c.version.desc())
    last = sa.select(sa.func.coalesce(sa.func.max(_ANALYSIS.c.version), 0) + 1).where(of_model)
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return (
        insert(_ANALYSIS)
        .values(version=last.scalar_subquery(), predecessor_id=earlier.limit(1).scalar_subquery())
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(_ANALYSIS.c.id)
    )


def request_analysis(connection: sa.Connection, request: AnalysisRequest) -> bool:
    """Store the request; False if the same analysis was asked for before.

    A series that had been analysed by the same model on other images gets the next version, with
    the last one as predecessor.
    """
    inserted = connection.execute(
        _insert_analysis(connection.dialect.name),
        {
            **{name: getattr(request, name) for name in _REQUESTED},
            "of_series": request.series_instance_uid,
            "of_model": request.model_name,
            "state": AnalysisState.PENDING,
            "requested_at": datetime.now(UTC),
        },
    ).first()
    if inserted is None:
        return False
    connection.execute(
        _INSERT_INSTANCES,
        [{"analysis_id": request.id, "instance_id": number} for number in request.instance_ids],
    )
    return True


def urge_analysis(connection: sa.Connection, analysis_id: str) -> bool:
    """Say that an analysis without an outcome is STAT; False if it was, or has an outcome."""
    urged = connection.execute(_URGE, {"of_id": analysis_id})
    return urged.first() is not None


def requested(connection: sa.Connection, analysis_id: str) -> AnalysisRequest:
    """Return what was asked for.

    Raises
    ------
    sqlalchemy.exc.NoResultFound
        If there is no such analysis.
    """
    columns = [_ANALYSIS.c[name] for name in _REQUESTED]
    row = connection.execute(sa.select(*columns).where(_ANALYSIS.c.id == analysis_id)).one()
    instances = sa.select(AnalysisInstance.instance_id).filter_by(analysis_id=analysis_id)
    ids = connection.execute(instances.order_by(AnalysisInstance.instance_id)).scalars()
    return AnalysisRequest(instance_ids=tuple(ids), **row._asdict())


def load(connection: sa.Connection, analysis_id: str) -> RequestedAnalysis | None:
    """Return the analysis with its images, or None if there is no such analysis."""
    row = connection.execute(sa.select(Analysis.__table__).filter_by(id=analysis_id)).first()
    if row is None:
        return None
    images = connection.execute(
        sa.select(
            Instance.id, Instance.sop_instance_uid, Instance.sop_class_uid,
            Instance.transfer_syntax_uid, Instance.path,
        )
        .join(AnalysisInstance, AnalysisInstance.instance_id == Instance.id)
        .where(AnalysisInstance.analysis_id == analysis_id)
        .order_by(Instance.sop_instance_uid)
    ).all()  # fmt: skip
    return RequestedAnalysis(
        id=row.id,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        model_name=row.model_name,
        model_version=row.model_version,
        weights_sha256=row.weights_sha256,
        configuration_digest=row.configuration_digest,
        state=row.state,
        shadow=row.shadow,
        version=row.version,
        predecessor_id=row.predecessor_id,
        trace_id=row.trace_id,
        requested_at=row.requested_at,
        images=tuple(RequestedImage(*image) for image in images),
        calling_ae=_calling_ae(connection, analysis_id),
        corrections=corrections(connection, row.study_instance_uid),
    )


def _calling_ae(connection: sa.Connection, analysis_id: str) -> str | None:
    title: str | None = connection.execute(
        sa.select(Association.calling_ae)
        .join(Instance, Instance.association_id == Association.id)
        .join(AnalysisInstance, AnalysisInstance.instance_id == Instance.id)
        .where(AnalysisInstance.analysis_id == analysis_id)
        .group_by(Association.calling_ae)
        .order_by(sa.func.count().desc(), Association.calling_ae)
        .limit(1)
    ).scalar()
    return title


@dataclass(frozen=True, slots=True)
class Heading:
    """What is said of an analysis wherever it is spoken of."""

    priority: str
    trace_id: str
    model_name: str


def heading_of(connection: sa.Connection, analysis_id: str) -> Heading | None:
    """Return how an analysis is spoken of; None if there is no such analysis."""
    row = connection.execute(
        sa.select(Analysis.priority, Analysis.trace_id, Analysis.model_name).where(
            Analysis.id == analysis_id
        )
    ).first()
    return None if row is None else Heading(*row)


def mark_started(connection: sa.Connection, analysis_id: str, worker: str, device: str) -> datetime:
    """Note who began, and return when the first attempt began.

    A second attempt after a crash keeps the time of the first, so that it makes the same bytes;
    when it began itself is kept beside it, and how many there were.
    """
    started: datetime | None = connection.execute(
        _START,
        {"of_id": analysis_id, "now": datetime.now(UTC), "worker": worker, "device": device},
    ).scalar_one()
    if started is None:
        raise DatabaseError(f"analysis {analysis_id[:12]} has no start although it was just set")
    return started


def still_pending(connection: sa.Connection, analysis_ids: Sequence[str]) -> tuple[str, ...]:
    """Return those of the analyses that have no outcome yet."""
    return tuple(
        connection.execute(
            sa.select(Analysis.id).where(
                Analysis.id.in_(analysis_ids), Analysis.state == AnalysisState.PENDING
            )
        ).scalars()
    )


def reopen(connection: sa.Connection, analysis_id: str) -> bool:
    """Make a failed or cancelled analysis pending again, for a retry by a person."""
    reopened = connection.execute(
        sa.update(Analysis)
        .where(
            Analysis.id == analysis_id,
            Analysis.state.in_([AnalysisState.FAILED, AnalysisState.CANCELLED]),
        )
        .values(state=AnalysisState.PENDING, finished_at=None, reason_code=None, reason=None)
        .returning(Analysis.id)
    ).first()
    return reopened is not None


def latest_object(connection: sa.Connection, analysis_id: str | None, kind: str) -> str | None:
    """Return the stored path of an analysis's object, looking back along its predecessors."""
    while analysis_id is not None:
        path = connection.execute(
            # A corrected object stands after the one that it replaces.
            sa.select(ResultObject.path)
            .where(
                ResultObject.analysis_id == analysis_id,
                ResultObject.kind == kind,
                ResultObject.fallback_of_id.is_(None),
            )
            .order_by(ResultObject.id.desc())
            .limit(1)
        ).scalar()
        if path is not None:
            return str(path)
        analysis_id = connection.execute(
            sa.select(Analysis.predecessor_id).where(Analysis.id == analysis_id)
        ).scalar()
    return None
