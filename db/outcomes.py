"""How analyses ended: outcome, findings, objects, deliveries and notifications, stored as one.

`record_outcome` works on the caller's connection, so that the caller decides what else belongs to
the transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import sqlalchemy as sa

from . import explanations
from .explanations import ExplanationRecord
from .notifications import Notified
from .notifications import add as add_notifications
from .schema import (
    Analysis,
    AnalysisState,
    Delivery,
    DeliveryState,
    Finding,
    Measurement,
    Presence,
    ResultObject,
    Scope,
    Study,
)


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """A finding as it is stored; probability and thresholds from 0 to 1.

    Attributes
    ----------
    engine, engine_version, engine_device, engine_precision : str or None
    engine_batch : int or None
        What computed it; None where that is not known.
    """

    label: str
    code_value: str
    code_scheme: str
    code_meaning: str
    scope: Scope
    sop_instance_uid: str | None
    probability: float
    threshold_low: float
    threshold_high: float
    presence: Presence
    key_sop_instance_uid: str | None
    engine: str | None = None
    engine_version: str | None = None
    engine_device: str | None = None
    engine_precision: str | None = None
    engine_batch: int | None = None


@dataclass(frozen=True, slots=True)
class MeasurementRecord:
    """A measured quantity as it is stored; `unit` in UCUM."""

    label: str
    code_value: str
    code_scheme: str
    code_meaning: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Destined:
    """Where an object goes, and for how many hours that is tried; None for ever."""

    name: str
    deadline_hours: float | None = None


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """A result object whose file is already durable."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    path: str
    size_bytes: int
    sha256: str
    destinations: tuple[Destined, ...]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an analysis ended."""

    state: AnalysisState
    findings: tuple[FindingRecord, ...] = ()
    objects: tuple[ObjectRecord, ...] = ()
    reason_code: str | None = None
    reason: str | None = None
    facts: Mapping[str, object] | None = None
    notifications: tuple[Notified, ...] = ()
    measurements: tuple[MeasurementRecord, ...] = ()
    explanations: tuple[ExplanationRecord, ...] = ()


# Built once: SQLAlchemy takes several times as long to build a statement as the database to run it,
# and these are built while everybody else waits for the write lock.
_ANALYSIS = cast(sa.Table, Analysis.__table__)
_INSERT_FINDINGS = sa.insert(cast(sa.Table, Finding.__table__))
_INSERT_MEASUREMENTS = sa.insert(cast(sa.Table, Measurement.__table__))
_END = (
    sa.update(_ANALYSIS)
    .where(_ANALYSIS.c.id == sa.bindparam("of_id"), _ANALYSIS.c.state == AnalysisState.PENDING)
    .returning(_ANALYSIS.c.study_instance_uid)
)


def _summarise() -> sa.Update:
    """Return what keeps the study's counters, which lists sort by.

    Counted are the labels of current, non-shadow analyses at their widest scope: a slice that
    scores high does not make its series positive.
    """
    newer = sa.orm.aliased(Analysis)
    wider = sa.orm.aliased(Finding)
    study: sa.BindParameter[str] = sa.bindparam("of_study")
    counted = sa.and_(
        Finding.study_instance_uid == study,
        ~Analysis.shadow,
        ~sa.exists().where(
            newer.series_instance_uid == Analysis.series_instance_uid,
            newer.model_name == Analysis.model_name,
            newer.version > Analysis.version,
            newer.state == AnalysisState.DONE,
            ~newer.shadow,
        ),
        sa.or_(
            Finding.scope != Scope.IMAGE,
            ~sa.exists().where(
                wider.analysis_id == Finding.analysis_id,
                wider.label == Finding.label,
                wider.scope != Scope.IMAGE,
            ),
        ),
    )
    joined = sa.join(Finding, Analysis, Finding.analysis_id == Analysis.id)
    positive = sa.select(sa.func.count(Finding.label.distinct())).select_from(joined)
    highest = sa.select(sa.func.max(Finding.probability)).select_from(joined)
    return (
        sa.update(Study)
        .where(Study.study_instance_uid == study)
        .values(
            n_positive=positive.where(
                counted, Finding.presence == Presence.PRESENT
            ).scalar_subquery(),
            max_probability=highest.where(counted).scalar_subquery(),
        )
    )


_SUMMARISE = _summarise()


def record_outcome(connection: sa.Connection, analysis_id: str, outcome: Outcome) -> bool:
    """Store an outcome and all that follows from it; False if the analysis already had one.

    The guard makes a job that is run twice harmless: the second run changes nothing.
    """
    now = datetime.now(UTC)
    study = connection.execute(
        _END,
        {
            "of_id": analysis_id,
            "state": outcome.state,
            "finished_at": now,
            "reason_code": outcome.reason_code,
            "reason": outcome.reason,
            "facts": json.dumps(outcome.facts) if outcome.facts is not None else None,
        },
    ).scalar_one_or_none()
    if study is None:
        return False
    _insert_findings(connection, analysis_id, study, outcome.findings)
    if outcome.measurements:
        rows = [{"analysis_id": analysis_id, **asdict(one)} for one in outcome.measurements]
        connection.execute(_INSERT_MEASUREMENTS, rows)
    explanations.keep(connection, analysis_id, outcome.explanations, now)
    for made in outcome.objects:
        _insert_object(connection, analysis_id, made, now)
    add_notifications(connection, analysis_id, outcome.notifications, now)
    connection.execute(_SUMMARISE, {"of_study": study})
    return True


def _insert_findings(
    connection: sa.Connection, analysis_id: str, study: str, findings: Sequence[FindingRecord]
) -> None:
    if findings:
        rows = [
            {
                "analysis_id": analysis_id,
                "study_instance_uid": study,
                **{name: getattr(found, name) for name in FindingRecord.__slots__},
            }
            for found in findings
        ]
        connection.execute(_INSERT_FINDINGS, rows)


def _insert_object(
    connection: sa.Connection, analysis_id: str, made: ObjectRecord, now: datetime
) -> None:
    number = connection.execute(
        sa.insert(ResultObject)
        .values(
            analysis_id=analysis_id,
            kind=made.kind,
            sop_class_uid=made.sop_class_uid,
            sop_instance_uid=made.sop_instance_uid,
            series_instance_uid=made.series_instance_uid,
            path=made.path,
            size_bytes=made.size_bytes,
            sha256=made.sha256,
            created_at=now,
            fault=made.fault,
        )
        .returning(ResultObject.id)
    ).scalar_one()
    for destination in made.destinations:
        hours = destination.deadline_hours
        connection.execute(
            sa.insert(Delivery).values(
                result_object_id=number,
                destination=destination.name,
                # What must not be sent is a dead letter from the start: a person has to look at it.
                state=DeliveryState.PENDING if made.fault is None else DeliveryState.DEAD,
                last_error=made.fault,
                next_attempt_at=now,
                created_at=now,
                deadline_at=None if hours is None else now + timedelta(hours=hours),
            )
        )
