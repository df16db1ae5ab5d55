"""What is said of an error: where it arose, and its message where no patient data can be in it."""

from __future__ import annotations

from pathlib import Path

from db.errors import DatabaseError

from .errors import InferenceError


def where(error: BaseException) -> str:
    """Return file and line at which an error arose; empty if it was never raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def explained(error: BaseException) -> str:
    """Name the error without its message where that may quote patient data."""
    if isinstance(error, (InferenceError, DatabaseError)):
        return str(error)
    return f"{type(error).__name__} at {where(error)}"
