"""Result objects: what was read becomes DICOM that a PACS keeps and shows.

Each writer has the same shape: one frozen value in, one valid `Dataset` out, the same bytes for the
same content. The report is at this door; its companions are behind `secondary_capture`,
`key_objects` and `segmentation`, and `fallback` turns a stored report into another SOP class.

Building a report takes highdicom, which is imported by those who ask for `build_report` alone.
"""

from typing import TYPE_CHECKING

from .content import DeviceIdentity, Qualification
from .report import ReportClass, ReportContent
from .stamp import object_bytes
from .text import render
from .validate import validate

if TYPE_CHECKING:
    from .sr import build_report

__all__ = [
    "DeviceIdentity",
    "Qualification",
    "ReportClass",
    "ReportContent",
    "build_report",
    "object_bytes",
    "render",
    "validate",
]


def __getattr__(name: str) -> object:
    if name != "build_report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .sr import build_report

    return build_report
