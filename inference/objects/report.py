"""What a report is made of: one frozen value in, one data set out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Final

from pydicom.dataset import Dataset

from ..errors import ObjectError
from ..reading import Thresholds
from .content import AnalysisContent

CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
SEGMENTATION: Final = "1.2.840.10008.5.1.4.1.1.66.4"
KEY_OBJECTS: Final = "1.2.840.10008.5.1.4.1.1.88.59"


class ReportClass(StrEnum):
    """The SOP classes that carry the same tree, best first; a PACS may take only the last."""

    COMPREHENSIVE_3D = "1.2.840.10008.5.1.4.1.1.88.34"
    COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
    ENHANCED = "1.2.840.10008.5.1.4.1.1.88.22"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent(AnalysisContent):
    """Everything that one SR says; equal contents make equal bytes.

    Attributes
    ----------
    predecessor : Dataset or None
        Header of the earlier SR that this one replaces (PS3.3 C.17.2).
    sop_class : ReportClass
        The best one that the destination takes.
    companions : tuple of Dataset
        Captures and segmentations of the same analysis, already built; headers are enough. The
        report refers to them, so give only those that go where the report goes.
    """

    predecessor: Dataset | None = None
    sop_class: ReportClass = ReportClass.COMPREHENSIVE_3D
    companions: tuple[Dataset, ...] = ()

    def __post_init__(self) -> None:
        AnalysisContent.__post_init__(self)  # a class with slots has no super() without arguments
        require_companions(self.companions, self, (CAPTURE, SEGMENTATION))


def require_companions(
    companions: tuple[Dataset, ...], content: AnalysisContent, classes: tuple[str, ...]
) -> None:
    """Refuse companions of another kind or study, or given twice."""
    study = str(content.sources[0].StudyInstanceUID)
    known = set(content.source_uids)
    for companion in companions:
        uid = str(companion.get("SOPInstanceUID") or "")
        if str(companion.get("SOPClassUID")) not in classes:
            raise ObjectError(f"{uid} is of no SOP class that can be a companion here")
        if str(companion.get("StudyInstanceUID")) != study:
            raise ObjectError(f"companion {uid} belongs to another study")
        if uid in known or not companion.get("SeriesInstanceUID"):
            raise ObjectError(f"companion {uid!r} is a source, given twice or without series")
        known.add(uid)


def percent(probability: float, thresholds: Thresholds) -> float:
    """Return a probability (0 to 1) in percent, as short as its presence allows.

    Rounding must not contradict the presence: 0.49996 below a threshold of 0.5 is not 50.00 %. Nor
    may it claim to be certain: 0.99999 is not 100 %.
    """
    if not (isfinite(probability) and 0.0 <= probability <= 1.0):
        raise ObjectError(f"a probability is between 0 and 1, not {probability}")
    presence = thresholds.presence(probability)
    for digits in (2, 4, 6, 9, 12):
        value = round(100.0 * probability, digits)
        is_certain = value in (0.0, 100.0) and probability not in (0.0, 1.0)
        if not is_certain and thresholds.presence(value / 100.0) is presence:
            return value
    return 100.0 * probability
