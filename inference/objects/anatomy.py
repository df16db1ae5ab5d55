"""From an image's header: body region, directions, planes and loss, as objects of pixels need."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from ..functional_groups import element, frame_element, numbers

_CODE_STRING: Final = re.compile(r"[A-Z0-9 _]{1,16}")
_DIRECTION: Final = re.compile(r"[LRAPHF]{1,3}")
_LETTERS: Final = ("LR", "PA", "HF")  # towards + and - of x, y, z (PS3.3 C.7.6.2.1.1)
_OBLIQUE: Final = 0.2  # a smaller share of a direction is not worth a letter

# Defined terms of Body Part Examined (PS3.16 Annex L) for parts that are not one of a pair.
UNPAIRED: Final = frozenset(
    {
        "ABDOMEN", "ABDOMENPELVIS", "AORTA", "BACK", "BLADDER", "BRAIN", "CEREBELLUM", "CERVIX",
        "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "CIRCLEOFWILLIS", "COCCYX", "COLON",
        "CORONARYARTERY", "CSPINE", "CTSPINE", "DUODENUM", "ESOPHAGUS", "FACE", "GALLBLADDER",
        "HEAD", "HEADNECK", "HEART", "ILEUM", "ILIUM", "JAW", "JEJUNUM", "LARYNX", "LIVER",
        "LSPINE", "LSSPINE", "MAXILLA", "MEDIASTINUM", "MOUTH", "NECK", "NECKCHEST",
        "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "NOSE", "PANCREAS", "PELVIS", "PENIS", "PHARYNX",
        "PROSTATE", "RECTUM", "SCALP", "SKULL", "SPINE", "SPLEEN", "SSPINE", "STERNUM", "STOMACH",
        "THYMUS", "THYROID", "TLSPINE", "TONGUE", "TRACHEA", "TSPINE", "WHOLEBODY",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one frame lies (PS3.3 C.7.6.2).

    Attributes
    ----------
    position : tuple of float
        Image Position (Patient), 3 values in mm.
    orientation : tuple of float
        Image Orientation (Patient), 6 cosines.
    spacing : tuple of float
        Between rows, between columns; mm.
    thickness : float or None
        Slice Thickness in mm.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None

    @property
    def depth(self) -> float:
        """Position along the normal, in mm."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        return float(np.cross(row, column) @ np.array(self.position))


def plane(image: Dataset, frame: int) -> Plane | None:
    """Return where a frame lies, or None where its header does not tell all of it."""
    found = {
        keyword: numbers(frame_element(image, frame, group, keyword), count)
        for keyword, group, count in (
            ("ImagePositionPatient", "PlanePositionSequence", 3),
            ("ImageOrientationPatient", "PlaneOrientationSequence", 6),
            ("PixelSpacing", "PixelMeasuresSequence", 2),
            ("SliceThickness", "PixelMeasuresSequence", 1),
        )
    }
    position, orientation = found["ImagePositionPatient"], found["ImageOrientationPatient"]
    spacing, thickness = found["PixelSpacing"], found["SliceThickness"]
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        return None
    return Plane(position, orientation, spacing, thickness[0] if thickness else None)


def orientation(image: Dataset, frame: int) -> list[str] | None:
    """Return Patient Orientation (0020,0020): Type 2, so None writes it empty.

    It is taken over where the image has it, and told from the cosines of a slice where not.
    """
    told = element(image, "PatientOrientation")
    if isinstance(told, MultiValue) and len(told) == 2:
        letters = [str(one) for one in told]
        return letters if all(map(_DIRECTION.fullmatch, letters)) else None
    cosines = numbers(
        frame_element(image, frame, "PlaneOrientationSequence", "ImageOrientationPatient"), 6
    )
    if cosines is None:
        return None
    letters = [_letters(cosines[:3]), _letters(cosines[3:])]
    return letters if all(letters) else None


def _letters(direction: tuple[float, ...]) -> str:
    strongest = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    kept = [axis for axis in strongest if abs(direction[axis]) >= _OBLIQUE]
    return "".join(_LETTERS[axis][direction[axis] < 0] for axis in kept)


def body_part(image: Dataset) -> Dataset:
    """Return Body Part Examined (0018,0015) of an image's series, where it has a legal one."""
    found = Dataset()
    part = str(element(image, "BodyPartExamined") or "").strip()
    if _CODE_STRING.fullmatch(part):
        found.BodyPartExamined = part
    return found


def side(image: Dataset) -> Dataset:
    """Return Laterality (0020,0060) of an image's series.

    It is Type 2C (PS3.3 C.7.3.1): absent for parts that have no pair, empty where a part may have
    one and the source does not tell the side.
    """
    found = Dataset()
    if body_part(image).get("BodyPartExamined") not in UNPAIRED:
        told = element(image, "Laterality")
        found.Laterality = told if told in ("L", "R") else None
    return found


def lossy(image: Dataset) -> Dataset:
    """Return what tells that an image was once compressed with loss (PS3.3 C.7.6.1.1.5)."""
    found = Dataset()
    if element(image, "LossyImageCompression") == "01":
        for keyword in (
            "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
        ):  # fmt: skip
            if element(image, keyword) is not None:
                found.add(copy.deepcopy(image[keyword]))
    return found
