"""What the node has of one study, in words: its series, and the objects made of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from db.query import rows_of
from db.schema import Analysis
from inference.number_words import number_of


def describe(connection: sa.Connection, study_instance_uid: str) -> str | None:
    """Return what is known of a study; None if it never came.

    Series that no model reads say which rule refused them and why, analyses without findings say
    their reason, and every object stands with its whole SOP Instance UID and its deliveries.
    """
    named = {"study_instance_uid": study_instance_uid}

    def rows(view: str, order_by: str) -> list[dict[str, Any]]:
        return rows_of(connection, view, order_by=order_by, equals=named)[::-1]

    studies = rows("v_studies", "study_instance_uid")
    if not studies:
        return None
    analyses = rows("v_turnaround", "requested_at")
    on_trial = set(
        connection.scalars(
            sa.select(Analysis.id).where(
                Analysis.shadow, Analysis.id.in_([one["analysis_id"] for one in analyses])
            )
        )
    )
    lines = [
        *_head(studies[0]),
        *(
            line
            for one in rows("v_series", "received_at")
            for line in _series(one, analyses, on_trial)
        ),
        *_objects(rows("v_objects", "object_id"), rows("v_deliveries", "delivery_id")),
    ]
    return "\n".join(lines) + "\n"


def _head(study: Mapping[str, Any]) -> Iterator[str]:
    yield f"study {study['study_instance_uid']}: {study['state']}"
    yield f"patient {study['patient_id'] or 'without Patient ID'}"
    if study["accession_number"]:
        yield f"accession number {study['accession_number']}"


def _series(
    series: Mapping[str, Any], analyses: Sequence[Mapping[str, Any]], on_trial: Collection[str]
) -> Iterator[str]:
    words = [series["modality"] or "", series["series_description"] or ""]
    what = " ".join(word for word in words if word)
    yield ""
    yield f"series {series['series_instance_uid']}: {series['state']}"
    yield f"  {f'{what}, ' if what else ''}{number_of(series['n_instances'], 'instance')}"
    if series["state"] == "parked" and series["routing"]:
        yield from (f"  {reason}" for reason in json.loads(series["routing"])["reasons"])
    for one in analyses:
        if one["series_instance_uid"] == series["series_instance_uid"]:
            kept_here = ", shadow: nothing of it is delivered"
            shadow = kept_here if one["analysis_id"] in on_trial else ""
            yield f"  analysis {one['analysis_id'][:12]}, {_analysis(one)}{shadow}"


def _analysis(one: Mapping[str, Any]) -> str:
    newer = "" if one["is_current"] else ", replaced by a newer one"
    reason = f": {one['reason']}" if one["reason"] else ""
    model = f"{one['model_name']} {one['model_version']}, version {one['version']}"
    return f"{model}{newer}: {str(one['state']).replace('_', ' ')}{reason}"


def _objects(
    objects: Sequence[Mapping[str, Any]], deliveries: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    if objects:
        yield ""
    for one in objects:
        uid = one["sop_instance_uid"]
        notes = [f"of analysis {one['analysis_id'][:12]}"]
        if not one["is_current"]:
            notes.append("replaced")
        if one["fault"]:
            notes.append(f"not to be sent: {one['fault']}")
        notes += [
            f"{d['destination']}: {d['state']}" for d in deliveries if d["sop_instance_uid"] == uid
        ]
        yield f"{one['kind']} {uid}"
        yield f"  {', '.join(notes)}"
