"""Result objects: what was read becomes DICOM that a PACS keeps and shows.

Each writer has the same shape: one frozen value in, one valid `Dataset` out, the same bytes for the
same content. The report is at this door; its companions are behind `secondary_capture`,
`key_objects` and `segmentation`, and `fallback` turns a stored report into another SOP class.
"""

from .content import DeviceIdentity, Qualification
from .report import ReportClass, ReportContent
from .sr import build_report
from .stamp import object_bytes
from .text import render
from .validate import validate

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
