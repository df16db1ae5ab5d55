"""What the node does with a reading: from the reader's headers to objects that may be sent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cases import Case
from clock import Clock
from pydicom import Dataset

from db.files import FileStore
from deploy.result_check import fault_of
from inference.objects import DeviceIdentity, object_bytes
from inference.result_objects import ResultBasis, make_objects

# In the order of time. The goal is for the first two, the check of what was made among them: `KEPT`
# is the disk's, and `SENT` is delivery's, which reads each file back and checks it once more.
MADE, ENCODED, KEPT, SENT = "made and checked", "encoded", "written", "checked before sending"
STEPS = (MADE, ENCODED)

_DEVICE = DeviceIdentity("PREREAD", "Preread", "preread", "0.1.0", "SN-0001")
_CREATED_AT = datetime(2026, 3, 1, 10, 20, 30, tzinfo=UTC)


class BrokenObjectError(Exception):
    """An object was not made, or must not be sent."""


def run(case: Case, headers: tuple[Dataset, ...], files: FileStore, clock: Clock) -> list[str]:
    """Carry out all steps for a case; return the kinds of the objects made.

    Parameters
    ----------
    headers : tuple of Dataset
        Of `Case.headers`, fresh.
    files : FileStore
        Empty: what is there already would not be written.
    """
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
    with clock.step(SENT):
        faults = [fault for path in paths if (fault := fault_of(path)) is not None]
    if faults or result.failures:
        raise BrokenObjectError("; ".join([*faults, *result.failures.values()]))
    return [made.kind for made in result.made]
