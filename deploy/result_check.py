"""What delivery asks about result objects: whether one may be sent, and the same in another class.

Here the rooms meet: `scp` delivers files, of whose content only `inference` knows more.
"""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from inference.errors import ObjectError
from inference.objects import ReportClass, object_bytes, validate
from inference.objects.fallback import as_class
from scp.errors import FaultError


def fault_of(path: Path) -> str | None:
    """Return what is wrong with a stored result object, or None.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    try:
        validate(_read(path))
    except (FaultError, ObjectError) as error:
        return str(error)
    return None


def fallback(stored_path: Path, sop_class_uid: str) -> bytes:
    """Return a stored report in another SOP class, as a file.

    Raises
    ------
    FaultError
        If the report is invalid, or cannot be said in that class.
    OSError
        If it cannot be read.
    """
    try:
        return object_bytes(as_class(_read(stored_path), ReportClass(sop_class_uid)))
    except (ObjectError, ValueError) as error:
        # Another ValueError than that of the class may quote a value of the report.
        reason = str(error) if isinstance(error, ObjectError) else type(error).__name__
        raise FaultError(f"no report in class {sop_class_uid}: {reason}") from error


def _read(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path)
    except (InvalidDicomError, EOFError, ValueError) as error:
        raise FaultError(f"{path.name} cannot be read: {type(error).__name__}") from error
