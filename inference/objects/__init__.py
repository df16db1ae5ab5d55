"""Result objects: what was read becomes DICOM that a PACS keeps and shows.

Each writer has the same shape: one frozen value in, one valid `Dataset` out, the same bytes for the
same content.
"""

from .report import DeviceIdentity, Qualification, ReportClass, ReportContent
from .sr import build_report, report_bytes
from .text import render
from .validate import validate_report

__all__ = [
    "DeviceIdentity",
    "Qualification",
    "ReportClass",
    "ReportContent",
    "build_report",
    "render",
    "report_bytes",
    "validate_report",
]
