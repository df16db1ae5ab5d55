"""Explanations as rows of the database, and back. Light: no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from db.explanations import ExplanationRecord

from .errors import InferenceError
from .explanation import Explanation, Method, unpacked


def record_of(
    explanation: Explanation, sop_instance_uid: str, frame: int, window: str = ""
) -> ExplanationRecord:
    """Return an explanation as it is stored: some hundred bytes for a coarse map.

    Parameters
    ----------
    explanation : Explanation
    sop_instance_uid : str
        Of the image.
    frame : int
        From 0.
    window : str
        How the image was windowed for a person, as of `Illustration`.
    """
    rows, columns = explanation.levels.shape
    high, wide = explanation.cell_mm or (None, None)
    placement = {
        "source": explanation.source,
        "extent": explanation.extent,
        "seen": explanation.seen,
        "spacing_mm": explanation.spacing_mm,
        "window": window,
    }
    return ExplanationRecord(
        label=explanation.label,
        sop_instance_uid=sop_instance_uid,
        frame=frame,
        method=str(explanation.method),
        parameters=json.dumps(dict(explanation.parameters), sort_keys=True),
        map_rows=rows,
        map_columns=columns,
        placement=json.dumps(placement),
        cell_height_mm=high,
        cell_width_mm=wide,
        map=explanation.packed(),
    )


def explanation_of(record: ExplanationRecord) -> Explanation:
    """Return an explanation as it was stored.

    Raises
    ------
    InferenceError
        If the row is damaged.
    """
    try:
        placement = json.loads(record.placement)
        spacing = placement["spacing_mm"]
        rows, columns = _numbers(placement["source"], 2, least=1)
        top, left, bottom, right = _numbers(placement["extent"], 4)
        first, begin, last, end = _numbers(placement["seen"], 4, least=0)
        if min(record.map_rows, record.map_columns) < 1 or bottom <= top or right <= left:
            raise ValueError("a map covers something")
        return Explanation(
            label=record.label,
            method=Method(record.method),
            levels=unpacked(record.map, (record.map_rows, record.map_columns)),
            source=(int(rows), int(columns)),
            extent=(top, left, bottom, right),
            seen=(int(first), int(begin), int(last), int(end)),
            parameters=dict(json.loads(record.parameters)),
            spacing_mm=None if spacing is None else _pair(spacing),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InferenceError(
            f"the stored map of {record.label} ({record.method}) is damaged: make it again with "
            f"preread explain ({type(error).__name__})"
        ) from None


def _numbers(raw: Sequence[float], count: int, least: float = -math.inf) -> list[float]:
    """Return so many numbers, none of them below the least; ValueError if they are not so."""
    numbers = [float(one) for one in raw]
    if len(numbers) != count or not all(math.isfinite(one) and one >= least for one in numbers):
        raise ValueError(f"{count} numbers are wanted")
    return numbers


def _pair(raw: Sequence[float]) -> tuple[float, float]:
    down, across = _numbers(raw, 2, least=0)
    return down, across


def window_of(record: ExplanationRecord) -> str:
    """Return how the image was windowed; empty if nobody knows."""
    try:
        return str(json.loads(record.placement).get("window", ""))
    except (AttributeError, ValueError):
        return ""
