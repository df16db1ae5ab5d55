"""What a model says about images: the values that pass between readers, database and objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from db.finding_words import Presence, Scope

if TYPE_CHECKING:
    from .engines import MadeWith
    from .explanation import Explanation
    from .stored_facts import StoredFacts


class NotAnalysed(StrEnum):
    """Why images were not analysed."""

    WRONG_VIEW = "wrong_view"
    WRONG_BODY_PART = "wrong_body_part"
    WRONG_MODALITY = "wrong_modality"
    TOO_FEW_SLICES = "too_few_slices"
    MISSING_SLICES = "missing_slices"
    DUPLICATE_SLICES = "duplicate_slices"
    UNEVEN_SPACING = "uneven_spacing"
    NO_GEOMETRY = "no_geometry"
    CONTRAST = "contrast"
    KERNEL = "kernel"
    NOT_AN_IMAGE = "not_an_image"
    NOT_A_PATIENT = "not_a_patient"
    UNDECODABLE = "undecodable"
    UNSUPPORTED_PIXELS = "unsupported_pixels"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 8.8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Absent below `low`, Present from `high` on, Undetermined between; 0 <= low <= high <= 1."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise ValueError(f"thresholds need 0 <= low <= high <= 1, not {self.low}, {self.high}")

    def presence(self, probability: float) -> Presence:
        """Return what `probability` (0 to 1) means."""
        if probability >= self.high:
            return Presence.PRESENT
        return Presence.ABSENT if probability < self.low else Presence.UNDETERMINED


@dataclass(frozen=True, slots=True)
class Label:
    """One output of a model: its name in the database, its code, its site and its thresholds.

    Attributes
    ----------
    anatomy : bool
        Whether it is a part of the body, such as an organ, and no abnormality.
    """

    name: str
    code: Code
    thresholds: Thresholds
    site: Code | None = None
    anatomy: bool = False


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model it was. `weights_sha256` is the digest of the weights file."""

    name: str
    version: str
    weights_sha256: str
    manufacturer: str = "Preread"


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A stored SOP instance that a reader is given.

    Attributes
    ----------
    facts : StoredFacts or None
        What was written down of its file; without, the file is asked.
    """

    instance_id: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: Path
    facts: StoredFacts | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """One label at one scope.

    Attributes
    ----------
    probability : float
        0 to 1.
    sop_instance_uid : str or None
        The image spoken of, where `scope` is IMAGE.
    key_sop_instance_uids : tuple of str
        The images that show it best, best first; empty when nothing is shown.
    made_with : MadeWith or None
        What computed it (`provenance`); no part of what makes two findings equal.
    """

    label: Label
    scope: Scope
    probability: float
    sop_instance_uid: str | None = None
    key_sop_instance_uids: tuple[str, ...] = ()
    made_with: MadeWith | None = field(default=None, compare=False, repr=False)

    @property
    def presence(self) -> Presence:
        """What the probability means under the label's thresholds."""
        return self.label.thresholds.presence(self.probability)


@dataclass(frozen=True, slots=True, eq=False)
class Illustration:
    """One key image as a person sees it, and where the model looked.

    Attributes
    ----------
    sop_instance_uid : str
        The image.
    frame : int
        From 0.
    pixels : ndarray of uint8, (rows, columns)
        The picture in the matrix of the source, windowed, black is 0 (as in MONOCHROME2).
    window : str
        What was windowed how, in ASCII, such as ``brain 40/80``; empty for a radiograph.
    pixel_aspect : float
        Height of a pixel over its width; 1 for a square one.
    saliency : ndarray of float32, (h, w), or None
        0 to 1, covering the whole picture at any resolution; None where the model shows none.
    labels : tuple of str
        Names of the labels that it is shown for; empty for a picture that shows no finding.
    position_mm : float or None
        Position of a slice along its normal.
    marked : ndarray of bool, (rows, columns), or None
        Where the masks of its labels are, in the matrix of the source; None where there are none.
        It is drawn in place of saliency.
    explanation : Explanation or None
        How the saliency was made, and as it is stored; None where nobody says.
    """

    sop_instance_uid: str
    frame: int
    pixels: NDArray[np.uint8]
    window: str = ""
    pixel_aspect: float = 1.0
    saliency: NDArray[np.float32] | None = None
    labels: tuple[str, ...] = ()
    position_mm: float | None = None
    marked: NDArray[np.bool_] | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Where one label is in one image.

    Attributes
    ----------
    label : str
        Name of the label.
    sop_instance_uid : str
        The image.
    frame : int
        From 0.
    pixels : ndarray of bool, (rows, columns)
        In the matrix of the source image.
    """

    label: str
    sop_instance_uid: str
    frame: int
    pixels: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A quantity of one label that was measured in the images.

    Attributes
    ----------
    label : str
        Name of the label.
    quantity, unit : Code
        What was measured, such as Volume, and in which unit of UCUM.
    value : float
        Finite, 0 or more.
    """

    label: str
    quantity: Code
    value: float
    unit: Code


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found in one set of images.

    Attributes
    ----------
    findings : tuple of Finding
        Every label at the widest scope, negatives included, then image-scope findings.
    used_sop_instance_uids : tuple of str
        The images that were read, in the order of their position.
    facts : mapping of str to str, int, float, bool or list
        What was observed on the way (geometry, repairs, set-aside images); JSON-serialisable.
    illustrations : tuple of Illustration
        What a person is shown, best first; no part of what makes two readings equal.
    masks : tuple of Mask
        Where the findings are, of models that tell; no part of what makes two readings equal.
    measurements : tuple of Measurement
        Of labels that have masks, as far as the geometry of the images allows.
    headers : tuple of Dataset
        Of the images used, in the same order, without pixels; empty where nobody kept them. No part
        of what makes two readings equal.
    """

    findings: tuple[Finding, ...]
    used_sop_instance_uids: tuple[str, ...]
    facts: Mapping[str, object] = field(default_factory=dict)
    illustrations: tuple[Illustration, ...] = field(default=(), repr=False, compare=False)
    masks: tuple[Mask, ...] = field(default=(), repr=False, compare=False)
    headers: tuple[Dataset, ...] = field(default=(), repr=False, compare=False)
    measurements: tuple[Measurement, ...] = ()


__all__ = [
    "Code",
    "Finding",
    "Illustration",
    "Label",
    "Mask",
    "Measurement",
    "ModelIdentity",
    "NotAnalysed",
    "Presence",
    "Reading",
    "Scope",
    "SourceImage",
    "Thresholds",
]
