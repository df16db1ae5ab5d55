"""What a report of ours says of findings and images, read back from its tree for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from .. import codes
from ..reading import Code, Presence
from .template import concept_name, concept_value
from .text import text_value

_RANK: Final = {Presence.PRESENT: 2, Presence.UNDETERMINED: 1, Presence.ABSENT: 0}


@dataclass(frozen=True, slots=True)
class Listed:
    """One measurement group of a report.

    Attributes
    ----------
    label, site : str
        Meaning of the codes; no site is empty.
    presence : Presence or None
        None where a group says none.
    numbers : tuple of str
        Probability and volumes, with units.
    images : tuple of str
        SOP Instance UIDs of the key images.
    """

    label: str
    site: str
    presence: Presence | None
    numbers: tuple[str, ...]
    images: tuple[str, ...]

    @property
    def rank(self) -> int:
        """The higher, the more it calls for a look."""
        return -1 if self.presence is None else _RANK[self.presence]


def listed(report: Dataset) -> tuple[Listed, ...]:
    """Return the findings of a report in its order; none where nothing was analysed."""
    return tuple(
        _listed(list(group.get("ContentSequence") or ()))
        for container in named(children(report), codes.IMAGING_MEASUREMENTS)
        for group in named(children(container), codes.MEASUREMENT_GROUP)
    )


def title_of(finding: Listed, among: tuple[Listed, ...]) -> str:
    """Return the name of a finding, with its site where others of the same name have another."""
    is_shared = any(one.label == finding.label and one.site != finding.site for one in among)
    return (
        f"{finding.label} (site: {finding.site})" if is_shared and finding.site else finding.label
    )


def headline(report: Dataset) -> str:
    """Return Series Description (0008,103E) with the result: of the first finding, or how many.

    The first finding of a series of slices stands for the others; one that outranks it is named
    too, so that no heading says Absent over a finding that is there. A description that is not of
    the first finding, such as a model of eighteen labels, is followed by how many are what.
    """
    title = str(report.get("SeriesDescription") or "Report")
    found = listed(report)
    if not found:
        return title
    first = found[0]
    if title != f"AI unverified: {first.label}"[:64].rstrip():
        counts = Counter(one.presence for one in found)
        told = ", ".join(f"{counts[one]} {one}" for one in _RANK if counts[one])
        return f"{title} - {told}" if told else title
    # The same label in several films has a group for each: what is found in any is found.
    same = [one for one in found if (one.label, one.site) == (first.label, first.site)]
    most = max(same, key=lambda one: one.rank)
    above = dict.fromkeys(
        f"{title_of(one, found)} - {one.presence}" for one in found if one.rank > most.rank
    )
    return "; ".join((f"{title} - {most.presence or 'no result'}", *above))


def positions(report: Dataset) -> dict[str, float]:
    """Return where key images lie along the axis of their slices, in mm, by SOP Instance UID.

    It is Image Position (Patient) along the normal of the image (PS3.3 C.7.6.2.1.1), towards the
    head for axial slices, as captures have it; the image library (TID 1604) holds both. Images
    without are left out.
    """
    entries = (
        entry
        for library in named(children(report), codes.IMAGE_LIBRARY)
        for group in named(children(library), codes.IMAGE_LIBRARY_GROUP)
        for entry in children(group)
    )
    found = {}
    for entry in entries:
        numbers = {concept_name(one): _number(one) for one in children(entry)}
        place = [numbers.get(name) for name in (*codes.POSITION, *codes.ORIENTATION)]
        values = [value for value in place if value is not None]
        if len(values) == len(place):
            at, row, column = np.array(values).reshape(3, 3)
            normal = np.cross(row, column)
            sign = 1.0 if normal[np.argmax(np.abs(normal))] > 0 else -1.0
            found[text_value(entry)] = sign * float(normal @ at)
    return found


def children(item: Dataset) -> list[Dataset]:
    """Return the content items right below one."""
    return list(item.get("ContentSequence") or ())


def named(items: list[Dataset], name: Code) -> list[Dataset]:
    """Return the content items of a concept name."""
    return [item for item in items if concept_name(item) == name]


def texts(report: Dataset, name: Code) -> Iterator[str]:
    """Yield the sentences of a name among the qualitative evaluations."""
    for container in named(children(report), codes.QUALITATIVE_EVALUATIONS):
        for item in named(children(container), name):
            yield text_value(item)


def _listed(items: list[Dataset]) -> Listed:
    label, presence = "", None
    known = {code: name for name, code in codes.PRESENCE.items()}
    for item in items:
        value = concept_value(item)
        if value is not None and value in known:
            label, presence = _meaning(concept_name(item)), Presence(known[value])
    site = next((_meaning(concept_value(i)) for i in named(items, codes.FINDING_SITE)), "")
    probability = next((text_value(i) for i in named(items, codes.PROBABILITY)), "")
    return Listed(
        label,
        site,
        presence,
        (probability, *(text_value(i) for i in named(items, codes.VOLUME))),
        tuple(text_value(i) for i in named(items, codes.SOURCE_OF_MEASUREMENT)),
    )


def _meaning(code: Code | None) -> str:
    return "" if code is None else code.meaning


def _number(item: Dataset) -> float | None:
    for measured in item.get("MeasuredValueSequence") or ():
        value = measured.get("NumericValue")
        return None if value is None else float(value)
    return None
