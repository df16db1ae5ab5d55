"""Studies whose patient or request was corrected after their images had come.

Images stay as received. What a person corrected is kept as rows, holds for every later result of
the study, and is what the study's own row says from then on, so that people find it by the new
values. Result objects that were made before are replaced by corrected ones, never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from .schema import (
    Analysis,
    AnalysisState,
    Delivery,
    DeliveryState,
    ResultObject,
    Series,
    Study,
    StudyCorrection,
)

if TYPE_CHECKING:
    from .outcomes import ObjectRecord

# How faults begin that nobody mends: such an object is about the wrong patient or request for good.
FINAL_FAULT = "not sent any more: "

# What may be corrected, and the column of the study that says it.
CORRECTABLE: Mapping[str, str | None] = {
    "PatientID": "patient_id",
    "IssuerOfPatientID": None,
    "PatientName": "patient_name",
    "PatientBirthDate": "patient_birth_date",
    "PatientSex": "patient_sex",
    "AccessionNumber": "accession_number",
}


@dataclass(frozen=True, slots=True)
class CurrentObject:
    """A result object that holds now: no other replaces it, and no newer analysis does."""

    id: int
    analysis_id: str
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    path: str


def is_known(connection: sa.Connection, study_instance_uid: str) -> bool:
    """Tell whether there is such a study."""
    query = sa.select(Study.study_instance_uid).filter_by(study_instance_uid=study_instance_uid)
    return connection.execute(query).first() is not None


def hold(connection: sa.Connection, study_instance_uid: str) -> None:
    """Keep others from correcting a study, or from entering results of it, until the commit.

    Neither database keeps what a transaction has read from being changed before it writes.
    """
    connection.execute(
        sa.update(Study)
        .where(Study.study_instance_uid == study_instance_uid)
        .values(has_conflict=Study.has_conflict)
    )


def correct(
    connection: sa.Connection,
    study_instance_uid: str,
    attributes: Mapping[str, str],
    reason: str,
    now: datetime,
) -> None:
    """Keep a correction, and say it in the row of the study.

    Parameters
    ----------
    attributes : mapping of str to str
        Corrected values by DICOM keyword, of `CORRECTABLE`; an empty value empties.
    """
    connection.execute(
        sa.insert(StudyCorrection).values(
            study_instance_uid=study_instance_uid,
            attributes=json.dumps(dict(attributes), sort_keys=True),
            reason=reason,
            corrected_at=now,
        )
    )
    columns = {
        column: value or None
        for keyword, value in attributes.items()
        if (column := CORRECTABLE[keyword]) is not None
    }
    if columns:
        connection.execute(
            sa.update(Study).where(Study.study_instance_uid == study_instance_uid).values(**columns)
        )


def corrections(connection: sa.Connection, study_instance_uid: str) -> dict[str, str]:
    """Return what was corrected about a study, by DICOM keyword; the latest value of each."""
    rows = connection.execute(
        sa.select(StudyCorrection.attributes)
        .where(StudyCorrection.study_instance_uid == study_instance_uid)
        .order_by(StudyCorrection.id)
    ).scalars()
    merged: dict[str, str] = {}
    for attributes in rows:
        merged.update(json.loads(attributes))
    return merged


def still_holds(
    connection: sa.Connection, study_instance_uid: str, known: Mapping[str, str]
) -> bool:
    """Tell whether no correction came beyond those known, and see to it that none does."""
    hold(connection, study_instance_uid)
    return corrections(connection, study_instance_uid) == known


def patient_ids(connection: sa.Connection, study_instance_uid: str) -> frozenset[str]:
    """Return the Patient IDs that a person said to be of one patient; none without a correction.

    They are the corrected ones, and the one that the images had before, if they agreed on one.
    """
    rows = connection.execute(
        sa.select(StudyCorrection.attributes, StudyCorrection.corrected_at)
        .where(StudyCorrection.study_instance_uid == study_instance_uid)
        .order_by(StudyCorrection.id)
    ).all()
    told = [(json.loads(row.attributes).get("PatientID"), row.corrected_at) for row in rows]
    known = [(patient, at) for patient, at in told if patient is not None]
    if not known:
        return frozenset()
    before = connection.execute(
        sa.select(Series.patient_id)
        .where(
            Series.study_instance_uid == study_instance_uid,
            Series.first_received_at <= known[0][1],
        )
        .distinct()
    ).scalars()
    had = {patient or "" for patient in before}
    return frozenset(patient for patient, _ in known) | (had if len(had) == 1 else set())


def current_objects(connection: sa.Connection, study_instance_uid: str) -> list[CurrentObject]:
    """Return the result objects that hold now, those of one analysis together, oldest first.

    A report in a lesser SOP class is left out: it is made anew from its original when a
    destination asks for it.
    """
    newer, later = sa.orm.aliased(Analysis), sa.orm.aliased(ResultObject)
    query = (
        sa.select(
            ResultObject.id,
            ResultObject.analysis_id,
            ResultObject.kind,
            ResultObject.sop_class_uid,
            ResultObject.sop_instance_uid,
            ResultObject.path,
        )
        .join(Analysis, Analysis.id == ResultObject.analysis_id)
        .where(
            Analysis.study_instance_uid == study_instance_uid,
            ResultObject.fallback_of_id.is_(None),
            # What never passed its check is not made anew either.
            ResultObject.fault.is_(None),
            ~sa.exists().where(later.predecessor_id == ResultObject.id),
            ~sa.exists().where(
                newer.series_instance_uid == Analysis.series_instance_uid,
                newer.model_name == Analysis.model_name,
                newer.version > Analysis.version,
                newer.state.in_([AnalysisState.DONE, AnalysisState.NOT_ANALYSED]),
            ),
        )
        .order_by(ResultObject.analysis_id, ResultObject.id)
    )
    return [CurrentObject(*row) for row in connection.execute(query)]


def withhold(
    connection: sa.Connection, study_instance_uid: str, current: Sequence[CurrentObject]
) -> None:
    """End what is on its way of all objects of a study but these: nobody replaces them.

    They are of earlier versions of an analysis, and say what was corrected since.
    """
    kept = [one.id for one in current]
    root = sa.func.coalesce(ResultObject.fallback_of_id, ResultObject.id)
    later = sa.orm.aliased(ResultObject)
    meant = (
        ResultObject.analysis_id.in_(
            sa.select(Analysis.id).where(Analysis.study_instance_uid == study_instance_uid)
        ),
        root.not_in(kept),
        ~sa.exists().where(later.predecessor_id == root),
    )
    _end(connection, sa.and_(*meant), f"{FINAL_FAULT}made before the study was corrected")


def _end(connection: sa.Connection, which: sa.ColumnElement[bool], why: str) -> None:
    ids = connection.execute(sa.select(ResultObject.id).where(which)).scalars().all()
    connection.execute(sa.update(ResultObject).where(ResultObject.id.in_(ids)).values(fault=why))
    connection.execute(
        sa.update(Delivery)
        .where(Delivery.result_object_id.in_(ids), Delivery.state == DeliveryState.PENDING)
        .values(state=DeliveryState.DEAD, last_error=why, leased_until=None)
    )


def replace(
    connection: sa.Connection,
    old: CurrentObject,
    new: ObjectRecord,
    now: datetime,
) -> None:
    """Enter the object that replaces another one, for the destinations that were to have that.

    The old one is never sent again: it names the wrong patient or request. Its deliveries that
    are still on their way end.
    """
    number = connection.execute(
        sa.insert(ResultObject)
        .values(
            analysis_id=old.analysis_id,
            kind=old.kind,
            sop_class_uid=new.sop_class_uid,
            sop_instance_uid=new.sop_instance_uid,
            series_instance_uid=new.series_instance_uid,
            path=new.path,
            size_bytes=new.size_bytes,
            sha256=new.sha256,
            created_at=now,
            predecessor_id=old.id,
        )
        .returning(ResultObject.id)
    ).scalar_one()
    family = sa.or_(ResultObject.id == old.id, ResultObject.fallback_of_id == old.id)
    of_family = Delivery.result_object_id.in_(sa.select(ResultObject.id).where(family))
    for destination, created_at, deadline_at in connection.execute(
        sa.select(Delivery.destination, Delivery.created_at, Delivery.deadline_at).where(of_family)
    ).all():
        connection.execute(
            sa.insert(Delivery).values(
                result_object_id=number,
                destination=destination,
                state=DeliveryState.PENDING,
                next_attempt_at=now,
                created_at=now,
                deadline_at=None if deadline_at is None else now + (deadline_at - created_at),
            )
        )
    why = f"{FINAL_FAULT}replaced by {new.sop_instance_uid} after a correction of the study"
    _end(connection, family, why)
