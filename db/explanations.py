"""Maps of where models looked, stored with their analyses. What they mean is for who made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .schema import AnalysisInstance, Explanation, Finding, Instance

_KEY = ("analysis_id", "label", "sop_instance_uid", "frame", "method")


@dataclass(frozen=True, slots=True)
class ExplanationRecord:
    """A map as it is stored.

    Attributes
    ----------
    frame : int
        From 0.
    parameters, placement : str
        JSON.
    map_rows, map_columns : int
        Cells of the map.
    cell_height_mm, cell_width_mm : float or None
        Of one cell, where the image says how large its pixels are.
    map : bytes
        Its cells, compressed.
    """

    label: str
    sop_instance_uid: str
    frame: int
    method: str
    parameters: str
    map_rows: int
    map_columns: int
    placement: str
    cell_height_mm: float | None
    cell_width_mm: float | None
    map: bytes


def keep(
    connection: sa.Connection,
    analysis_id: str,
    records: Sequence[ExplanationRecord],
    now: datetime,
) -> None:
    """Keep maps of an analysis, each instead of one of the same label, frame and method."""
    if not records:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    new = insert(Explanation)
    changed = {
        column.name: new.excluded[column.name]
        for column in Explanation.__table__.columns
        if column.name not in (*_KEY, "id")
    }
    statement = new.on_conflict_do_update(index_elements=list(_KEY), set_=changed)
    rows = [
        {
            **asdict(one),
            "analysis_id": analysis_id,
            "size_bytes": len(one.map),
            "created_at": now,
        }
        for one in records
    ]
    connection.execute(statement, rows)


def of_analysis(connection: sa.Connection, analysis_id: str) -> list[ExplanationRecord]:
    """Return the maps of an analysis, in the order in which they were made first."""
    columns = [getattr(Explanation, one.name) for one in fields(ExplanationRecord)]
    query = sa.select(*columns).where(Explanation.analysis_id == analysis_id)
    return [ExplanationRecord(*row) for row in connection.execute(query.order_by(Explanation.id))]


def meanings(connection: sa.Connection, analysis_id: str) -> dict[str, str]:
    """Return what people call the labels of an analysis: the meanings of their codes.

    Labels of one meaning, such as of two sites, keep their own name behind it.
    """
    named = sa.select(Finding.label, Finding.code_meaning).where(Finding.analysis_id == analysis_id)
    found = {row.label: row.code_meaning for row in connection.execute(named.distinct())}
    often = Counter(found.values())
    return {
        label: f"{meaning} ({label})" if often[meaning] > 1 else meaning
        for label, meaning in found.items()
    }


def image_path(connection: sa.Connection, analysis_id: str, sop_instance_uid: str) -> str | None:
    """Return the path of an image as an analysis was given it; None if it is not there.

    Other bytes may have come under its UID before or since: a map of these lies on no others.
    """
    path: str | None = connection.execute(
        sa.select(Instance.path)
        .join(AnalysisInstance, AnalysisInstance.instance_id == Instance.id)
        .where(
            AnalysisInstance.analysis_id == analysis_id,
            Instance.sop_instance_uid == sop_instance_uid,
            Instance.missing_at.is_(None),
        )
        # Of several the first is read that can be.
        .order_by(Instance.id)
        .limit(1)
    ).scalar()
    return path
