"""TID 1600 Image Library: the key images and how they lie, as far as their headers tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import isfinite

from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from .. import codes
from ..reading import Code
from .concepts import concept

_CONTAINS = RelationshipTypeValues.CONTAINS
_HAS_ACQ_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT


def image_library(images: Sequence[Dataset]) -> ContainerContentItem:
    """Return the library of `images`, grouped by frame of reference (TID 1600, 1601).

    highdicom's own library refuses a radiograph without spacing or a CT without position; here an
    image without them is listed without them, since every descriptor is optional.

    Slices of a series differ in their position only: what they have in common is one and the same
    content item in the entries of all.
    """
    library, known = _container(codes.IMAGE_LIBRARY), _Known()
    groups: dict[str, ContainerContentItem] = {}
    for image in images:
        frame = _frame_of_reference(image)
        if frame not in groups:
            groups[frame] = _container(codes.IMAGE_LIBRARY_GROUP)
            library.ContentSequence.append(groups[frame])
        groups[frame].ContentSequence.append(_entry(image, known))
    return library


class _Known:
    """Descriptors by what they say, each made once."""

    def __init__(self) -> None:
        self._items: dict[tuple[Code, str], ContentItem] = {}

    def one(self, name: Code, value: object, make: Callable[[], ContentItem]) -> ContentItem:
        """Return the descriptor of this name and value."""
        key = name, repr(value)
        if key not in self._items:
            self._items[key] = make()
        return self._items[key]


def _container(name: Code) -> ContainerContentItem:
    item = ContainerContentItem(concept(name), relationship_type=_CONTAINS)
    item.ContentSequence = ContentSequence()
    return item


def _entry(image: Dataset, known: _Known) -> ImageContentItem:
    item = ImageContentItem(
        name=concept(codes.SOURCE),
        referenced_sop_class_uid=image.SOPClassUID,
        referenced_sop_instance_uid=image.SOPInstanceUID,
        relationship_type=_CONTAINS,
    )
    descriptors = list(_descriptors(image, known))
    if descriptors:
        item.ContentSequence = ContentSequence(descriptors)
    return item


def _descriptors(image: Dataset, known: _Known) -> Iterator[ContentItem]:
    """TID 1602, and the parts of TID 1603 and 1604 that the image has."""
    modality = codes.MODALITIES.get(str(image.get("Modality") or ""))
    if modality is not None:
        yield known.one(
            codes.MODALITY,
            modality,
            lambda: CodeContentItem(concept(codes.MODALITY), concept(modality), _HAS_ACQ_CONTEXT),
        )
    if frame := _frame_of_reference(image):
        name = codes.FRAME_OF_REFERENCE
        yield known.one(
            name, frame, lambda: UIDRefContentItem(concept(name), frame, _HAS_ACQ_CONTEXT)
        )
    yield from _numbers(image, known, "Rows", (codes.ROWS,), codes.PIXELS)
    yield from _numbers(image, known, "Columns", (codes.COLUMNS,), codes.PIXELS)
    yield from _patient_orientation(image, known)
    yield from _spacing(image, known)
    yield from _numbers(image, known, "SliceThickness", (codes.SLICE_THICKNESS,), codes.MILLIMETRE)
    yield from _numbers(image, known, "ImagePositionPatient", codes.POSITION, codes.MILLIMETRE)
    yield from _numbers(image, known, "ImageOrientationPatient", codes.ORIENTATION, codes.COSINE)


def _frame_of_reference(image: Dataset) -> str:
    """Return the UID; nothing for one that breaks PS3.5 9.1, such as with a leading zero."""
    uid = str(image.get("FrameOfReferenceUID") or "")
    return uid if UID(uid).is_valid else ""


def _spacing(image: Dataset, known: _Known) -> list[ContentItem]:
    """Horizontal, then vertical; the attribute has them the other way round (PS3.3 10.7.1.3)."""
    pair = (codes.VERTICAL_SPACING, codes.HORIZONTAL_SPACING)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        found = list(_numbers(image, known, keyword, pair, codes.MILLIMETRE))
        if found and all(item.value > 0 for item in found):
            return found[::-1]
    return []


def _numbers(
    image: Dataset, known: _Known, keyword: str, names: tuple[Code, ...], unit: Code
) -> Iterator[ContentItem]:
    """One NUM per value of an attribute, or none unless it has all the values, finite."""
    value = image.get(keyword)
    listed = [] if value is None or value == "" else value if len(names) > 1 else [value]
    try:
        numbers = [float(number) for number in listed]
    except (TypeError, ValueError):
        return
    if len(numbers) != len(names) or not all(map(isfinite, numbers)):
        return
    for name, number in zip(names, numbers, strict=True):
        exact = int(number) if unit is codes.PIXELS else number
        yield known.one(name, exact, partial(_number, name, exact, unit))


def _number(name: Code, value: float, unit: Code) -> NumContentItem:
    return NumContentItem(concept(name), value, concept(unit), relationship_type=_HAS_ACQ_CONTEXT)


def _patient_orientation(image: Dataset, known: _Known) -> Iterator[ContentItem]:
    directions = image.get("PatientOrientation")
    if not isinstance(directions, MultiValue) or len(directions) != 2:
        return
    for name, text in zip(
        (codes.ORIENTATION_ROW, codes.ORIENTATION_COLUMN), directions, strict=True
    ):
        if text:
            yield known.one(name, text, partial(_text, name, str(text)))


def _text(name: Code, text: str) -> TextContentItem:
    return TextContentItem(concept(name), text, _HAS_ACQ_CONTEXT)
