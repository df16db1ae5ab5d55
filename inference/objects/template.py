"""The template that every report of ours must satisfy: TID 1500 as far as Preread uses it.

The standard's template is extensible; this one is closed: what stands here is what may be written,
in this order, so that a slip in the builder cannot leave the house.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from .. import codes
from ..reading import Code

MANY: Final = 10_000

# A tree has thousands of codes, and looking up a keyword takes three times as long as a tag.
_NAME, _CONCEPT = Tag("ConceptNameCodeSequence"), Tag("ConceptCodeSequence")
_CODE: Final = (Tag("CodeValue"), Tag("CodingSchemeDesignator"), Tag("CodeMeaning"))


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a template (PS3.16 6.1).

    Attributes
    ----------
    relationship, value_type : str
        As in the data set; a value type of "*" is any.
    name : Code or None
        Concept name; None is any.
    least, most : int
        Value multiplicity.
    values : tuple of Code
        Permitted values of a CODE; empty is any.
    children : tuple of Row
        What may stand below; closed.
    """

    relationship: str
    value_type: str
    name: Code | None
    least: int = 1
    most: int = 1
    values: tuple[Code, ...] = ()
    children: tuple[Row, ...] = ()

    def __str__(self) -> str:
        name = "any concept" if self.name is None else self.name.meaning
        return f"{self.relationship} {self.value_type} {name}"

    def fits(self, relationship: str, value_type: str, name: Code | None) -> bool:
        """Tell whether a content item with this concept name is meant by this row."""
        return (
            self.relationship == relationship
            and self.value_type in ("*", value_type)
            and self.name in (None, name)
        )


def concept_name(item: Dataset) -> Code | None:
    """Return the concept name of a content item."""
    return _first_code(item, _NAME)


def concept_value(item: Dataset) -> Code | None:
    """Return the value of a CODE content item."""
    return _first_code(item, _CONCEPT)


def violations(item: Dataset, rows: tuple[Row, ...], path: str = "") -> Iterator[str]:
    """Yield what of the content below `item` is missing, too much, misplaced or unknown."""
    counts = dict.fromkeys(range(len(rows)), 0)
    reached = 0
    for child in item.get("ContentSequence") or ():
        relationship, value_type = child.get("RelationshipType"), child.get("ValueType")
        name = concept_name(child)
        fitting = [n for n, row in enumerate(rows) if row.fits(relationship, value_type, name)]
        # A row that names the concept comes before one that takes any.
        index = next((n for n in fitting if rows[n].name is not None), next(iter(fitting), None))
        here = f"{path}/{'unnamed' if name is None else name.meaning}"
        if index is None:
            yield f"{here}: {relationship} {value_type} has no place here"
            continue
        if index < reached:
            yield f"{here}: stands after {rows[reached]}"
        reached = max(reached, index)
        counts[index] += 1
        row = rows[index]
        if row.values and concept_value(child) not in row.values:
            yield f"{here}: {concept_value(child)} is no permitted value"
        yield from violations(child, row.children, here)
    for index, count in counts.items():
        if not rows[index].least <= count <= rows[index].most:
            yield f"{path or '/'}: {count} times {rows[index]}"


def _first_code(item: Dataset, tag: BaseTag) -> Code | None:
    if tag not in item or not (sequence := item[tag].value):
        return None
    first = sequence[0]
    return Code(*[_text(first, word) for word in _CODE])


def _text(item: Dataset, tag: BaseTag) -> str:
    """Return a short text; of what was built, as most is, without pydicom's detours."""
    element = item.get_item(tag)
    if isinstance(element, DataElement):
        return str(element.value)
    return "" if element is None else str(item[tag].value)


_CONTAINS, _MODIFIES = "CONTAINS", "HAS CONCEPT MOD"
_OBSERVES, _ACQUIRES = "HAS OBS CONTEXT", "HAS ACQ CONTEXT"

LIBRARY: Final = (
    Row(_CONTAINS, "CONTAINER", codes.IMAGE_LIBRARY_GROUP, most=MANY, children=(
        Row(_CONTAINS, "IMAGE", codes.SOURCE, most=MANY, children=(
            Row(_ACQUIRES, "*", None, least=0, most=MANY),
        )),
    )),
)  # fmt: skip

