"""Which analysis, image and label a person means by an id, a UID or the end of one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from db.explanations import of_analysis
from db.query import rows_of, view
from db.results import RequestedAnalysis, load

from ..errors import DeployError
from .endings import FEWEST_DIGITS, Named, whole_uid

_NAMED: Final[Named] = (
    ("v_studies", "study_instance_uid", "study", "studies"),
    ("v_series", "series_instance_uid", "series", "series"),
    ("v_objects", "sop_instance_uid", "result object", "result objects"),
    ("v_instances", "sop_instance_uid", "image", "images"),
)
_ID: Final = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}")
# Surest first.
_RANK: Final = ("Present", "Undetermined", "Absent")


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be explained.

    Attributes
    ----------
    analysis : RequestedAnalysis
    label : str
    sop_instance_uid : str
        The image that shows it best, or the one that was named.
    path : str
        Where it is kept, relative to the data directory.
    frame : int
        From 0.
    """

    analysis: RequestedAnalysis
    label: str
    sop_instance_uid: str
    path: str
    frame: int


def find_target(
    connection: sa.Connection,
    text: str,
    model: str | None = None,
    label: str | None = None,
    frame: int | None = None,
) -> Target:
    """Return what a person means.

    Parameters
    ----------
    connection : Connection
    text : str
        Id of an analysis or its first characters, or UID of a study, series, result object or
        image, or its last digits.
    model : str or None
        Of several analyses that of this model.
    label : str or None
        The surest finding if None.
    frame : int or None
        From 0; the one that was illustrated, or the first, if None.

    Raises
    ------
    DeployError
        If it is nothing, or several things.
    """
    row, image = _analysis(connection, text, model)
    analysis = load(connection, str(row["analysis_id"]))
    if analysis is None:
        raise DeployError(f"analysis {text} is gone")
    finding = _finding(connection, analysis, label, image)
    uid = image or finding["key_sop_instance_uid"] or finding["sop_instance_uid"]
    paths = {one.sop_instance_uid: one.path for one in analysis.images}
    if uid not in paths:
        raise DeployError(
            f"finding {finding['label']!r} of analysis {analysis.id[:12]} is {finding['presence']} "
            "and has no key image; name an image by its SOP Instance UID"
            + _most_probable(connection, analysis, str(finding["label"]))
        )
    if frame is None:
        shown = (
            one.frame
            for one in of_analysis(connection, analysis.id)
            if (one.label, one.sop_instance_uid) == (finding["label"], uid)
        )
        frame = next(shown, 0)
    return Target(analysis, str(finding["label"]), str(uid), paths[uid], frame)


def _most_probable(connection: sa.Connection, analysis: RequestedAnalysis, label: str) -> str:
    wanted = {"analysis_id": analysis.id, "label": label, "scope": "image"}
    rows = rows_of(connection, "v_findings", order_by="probability", limit=1, equals=wanted)
    return f", such as its most probable one: {rows[0]['sop_instance_uid']}" if rows else ""


def _analysis(
    connection: sa.Connection, text: str, model: str | None
) -> tuple[Mapping[str, Any], str | None]:
    """Return the row of the analysis, and the image if one was named."""
    if _ID.fullmatch(text) and (rows := _by_id(connection, text)):
        return _only(text, rows, model), None
    uid = whole_uid(connection, text, _NAMED)
    for column in ("study_instance_uid", "series_instance_uid"):
        if rows := _done(connection, column, uid):
            return _only(text, rows, model), None
    objects = rows_of(
        connection, "v_objects", order_by="object_id", equals={"sop_instance_uid": uid}
    )
    if objects:
        return _only(text, _done(connection, "analysis_id", objects[0]["analysis_id"]), model), None
    images = rows_of(
        connection, "v_instances", order_by="revision", equals={"sop_instance_uid": uid}
    )
    if images and (
        rows := _done(connection, "series_instance_uid", images[0]["series_instance_uid"])
    ):
        return _only(text, rows, model), uid
    raise DeployError(
        f"{text} is no file, and no analysis, study, series, result object or image of this node "
        "that was read"
    )


def _by_id(connection: sa.Connection, text: str) -> list[dict[str, Any]]:
    times = view("v_turnaround")
    query = sa.select(times).where(
        times.c.analysis_id.startswith(text, autoescape=True), times.c.state == "done"
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def _done(connection: sa.Connection, column: str, value: str) -> list[dict[str, Any]]:
    """Return the analyses that are done; of a series those that no newer one replaced."""
    wanted = {column: value, "state": "done"}
    rows = rows_of(connection, "v_turnaround", order_by="requested_at", equals=wanted)
    return rows if column == "analysis_id" else [row for row in rows if row["is_current"]]


def _only(text: str, rows: Sequence[Mapping[str, Any]], model: str | None) -> Mapping[str, Any]:
    meant = [row for row in rows if model is None or row["model_name"] == model]
    if len(meant) == 1:
        return meant[0]
    listed = ", ".join(f"{row['analysis_id'][:12]} ({row['model_name']})" for row in rows)
    if not meant:
        raise DeployError(f"{text} was not read by {model}; analyses: {listed or 'none'}")
    raise DeployError(f"{text} has {len(meant)} analyses; explain one: {listed}")


def _finding(
    connection: sa.Connection, analysis: RequestedAnalysis, label: str | None, image: str | None
) -> Mapping[str, Any]:
    """Return the finding that is meant: of an image what is said of it, else the surest."""
    rows = rows_of(
        connection, "v_findings", order_by="finding_id", equals={"analysis_id": analysis.id}
    )
    known = list(dict.fromkeys(str(row["label"]) for row in reversed(rows)))
    mine = [row for row in rows if label is None or row["label"].lower() == label.lower()]
    if not mine:
        raise DeployError(
            f"analysis {analysis.id[:12]} has no finding {label}; its findings: {', '.join(known)}"
        )
    of_image = [row for row in mine if row["sop_instance_uid"] == image]
    wider = [row for row in mine if row["scope"] != "image"]

    def surest(row: Mapping[str, Any]) -> tuple[int, float, int]:
        return -_RANK.index(row["presence"]), float(row["probability"]), -int(row["finding_id"])

    return max((of_image if image else []) or wider or mine, key=surest)
