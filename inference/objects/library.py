"""TID 1600 Image Library: the key images and how they lie, as far as their headers tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """
    library = _container(codes.IMAGE_LIBRARY)
    groups: dict[str, ContainerContentItem] = {}
    for image in images:
        frame = _frame_of_reference(image)
        if frame not in groups:
            groups[frame] = _container(codes.IMAGE_LIBRARY_GROUP)
            library.ContentSequence.append(groups[frame])
        groups[frame].ContentSequence.append(_entry(image))
    return library


def _container(name: Code) -> ContainerContentItem:
    item = ContainerContentItem(concept(name), relationship_type=_CONTAINS)
    item.ContentSequence = ContentSequence()
    return item


def _entry(image: Dataset) -> ImageContentItem:
    item = ImageContentItem(
        name=concept(codes.SOURCE),
        referenced_sop_class_uid=image.SOPClassUID,
        referenced_sop_instance_uid=image.SOPInstanceUID,
        relationship_type=_CONTAINS,
    )
    descriptors = list(_descriptors(image))
    if descriptors:
        item.ContentSequence = ContentSequence(descriptors)
    return item


def _descriptors(image: Dataset) -> Iterator[ContentItem]:
    """TID 1602, and the parts of TID 1603 and 1604 that the image has."""
    modality = codes.MODALITIES.get(str(image.get("Modality") or ""))
    if modality is not None:
        yield CodeContentItem(concept(codes.MODALITY), concept(modality), _HAS_ACQ_CONTEXT)
    if frame := _frame_of_reference(image):
        yield UIDRefContentItem(concept(codes.FRAME_OF_REFERENCE), frame, _HAS_ACQ_CONTEXT)
    yield from _numbers(image, "Rows", (codes.ROWS,), codes.PIXELS)
    yield from _numbers(image, "Columns", (codes.COLUMNS,), codes.PIXELS)
    yield from _patient_orientation(image)
    yield from _spacing(image)
    yield from _numbers(image, "SliceThickness", (codes.SLICE_THICKNESS,), codes.MILLIMETRE)
    yield from _numbers(image, "ImagePositionPatient", codes.POSITION, codes.MILLIMETRE)
    yield from _numbers(image, "ImageOrientationPatient", codes.ORIENTATION, codes.COSINE)


def _frame_of_reference(image: Dataset) -> str:
    """Return the UID; nothing for one that breaks PS3.5 9.1, such as with a leading zero."""
    uid = str(image.get("FrameOfReferenceUID") or "")
    return uid if UID(uid).is_valid else ""


def _spacing(image: Dataset) -> list[NumContentItem]:
    """Horizontal, then vertical; the attribute has them the other way round (PS3.3 10.7.1.3)."""
    pair = (codes.VERTICAL_SPACING, codes.HORIZONTAL_SPACING)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        found = list(_numbers(image, keyword, pair, codes.MILLIMETRE))
        if found and all(item.value > 0 for item in found):
            return found[::-1]
    return []


def _numbers(
    image: Dataset, keyword: str, names: tuple[Code, ...], unit: Code
) -> Iterator[NumContentItem]:
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
        yield NumContentItem(
            concept(name), exact, concept(unit), relationship_type=_HAS_ACQ_CONTEXT
        )


def _patient_orientation(image: Dataset) -> Iterator[TextContentItem]:
    directions = image.get("PatientOrientation")
    if not isinstance(directions, MultiValue) or len(directions) != 2:
        return
    for name, text in zip(
        (codes.ORIENTATION_ROW, codes.ORIENTATION_COLUMN), directions, strict=True
    ):
        if text:
            yield TextContentItem(concept(name), str(text), _HAS_ACQ_CONTEXT)
