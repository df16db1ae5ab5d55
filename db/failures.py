"""Analyses that failed: what somebody has to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from .schema import Analysis, AnalysisState

# For a row that has no code, though all that we write have one.
_UNCODED = "error"


def failed_since(connection: sa.Connection, since: datetime) -> Mapping[str, int]:
    """Return how many analyses failed since then and were not brought to an end later.

    Returns
    -------
    mapping of str to int
        By reason code, the most frequent first.
    """
    query = (
        sa.select(Analysis.reason_code, sa.func.count())
        .where(Analysis.state == AnalysisState.FAILED, Analysis.finished_at >= since)
        .group_by(Analysis.reason_code)
    )
    found: Counter[str] = Counter()
    for code, number in connection.execute(query):
        found[code or _UNCODED] += number
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))
