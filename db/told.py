"""What others are told of an analysis, and of what they were told before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from .corrections import corrections
from .schema import (
    Analysis,
    AnalysisInstance,
    AnalysisState,
    Finding,
    Instance,
    ResultObject,
    Scope,
    Series,
    Study,
)


@dataclass(frozen=True, slots=True)
class ToldFinding:
    """A finding as others are told of it; probability from 0 to 1."""

    label: str
    code_value: str
    code_scheme: str
    code_meaning: str
    scope: str
    presence: str
    probability: float


@dataclass(frozen=True, slots=True)
class Told:
    """An ended analysis with its study, as others are told of it.

    `image_path` is the stored path of its first image, `issuer_of_patient_id` what a correction of
    the study says, None without one; `sr_sop_instance_uid` is None if no report was made or it must
    not be sent.
    """

    analysis_id: str
    study_instance_uid: str
    series_instance_uid: str
    model_name: str
    model_version: str
    version: int
    predecessor_id: str | None
    state: str
    reason_code: str | None
    reason: str | None
    priority: str
    trace_id: str
    received_at: datetime
    finished_at: datetime
    patient_id: str | None
    patient_name: str | None
    patient_birth_date: str | None
    patient_sex: str | None
    accession_number: str | None
    study_date: str | None
    study_description: str | None
    modality: str | None
    image_path: str | None = None
    sr_sop_instance_uid: str | None = None
    issuer_of_patient_id: str | None = None
    findings: tuple[ToldFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What an analysis was asked as; decides who is told of its outcome."""

    model_name: str
    priority: str
    shadow: bool
    predecessor_id: str | None


class _Scoped(Protocol):
    @property
    def label(self) -> str: ...

    @property
    def scope(self) -> str: ...


_S = TypeVar("_S", bound=_Scoped)
_FINDING_COLUMNS = tuple(getattr(Finding, name) for name in ToldFinding.__slots__)
_ANALYSIS_COLUMNS = (
    Analysis.id,
    *(
        getattr(Analysis, name)
        for name in (
            "study_instance_uid", "series_instance_uid", "model_name", "model_version", "version",
            "predecessor_id", "state", "reason_code", "reason", "priority", "trace_id",
            "received_at", "finished_at",
        )
    ),
    *(
        getattr(Study, name)
        for name in (
            "patient_id", "patient_name", "patient_birth_date", "patient_sex", "accession_number",
            "study_date", "study_description",
        )
    ),
    Series.modality,
)  # fmt: skip


def widest(findings: Iterable[_S]) -> tuple[_S, ...]:
    """Return the findings at the widest scope of their label.

    A slice that scores high does not make its series positive, so nobody is told of it.
    """
    listed = tuple(findings)
    wide = {one.label for one in listed if one.scope != Scope.IMAGE}
    return tuple(one for one in listed if one.scope != Scope.IMAGE or one.label not in wide)


def asked(connection: sa.Connection, analysis_id: str) -> Asked | None:
    """Return what an analysis was asked as; None if there is no such analysis."""
    row = connection.execute(
        sa.select(
            Analysis.model_name, Analysis.priority, Analysis.shadow, Analysis.predecessor_id
        ).where(Analysis.id == analysis_id)
    ).first()
    return None if row is None else Asked(*row)


def earlier_findings(
    connection: sa.Connection, predecessor_id: str | None
) -> tuple[ToldFinding, ...] | None:
    """Return what the last analysis before found, None if there was none.

    Those that ended without findings, and those on trial, are passed over: nobody was told.
    """
    while predecessor_id is not None:
        row = connection.execute(
            sa.select(Analysis.state, Analysis.shadow, Analysis.predecessor_id).where(
                Analysis.id == predecessor_id
            )
        ).one()
        if row.state == AnalysisState.DONE and not row.shadow:
            return _findings(connection, predecessor_id)
        predecessor_id = row.predecessor_id
    return None


def told(connection: sa.Connection, analysis_id: str) -> Told | None:
    """Return what others are told of an analysis, None unless it has ended."""
    row = connection.execute(
        sa.select(*_ANALYSIS_COLUMNS)
        .join(Study, Study.study_instance_uid == Analysis.study_instance_uid)
        .join(Series, Series.series_instance_uid == Analysis.series_instance_uid)
        .where(Analysis.id == analysis_id, Analysis.finished_at.is_not(None))
    ).first()
    if row is None:
        return None
    corrected = corrections(connection, row.study_instance_uid)
    # The columns are in the order of the attributes.
    facts: dict[str, Any] = dict(zip(Told.__slots__, row, strict=False))
    return Told(
        **facts,
        image_path=connection.execute(_first_image(analysis_id)).scalar(),
        sr_sop_instance_uid=connection.execute(_report(analysis_id)).scalar(),
        issuer_of_patient_id=corrected.get("IssuerOfPatientID"),
        findings=_findings(connection, analysis_id),
    )


def _findings(connection: sa.Connection, analysis_id: str) -> tuple[ToldFinding, ...]:
    rows = connection.execute(
        sa.select(*_FINDING_COLUMNS).where(Finding.analysis_id == analysis_id).order_by(Finding.id)
    )
    return widest(ToldFinding(*row) for row in rows)


def _first_image(analysis_id: str) -> sa.Select[str]:
    return (
        sa.select(Instance.path)
        .join(AnalysisInstance, AnalysisInstance.instance_id == Instance.id)
        .where(AnalysisInstance.analysis_id == analysis_id)
        .order_by(Instance.sop_instance_uid)
        .limit(1)
    )


def _report(analysis_id: str) -> sa.Select[str]:
    later = sa.orm.aliased(ResultObject)
    return sa.select(ResultObject.sop_instance_uid).where(
        ResultObject.analysis_id == analysis_id,
        ResultObject.kind == "sr",
        ResultObject.fallback_of_id.is_(None),
        ResultObject.fault.is_(None),
        ~sa.exists().where(later.predecessor_id == ResultObject.id),
    )
