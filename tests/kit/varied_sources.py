"""Images of the kinds that hospitals send, valid but for what each is to try: sources of results.

Every one is made of what a fresh clone has: pydicom's and pydicom-data's samples, and phantoms.
"""

# ruff: noqa: RUF001 - names in other scripts are the point

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from inference.training.phantoms.files import write_chest, write_head_series

DX = "1.2.840.10008.5.1.4.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_TYPE_2 = (
    "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip

SCRIPTS: dict[str, tuple[str | list[str], str]] = {
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "japanese-katakana": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг^Фантом"),
    "cyrillic-2022": (["", "ISO 2022 IR 144"], "Lux^F=Люкceмбypг^Фантом"),
    "arabic": ("ISO_IR 127", "قباني^لنزار"),
    "greek": ("ISO_IR 126", "Διονυσιος^Φ"),
    "unicode": ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
}


@dataclass(frozen=True)
class VariedSource:
    """The files of one series, and what is special about it."""

    name: str
    files: tuple[Path, ...]

    @property
    def is_ct(self) -> bool:
        """Whether it is read slice by slice."""
        return str(dcmread(self.files[0], stop_before_pixels=True).Modality) == "CT"


def _sample(name: str) -> Dataset:
    path = get_testdata_file(name)
    assert path is not None, f"pydicom-data has no {name}"
    return dcmread(str(path))


def _chest(seed: int, pneumothorax: bool = False) -> Dataset:
    """Return a phantom's radiograph, its pixels in memory."""
    return copy.deepcopy(_drawn(seed, pneumothorax))


@cache
def _drawn(seed: int, pneumothorax: bool) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        return dcmread(write_chest(Path(folder), seed, pneumothorax, size=512))