GROUP: Final = (
    Row(_OBSERVES, "TEXT", codes.TRACKING_IDENTIFIER),
    Row(_OBSERVES, "UIDREF", codes.TRACKING_UID),
    Row(_CONTAINS, "CODE", codes.FINDING, least=0),
    Row(_MODIFIES, "CODE", codes.FINDING_SITE, least=0),
    Row(_MODIFIES, "TEXT", codes.ALGORITHM_NAME),
    Row(_MODIFIES, "TEXT", codes.ALGORITHM_VERSION),
    Row(_MODIFIES, "TEXT", codes.ALGORITHM_MANUFACTURER),
    Row(_MODIFIES, "TEXT", codes.ALGORITHM_PARAMETERS, least=3, most=3),
    Row(_MODIFIES, "CODE", codes.ALGORITHM_FAMILY, values=(codes.ARTIFICIAL_INTELLIGENCE,)),
    Row(_CONTAINS, "NUM", codes.PROBABILITY, children=(
        Row(_MODIFIES, "CODE", codes.FINDING),
    )),
    Row(_CONTAINS, "NUM", codes.VOLUME, least=0, children=(
        Row(_MODIFIES, "CODE", codes.FINDING),
    )),
    Row(_CONTAINS, "CODE", None, values=tuple(codes.PRESENCE.values())),
    Row(_CONTAINS, "IMAGE", codes.SOURCE_OF_MEASUREMENT, least=0, most=MANY),
    Row(_CONTAINS, "IMAGE", codes.ILLUSTRATION, least=0, most=MANY),
)  # fmt: skip

EVALUATIONS: Final = (
    Row(_CONTAINS, "CODE", codes.SUMMARY_OF_ANALYSES, least=0, values=(codes.NOT_ATTEMPTED,)),
    Row(_CONTAINS, "CODE", codes.REASON_NOT_ANALYSED, least=0,
        values=tuple(codes.NOT_ANALYSED.values())),
    Row(_CONTAINS, "TEXT", codes.CONCLUSION, most=MANY),
    Row(_CONTAINS, "TEXT", codes.COMMENT),
    Row(_CONTAINS, "IMAGE", None, least=0, most=MANY),
)  # fmt: skip

REPORT: Final = (
    Row(_MODIFIES, "CODE", codes.LANGUAGE, values=(codes.ENGLISH,)),
    Row(_OBSERVES, "CODE", codes.OBSERVER_TYPE, values=(codes.DEVICE,)),
    Row(_OBSERVES, "UIDREF", codes.DEVICE_UID),
    Row(_OBSERVES, "TEXT", codes.DEVICE_NAME),
    Row(_OBSERVES, "TEXT", codes.DEVICE_MANUFACTURER),
    Row(_OBSERVES, "TEXT", codes.DEVICE_MODEL),
    Row(_OBSERVES, "TEXT", codes.DEVICE_SERIAL),
    Row(_MODIFIES, "CODE", codes.PROCEDURE_REPORTED,
        values=(codes.CT_PROCEDURE, codes.IMAGING_PROCEDURE)),
    Row(_CONTAINS, "CONTAINER", codes.IMAGE_LIBRARY, children=LIBRARY),
    Row(_CONTAINS, "CONTAINER", codes.IMAGING_MEASUREMENTS, least=0, children=(
        Row(_CONTAINS, "CONTAINER", codes.MEASUREMENT_GROUP, most=MANY, children=GROUP),
    )),
    Row(_CONTAINS, "CONTAINER", codes.QUALITATIVE_EVALUATIONS, children=EVALUATIONS),
)  # fmt: skip

# TID 2010; PixelMed's validator allows no concept name on the references.
KEY_OBJECTS: Final = (
    Row(_CONTAINS, "TEXT", codes.KEY_OBJECT_DESCRIPTION),
    Row(_CONTAINS, "IMAGE", None, most=MANY),
    Row(_CONTAINS, "COMPOSITE", None, least=0, most=MANY),
)
