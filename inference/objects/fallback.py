"""A stored report in another SOP class, for a destination that refuses the best one."""

from __future__ import annotations

from typing import Final

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import UID

from ..errors import ObjectError
from . import sources, stamp, uids
from .header import file_meta
from .report import ReportClass
from .sr import EVIDENCE, ROLE
from .validate import validate
from .validate_report import inputs_of

_REPLACED: Final = frozenset({"SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"})


def as_class(report: Dataset, sop_class: ReportClass) -> Dataset:
    """Return the same report in another SOP class, byte for byte what `build_report` gives for it.

    Needs neither model nor pixels: the tree is valid in all classes, and the UIDs follow from what
    the report says.

    Parameters
    ----------
    report : Dataset
        A report of ours, built or read back from its file. Not changed.
    sop_class : ReportClass

    Raises
    ------
    ObjectError
        When the report is invalid, or none.
    """
    with config.disable_value_validation():  # pydicom's warnings quote a patient's values
        sources.keep_names(report)
        validate(report)
        if str(report.SOPClassUID) not in set(ReportClass):
            raise ObjectError(f"{report.SOPInstanceUID} is no report, so it has no other class")
        converted = Dataset()
        for element in report:
            if element.keyword not in _REPLACED:  # to set a value would change the report's element
                converted.add(element)
        converted.SOPClassUID = UID(sop_class.value)
        versions = report.SoftwareVersions
        node = versions if isinstance(versions, str) else versions[0]
        converted.file_meta = file_meta(sop_class.value, str(node))
        stamp.put_uids(
            converted,
            ROLE,
            str(report.DeviceUID),
            uids.input_digest(inputs_of(report)),
            stamp.digest(converted, {EVIDENCE}),
        )
        validate(converted)
    return converted
