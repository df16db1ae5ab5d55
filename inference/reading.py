"""What a model says about images: the values that pass between readers, database and objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from db.schema import Presence, Scope


class NotAnalysed(StrEnum):
    """Why images were not analysed."""

    WRONG_VIEW = "wrong_view"
    WRONG_BODY_PART = "wrong_body_part"
    WRONG_MODALITY = "wrong_modality"
    TOO_FEW_SLICES = "too_few_slices"
    MISSING_SLICES = "missing_slices"
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
    """One output of a model: its name in the database, its code, its site and its thresholds."""

    name: str
    code: Code
    thresholds: Thresholds
    site: Code | None = None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model it was. `weights_sha256` is the digest of the weights file."""

    name: str
    version: str
    weights_sha256: str
    manufacturer: str = "Preread"


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A stored SOP instance that a reader is given."""

    instance_id: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: Path


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
    """

    label: Label
    scope: Scope
    probability: float
    sop_instance_uid: str | None = None
    key_sop_instance_uids: tuple[str, ...] = ()

    @property
    def presence(self) -> Presence:
        """What the probability means under the label's thresholds."""
        return self.label.thresholds.presence(self.probability)


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
    """

    findings: tuple[Finding, ...]
    used_sop_instance_uids: tuple[str, ...]
    facts: Mapping[str, object] = field(default_factory=dict)


__all__ = [
    "Code",
    "Finding",
    "Label",
    "ModelIdentity",
    "NotAnalysed",
    "Presence",
    "Reading",
    "Scope",
    "SourceImage",
    "Thresholds",
]