def _save(ds: Dataset, folder: Path, number: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    path = folder / f"{number:03d}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def _cr(folder: Path) -> tuple[Path, ...]:
    ds = _sample("RG1_UNCR.dcm")
    ds.PixelData = (((1 << ds.BitsStored) - 1) - ds.pixel_array).astype("<u2").tobytes()
    ds.PhotometricInterpretation = "MONOCHROME2"
    return (_save(ds, folder),)


def _dx(folder: Path) -> tuple[Path, ...]:
    ds = _chest(31, pneumothorax=True)
    ds.SOPClassUID, ds.Modality = DX, "DX"
    ds.ImageLaterality, ds.PresentationIntentType = "U", "FOR PRESENTATION"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", -1
    ds.LossyImageCompression, ds.PresentationLUTShape = "00", "IDENTITY"
    ds.BurnedInAnnotation, ds.ImageType = "NO", ["ORIGINAL", "PRIMARY", ""]
    ds.AcquisitionContextSequence, ds.DetectorType = [], "SCINTILLATOR"
    ds.PatientOrientation, ds.PositionerType = ["L", "F"], ""
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator = "51185008", "SCT"
    region.CodeMeaning = "Chest"
    ds.AnatomicRegionSequence = [region]
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator = "399348003", "SCT"
    view.CodeMeaning = "antero-posterior projection"
    ds.ViewCodeSequence = [view]
    return (_save(ds, folder),)


def _secondary_capture(folder: Path) -> tuple[Path, ...]:
    """As the SIIM-ACR files are: a secondary capture with the modality CR and little else."""
    ds = _chest(32)
    ds.SOPClassUID, ds.ConversionType = SECONDARY_CAPTURE, "WSD"
    for keyword in ("ImagerPixelSpacing", "KVP", "PlateID", "DeviceSerialNumber"):
        ds.pop(keyword, None)
    ds.PatientOrientation = ""
    return (_save(ds, folder),)


def _ct_ge(folder: Path) -> tuple[Path, ...]:
    base = _sample("CT_small.dcm")
    base.pop("DataSetTrailingPadding", None)
    paths = []
    for number in range(1, 13):
        one = copy.deepcopy(base)
        one.SOPInstanceUID = f"{base.SeriesInstanceUID}.{number}"
        one.InstanceNumber = number
        one.ImagePositionPatient = [-158.1, -179.0, -75.7 + 5.0 * number]
        one.SliceLocation = -75.7 + 5.0 * number
        paths.append(_save(one, folder, number))
    return tuple(paths)


def _ct_other(folder: Path) -> tuple[Path, ...]:
    paths = write_head_series(folder, 33, "subdural", slices=12, size=128)
    for path in paths:
        ds = dcmread(path)
        ds.Manufacturer, ds.ManufacturerModelName = "Other vendor", "Scanner 7"
        ds.save_as(path, enforce_file_format=True)
    return tuple(paths)


def _compressed(folder: Path) -> tuple[Path, ...]:
    return (_save(_sample("RG1_J2KR.dcm"), folder),)


def _monochrome1(folder: Path) -> tuple[Path, ...]:
    return (_save(_sample("RG1_UNCR.dcm"), folder),)


def _bare(folder: Path) -> tuple[Path, ...]:
    ds = _chest(34, pneumothorax=True)
    for keyword in _TYPE_2:
        ds.pop(keyword, None)
    return (_save(ds, folder),)


def _requested(folder: Path) -> tuple[Path, ...]:
    paths = []
    for number, path in enumerate(write_head_series(folder / "drawn", 35, slices=10, size=128), 1):
        ds = dcmread(path)
        issuer, request, code = Dataset(), Dataset(), Dataset()
        issuer.LocalNamespaceEntityID = "RIS"
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "24725-4", "LN", "CT Head"
        request.RequestedProcedureID, request.RequestedProcedureDescription = "RP-7", "CT head"
        request.ScheduledProcedureStepID = "SPS-1"
        request.RequestedProcedureCodeSequence = [code]
        ds.RequestAttributesSequence = [request]
        ds.AccessionNumber, ds.IssuerOfAccessionNumberSequence = "A-1", [issuer]
        ds.IssuerOfPatientID = "HOSPITAL"
        paths.append(_save(ds, folder, number))
    return tuple(paths)


def _offset(folder: Path) -> tuple[Path, ...]:
    ds = _chest(36)
    ds.TimezoneOffsetFromUTC = "+0530"
    return (_save(ds, folder),)


def _enhanced(folder: Path) -> tuple[Path, ...]:
    return (_save(_sample("eCT_Supplemental.dcm"), folder),)


def _not_square(folder: Path) -> tuple[Path, ...]:
    """A radiograph whose pixels are twice as high as wide."""
    ds = _chest(37, pneumothorax=True)
    pixels = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)[::2]
    ds.Rows, ds.PixelData = len(pixels), pixels.tobytes()
    across = float(ds.ImagerPixelSpacing[1])
    ds.ImagerPixelSpacing = [2 * across, across]
    return (_save(ds, folder),)


def _named(terms: str | list[str], name: str) -> Callable[[Path], tuple[Path, ...]]:
    def make(folder: Path) -> tuple[Path, ...]:
        ds = _chest(38, pneumothorax=True)
        ds.SpecificCharacterSet, ds.PatientName = terms, name
        ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
        ds.SOPInstanceUID = generate_uid()
        return (_save(ds, folder),)

    return make


SOURCES: dict[str, Callable[[Path], tuple[Path, ...]]] = {
    "cr": _cr,
    "dx": _dx,
    "secondary capture": _secondary_capture,
    "ct of GE": _ct_ge,
    "ct of another vendor": _ct_other,
    "compressed": _compressed,
    "monochrome1": _monochrome1,
    "without Type 2 attributes": _bare,
    "request attributes": _requested,
    "utc offset": _offset,
    "enhanced ct": _enhanced,
    "pixels not square": _not_square,
    **{f"name in {script}": _named(*told) for script, told in SCRIPTS.items()},
}


def make_source(name: str, folder: Path) -> VariedSource:
    """Write the files of one kind of source."""
    return VariedSource(name, SOURCES[name](folder / name.replace(" ", "-")))
