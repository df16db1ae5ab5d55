"""Corrected patient or request: headers of images before, result objects after they were made.

A PACS merges patients and changes accession numbers after the images have come. What is corrected
holds for later results through `correct`; results that exist are replaced through `reissue`, from
their stored bytes: neither pixels nor model are needed, and what they find stays what it was.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from pydicom import config
from pydicom.dataset import Dataset

from ..errors import ObjectError
from ..functional_groups import items
from . import sources, stamp
from .uids import derive_uid

# An object refers to those before it: a report to its pictures, a key object to its report.
_ORDER: Final = ("SEG", "OT", "SR", "KO")
_REQUESTS: Final = ("RequestAttributesSequence", "ReferencedRequestSequence")


def correct(ds: Dataset, attributes: Mapping[str, str]) -> None:
    """Put corrected values into a header or object, in place.

    Parameters
    ----------
    attributes : mapping of str to str
        By DICOM keyword; an empty value empties the attribute. An accession number is also put
        into the one request that the data set names, if that has one of its own; of several none
        is changed.
    """
    with config.disable_value_validation():
        for keyword, value in attributes.items():
            setattr(ds, keyword, value or None)
        if "IssuerOfPatientID" in attributes and "IssuerOfPatientIDQualifiersSequence" in ds:
            del ds.IssuerOfPatientIDQualifiersSequence  # it qualifies the issuer that was wrong
        if "AccessionNumber" in attributes:
            for keyword in _REQUESTS:
                requests = items(ds, keyword)
                if len(requests) == 1 and "AccessionNumber" in requests[0]:
                    requests[0].AccessionNumber = attributes["AccessionNumber"] or None


def reissue(
    objects: Sequence[Dataset], attributes: Mapping[str, str], created_at: datetime
) -> list[Dataset]:
    """Return the corrected counterparts of the objects of one analysis.

    Parameters
    ----------
    objects : sequence of Dataset
        As read from their files; not changed. References between them lead to the counterparts.
    attributes : mapping of str to str
        Corrected values by DICOM keyword; see `correct`.
    created_at : datetime
        Aware; see `stamp.put_times`.

    Returns
    -------
    list of Dataset
        In the order of `objects`, under UIDs of their own, equal for equal corrections. A report
        names the one that it replaces in Predecessor Documents Sequence (PS3.3 C.17.2).

    Raises
    ------
    ObjectError
        If one of them is no result object of this node.
    """
    made: dict[int, Dataset] = {}
    renamed: dict[str, str] = {}
    for index in sorted(range(len(objects)), key=lambda index: _rank(objects[index])):
        made[index] = _reissue(objects[index], attributes, created_at, renamed)
    return [made[index] for index in range(len(objects))]


def _rank(ds: Dataset) -> int:
    modality = str(ds.get("Modality") or "")
    if modality not in _ORDER:
        raise ObjectError(f"object {ds.get('SOPInstanceUID')} is no result object: {modality!r}")
    return _ORDER.index(modality)


def _reissue(
    old: Dataset, attributes: Mapping[str, str], created_at: datetime, renamed: dict[str, str]
) -> Dataset:
    new = copy.deepcopy(old)
    sources.keep_names(new)
    new.decode()  # under the character set that it has, before another is chosen
    correct(new, attributes)
    _fit_character_set(new)
    for item in _references(new):
        for keyword in ("ReferencedSOPInstanceUID", "SeriesInstanceUID"):
            if keyword in item and str(item[keyword].value) in renamed:
                setattr(item, keyword, renamed[str(item[keyword].value)])
    if new.Modality == "SR":
        new.PredecessorDocumentsSequence = [_evidence_of(old)]
    said = "\x1f".join(f"{keyword}={value}" for keyword, value in sorted(attributes.items()))
    content = stamp.digest(new)
    new.SOPInstanceUID = derive_uid("reissue", str(old.SOPInstanceUID), said, content)
    new.SeriesInstanceUID = derive_uid("reissue-series", str(old.SeriesInstanceUID), said)
    new.file_meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    stamp.put_times(new, created_at)
    renamed[str(old.SOPInstanceUID)] = str(new.SOPInstanceUID)
    renamed[str(old.SeriesInstanceUID)] = str(new.SeriesInstanceUID)
    return new


def _references(ds: Dataset) -> Iterator[Dataset]:
    """Yield every item below the data set; the images read have UIDs that nothing renames."""
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from _references(item)


def _evidence_of(old: Dataset) -> Dataset:
    reference, series, study = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID = old.SOPClassUID
    reference.ReferencedSOPInstanceUID = old.SOPInstanceUID
    series.ReferencedSOPSequence = [reference]
    series.SeriesInstanceUID = old.SeriesInstanceUID
    study.ReferencedSeriesSequence = [series]
    study.StudyInstanceUID = old.StudyInstanceUID
    return study


def _fit_character_set(ds: Dataset) -> None:
    """Use UTF-8 where a corrected value does not fit the character set of the object."""
    carried = sources.identity(ds, ds.get("ReferencedRequestSequence") or ())
    if "SpecificCharacterSet" in carried:
        ds.SpecificCharacterSet = carried.SpecificCharacterSet
