"""One row for each file: what its header says, and what its pixels are like. Light: no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from .disclosure import names_somebody, of_form, uid_shown
from .errors import ODD_DATA, InferenceError, NotAnalysableError
from .functional_groups import element, frame_element, transfer_syntax, whole_number
from .image_file import open_image
from .pixel_facts import pixel_facts
from .windows import BRAIN, Window

Cell = str | int | float | None


def _text(dataset: Dataset, keyword: str, group: str = "") -> Cell:
    value = frame_element(dataset, 0, group, keyword) if group else element(dataset, keyword)
    return cell(value)


def cell(value: Any) -> Cell:
    """Return a value as a cell: several values joined by a backslash, as in DICOM.

    Of a sequence only the number of its items is told: they may hold anything.
    """
    if value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        if not isfinite(value):
            return str(value)
        return int(value) if value.is_integer() else float(value)
    if isinstance(value, DicomSequence):
        return f"{len(value)} items"
    if isinstance(value, (MultiValue, list, tuple)):
        return "\\".join(str(cell(one)) for one in value)
    return str(value)


def _vr(keyword: str) -> str:
    return dictionary_VR(keyword).split(" or ")[0]


def _shown(dataset: Dataset, keyword: str, group: str = "") -> Cell:
    return of_form(_text(dataset, keyword, group), _vr(keyword))


def _keyword(keyword: str, group: str = "") -> Callable[[Dataset], Cell]:
    return lambda dataset: _shown(dataset, keyword, group)


def _kind(uid: UID) -> str:
    """Return the name of a UID of the dictionary, the UID of any other."""
    name = uid.name
    return uid_shown(uid) if name == uid else name


def _sop_class(dataset: Dataset) -> Cell:
    uid = element(dataset, "SOPClassUID")
    return None if uid is None else _kind(UID(str(uid)))


def _spacing(dataset: Dataset) -> Cell:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        if (value := _shown(dataset, keyword, "PixelMeasuresSequence")) is not None:
            return value
    return None


def _syntax(dataset: Dataset) -> Cell:
    return _kind(transfer_syntax(dataset)) or None


_LUT, _RESCALE = "FrameVOILUTSequence", "PixelValueTransformationSequence"
COLUMNS: Mapping[str, Callable[[Dataset], Cell]] = MappingProxyType(
    {
        "sop_class": _sop_class,
        "sop_instance_uid": _keyword("SOPInstanceUID"),
        "modality": _keyword("Modality"),
        "body_part": _keyword("BodyPartExamined"),
        "view": _keyword("ViewPosition"),
        "rows": _keyword("Rows"),
        "columns": _keyword("Columns"),
        "frames": lambda dataset: whole_number(dataset, "NumberOfFrames") or 1,
        "bits_allocated": _keyword("BitsAllocated"),
        "bits_stored": _keyword("BitsStored"),
        "signed": _keyword("PixelRepresentation"),
        "photometric": _keyword("PhotometricInterpretation"),
        "spacing": _spacing,
        "slice_thickness": _keyword("SliceThickness", "PixelMeasuresSequence"),
        "rescale_slope": _keyword("RescaleSlope", _RESCALE),
        "rescale_intercept": _keyword("RescaleIntercept", _RESCALE),
        "window_center": _keyword("WindowCenter", _LUT),
        "window_width": _keyword("WindowWidth", _LUT),
        "transfer_syntax": _syntax,
    }
)
# Who the patient is, or by whom they can be found: shown only if asked for.
IDENTIFIERS = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge",
    "AccessionNumber", "StudyDate", "StudyInstanceUID", "SeriesInstanceUID",
)  # fmt: skip
PIXEL_COLUMNS = ("min", "max", "mean", "std", "share_in_window")


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What a header table holds.

    Attributes
    ----------
    tags : tuple of str
        Further attributes by keyword.
    identifiers : bool
        Whether columns that identify the patient are shown.
    pixels : bool
        Whether pixels are decoded for their statistics.
    window : Window
        For the share of pixels in it.
    """

    tags: tuple[str, ...] = ()
    identifiers: bool = False
    pixels: bool = False
    window: Window = BRAIN

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return (
            "file",
            *COLUMNS,
            *(IDENTIFIERS if self.identifiers else ()),
            *(tag for tag in self.tags if not (self.identifiers and tag in IDENTIFIERS)),
            *(PIXEL_COLUMNS if self.pixels else ()),
            "error",
        )


def keywords_of(names: Iterable[str], identifiers: bool) -> tuple[str, ...]:
    """Return attributes as keywords; each may be one, or ``GGGG,EEEE``.

    Raises
    ------
    InferenceError
        If there is no such attribute, or it names the patient and that was not asked for.
    """
    keywords = []
    for name in names:
        tag = _tag_of(name)
        if tag is None:
            raise InferenceError(
                f"{name!r} is no attribute of DICOM; give its keyword, such as KVP, or GGGG,EEEE"
            )
        keyword = keyword_for_tag(tag)
        if not identifiers and (keyword in IDENTIFIERS or names_somebody(tag, keyword)):
            raise InferenceError(f"{keyword} may identify the patient; add --identifiers")
        keywords.append(keyword)
    return tuple(dict.fromkeys(keywords))


def _tag_of(name: str) -> int | None:
    if (tag := tag_for_keyword(name)) is not None:
        return tag
    digits = name.strip("()").replace(",", "").replace(" ", "")
    try:
        tag = int(digits, 16) if len(digits) == 8 else 0
    except ValueError:
        return None
    return tag if tag and dictionary_has_tag(tag) else None


def header_rows(paths: Iterable[Path], spec: TableSpec) -> Iterator[dict[str, Any]]:
    """Yield a row for each file; one that cannot be read has an ``error``.

    Parameters
    ----------
    paths : iterable of Path
        DICOM files.
    spec : TableSpec
    """
    for path in paths:
        row: dict[str, Any] = {"file": str(path)}
        try:
            dataset = open_image(path)
            row |= _header(dataset, spec)
            if spec.pixels:
                row |= _pixels(dataset, spec.window)
        except NotAnalysableError as error:
            row["error"] = str(error)
        except ODD_DATA as error:  # the message may quote the header
            row["error"] = f"cannot be read ({type(error).__name__})"
        yield row


def _header(dataset: Dataset, spec: TableSpec) -> dict[str, Any]:
    row: dict[str, Any] = {name: column(dataset) for name, column in COLUMNS.items()}
    wanted: Sequence[str] = (*(IDENTIFIERS if spec.identifiers else ()), *spec.tags)
    told = _text if spec.identifiers else _shown
    return row | {keyword: told(dataset, keyword) for keyword in wanted}


def _pixels(dataset: Dataset, window: Window) -> dict[str, float]:
    facts = pixel_facts(dataset, window)
    rounded = (facts.low, facts.high, facts.mean, facts.std, facts.share_in_window)
    return {
        name: float(np.round(value, 4)) for name, value in zip(PIXEL_COLUMNS, rounded, strict=True)
    }
