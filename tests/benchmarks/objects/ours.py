"""What the node does with a reading: from headers on disk to objects that may be sent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cases import Case
from clock import Clock
from pydicom import dcmread

from db.files import FileStore
from deploy.result_check import fault_of
from inference.objects import DeviceIdentity, object_bytes
from inference.result_objects import ResultBasis, make_objects

# In the order of time; `KEPT` is the disk's and no part of the goal.
READ, MADE, ENCODED, KEPT, CHECKED = "headers read", "made", "encoded", "written", "checked"
STEPS = (READ, MADE, ENCODED, CHECKED)

_DEVICE = DeviceIdentity("PREREAD", "Preread", "preread", "0.1.0", "SN-0001")
_CREATED_AT = datetime(2026, 3, 1, 10, 20, 30, tzinfo=UTC)


class BrokenObjectError(Exception):
    """An object was not made, or must not be sent."""


def run(case: Case, files: FileStore, clock: Clock) -> list[str]:
    """Carry out all steps for a case; return the kinds of the objects made.

    Parameters
    ----------
    files : FileStore
        Empty: what is there already would not be written.
    """
    with clock.step(READ):
        headers = tuple(dcmread(path, stop_before_pixels=True, force=True) for path in case.files)
    with clock.step(MADE):
        result = make_objects(
            ResultBasis(
                sources=headers,
                model=case.bundle.identity,
                device=_DEVICE,
                created_at=_CREATED_AT,
                reading=case.reading,
            )
        )
    with clock.step(ENCODED):
        contents = [(str(m.dataset.SOPInstanceUID), object_bytes(m.dataset)) for m in result.made]
    with clock.step(KEPT):
        paths: list[Path] = [
            files.absolute(files.write_result(uid, content).path) for uid, content in contents
        ]
    with clock.step(CHECKED):
        faults = [fault for path in paths if (fault := fault_of(path)) is not None]
    if faults or result.failures:
        raise BrokenObjectError("; ".join([*faults, *result.failures.values()]))
    return [made.kind for made in result.made]
