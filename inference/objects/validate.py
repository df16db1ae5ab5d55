"""The check that every object passes before it is stored, and may pass before it is sent.

It fails closed. Validators of the field miss wrong relationships inside a template, archives accept
invalid objects, and neither runs in a hospital: so the node checks its own templates and its own
promises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from pydicom import config
from pydicom.dataset import Dataset

from ..errors import InvalidObjectError
from .report import CAPTURE, KEY_OBJECTS, SEGMENTATION, ReportClass
from .validate_images import capture_faults, segmentation_faults
from .validate_key_objects import key_object_faults
from .validate_report import read_faults, report_faults

_KINDS: Final[Mapping[str, Callable[[Dataset], Iterator[str]]]] = MappingProxyType(
    {
        **{str(sop_class): report_faults for sop_class in ReportClass},
        CAPTURE: capture_faults,
        KEY_OBJECTS: key_object_faults,
        SEGMENTATION: segmentation_faults,
    }
)
# What pydicom raises where a value does not fit its representation.
_DAMAGE: Final = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


def validate(ds: Dataset, *, read: Collection[str] = ()) -> None:
    """Check a result object against our templates and promises.

    Parameters
    ----------
    ds : Dataset
        The object, built or read back from its file, pixel data included.
    read : collection of str
        SOP Instance UIDs of all images read, where they are known: the evidence of a report must
        be these.

    Raises
    ------
    InvalidObjectError
        Naming everything that is wrong.
    """
    found: list[str] = []
    with config.disable_value_validation():  # pydicom's warnings quote a patient's values
        try:
            found.extend(_faults(ds))
            if read and ds.get("SOPClassUID") in set(ReportClass):
                found.extend(read_faults(ds, frozenset(read)))
        except _DAMAGE as error:
            # Its words may quote a value.
            found.append(f"it cannot be read to its end ({type(error).__name__})")
    if found:
        uid = ds.get_item("SOPInstanceUID")
        name = "without SOP Instance UID" if uid is None else str(ds.get("SOPInstanceUID"))
        raise InvalidObjectError(
            f"the object {name} is invalid: " + "; ".join(dict.fromkeys(found)), ds
        )


def _faults(ds: Dataset) -> Iterator[str]:
    kind = _KINDS.get(str(ds.get("SOPClassUID")))
    if kind is None:
        yield f"SOPClassUID {ds.get('SOPClassUID')} is no class of result object"
        kind = report_faults
    yield from kind(ds)
