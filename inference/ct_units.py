"""Whether the values of a CT image are Hounsfield units, by what its header says of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom import Dataset

from .errors import NotAnalysableError
from .functional_groups import element, frame_element, frame_holder, items
from .pixel_notes import PixelNote
from .reading import NotAnalysed

# Terms of Rescale Type (PS3.3 C.11.1.1.2) that are no Hounsfield units. HU_MOD are units of which
# the part of a material was taken away: an iodine map that lost its iodine, and maybe a bleed.
_OTHER_UNITS = ("OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")
_HOUNSFIELD = ("", "HU")
# Value 4 of Image Type (PS3.3 C.8.2.1.1.1) of images that were computed from several energies;
# VMI, a virtual monoenergetic image, is not among them: its values are Hounsfield units.
_OTHER_IMAGES = (
    "MAT_SPECIFIC",
    "MAT_REMOVED",
    "MAT_FRACTIONAL",
    "MAT_VALUE_BASED",
    "MAT_MODIFIED",
    "EFF_ATOMIC_NUM",
    "ELECTRON_DENSITY",
)


def check_units(dataset: Dataset, frame: int) -> tuple[str, ...]:
    """Refuse a frame whose values are declared to be something else.

    Returns
    -------
    tuple of str
        ``rescale_type_ignored`` where Rescale Type is US (unspecified) or no term of the standard:
        values of a CT image are then taken for Hounsfield units, as without it.

    Raises
    ------
    NotAnalysableError
        UNSUPPORTED_PIXELS.
    """
    kind = frame_element(dataset, frame, "CTImageFrameTypeSequence", "FrameType")
    if found := _words(kind or element(dataset, "ImageType")) & set(_OTHER_IMAGES):
        raise _no_units(f"Image Type (0008,0008) says {', '.join(sorted(found))}")
    unit = _unit(dataset, frame)
    if unit in _OTHER_UNITS:
        raise _no_units(f"Rescale Type (0028,1054) says {unit}")
    return () if unit in _HOUNSFIELD else (PixelNote.RESCALE_TYPE_IGNORED,)


def _unit(dataset: Dataset, frame: int) -> str:
    luts = items(dataset, "ModalityLUTSequence")
    if luts:
        value = element(luts[0], "ModalityLUTType")
    else:
        group = "PixelValueTransformationSequence"
        value = element(frame_holder(dataset, frame, group, "RescaleType"), "RescaleType")
    return str(value or "").strip().upper()


def _words(value: Any) -> set[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return {str(value)}
    return {str(one) for one in value}


def _no_units(reason: str) -> NotAnalysableError:
    return NotAnalysableError(
        NotAnalysed.UNSUPPORTED_PIXELS, f"the values are no Hounsfield units: {reason}"
    )
