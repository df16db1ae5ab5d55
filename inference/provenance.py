"""Which engine gave which finding. Light: no torch.

An image has the engine and the batch that it was computed with. A series may have been computed by
several (the GPU was lost half-way, the last batch was smaller): it has what computed most of its
rows, of two as frequent the first; all of them stand in its facts, ``made_with``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from .engines import MadeWith
from .reading import Reading, Scope


def with_engines(reading: Reading, uids: Sequence[str], made: Sequence[MadeWith]) -> Reading:
    """Return a reading of which each finding says what computed it.

    Parameters
    ----------
    reading : Reading
    uids : sequence of str
        SOP Instance UID of each row, or of none where rows are no images.
    made : sequence of MadeWith
        What computed each row; empty where that is not known.
    """
    if not made:
        return reading
    whole = most_of(made)
    by_image: dict[str, list[MadeWith]] = {}
    for uid, one in zip(uids, made, strict=False):
        by_image.setdefault(uid, []).append(one)
    findings = tuple(
        replace(
            found,
            made_with=most_of(by_image.get(str(found.sop_instance_uid), made))
            if found.scope is Scope.IMAGE
            else whole,
        )
        for found in reading.findings
    )
    listed = [{**one.facts, "rows": rows} for one, rows in Counter(made).items()]
    return replace(reading, findings=findings, facts={**reading.facts, "made_with": listed})


def most_of(made: Iterable[MadeWith]) -> MadeWith:
    """Return what stands most often, of several the first."""
    return Counter(made).most_common(1)[0][0]
