"""Phantoms as DICOM files: CT Image Storage and Computed Radiography Image Storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
)

from .bleeds import Bleed, BleedType, draw_bleed
from .chest import Chest, Pneumothorax
from .fields import between
from .head import Head
from .scanner import LOWEST_HU, Scanner
from .skull import Grid

SLICES, SLICE_MM, LOWEST_MM = 24, 5.0, -45.0
HEAD_SIZE, HEAD_MM = 512, 0.46875
CHEST_SIZE, CHEST_MM = 1024, 0.35

_IMPLEMENTATION = UID("2.25.94850734206471582376429317865182374651")
_WHEN = {"Date": "20200101", "Time": "120000"}
_PADDING = 0


def write_head_series(
    folder: Path,
    seed: int,
    bleed: BleedType | str | None = None,
    *,
    slices: int = SLICES,
    size: int = HEAD_SIZE,
) -> list[Path]:
    """Write an axial head CT series of a phantom.

    Parameters
    ----------
    folder : Path
        Made if need be; files are named by instance number.
    seed : int
        The same seed gives the same files; with and without a bleed the same head.
    bleed : BleedType or str, optional
        A clear bleed of this subtype.
    slices, size : int
        Images, and their rows and columns. Slices are 5 mm apart from the skull base upwards.

    Returns
    -------
    list of Path
        From the lowest slice up.

    Raises
    ------
    ValueError
        If `bleed` is not one of the five subtypes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw_head_series(seed, bleed, slices=slices, size=size)
    return [_save(one.dataset, folder / f"{index + 1:03d}.dcm") for index, one in enumerate(drawn)]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnSlice:
    """One image of a head phantom.

    Attributes
    ----------
    dataset : Dataset
        CT Image Storage, ready to be saved.
    hu : ndarray of int16, (rows, columns)
        What it shows.
    blood_mm2 : float
        Area that blood covers.
    """

    dataset: Dataset
    hu: NDArray[np.int16]
    blood_mm2: float


def draw_head_series(
    seed: int,
    bleed: BleedType | str | None = None,
    *,
    slices: int = SLICES,
    size: int = HEAD_SIZE,
    slice_mm: float = SLICE_MM,
) -> Iterator[DrawnSlice]:
    """Yield the images of `write_head_series`, `slice_mm` apart, from the lowest slice up."""
    kind = BleedType(bleed) if bleed is not None else None
    rng = np.random.default_rng([seed, 6])
    head, scanner = Head.draw(rng), Scanner.draw(rng)
    spacing = HEAD_MM * HEAD_SIZE / size
    grid = Grid.centred(size, spacing)
    blood = _clear_bleed(np.random.default_rng([seed, 7]), head, kind) if kind else None
    series = _Identity("head", seed, str(kind or "none"))
    for index in range(slices):
        height = LOWEST_MM + slice_mm * index
        noise = np.random.default_rng([seed, 8, index])
        density, area = _density(head, grid, height, blood)
        hu = scanner.acquire(density, spacing, noise)
        dataset = _ct_image(series, index, height, spacing, hu)
        dataset.SliceThickness = dataset.SpacingBetweenSlices = slice_mm
        yield DrawnSlice(dataset, hu, area * spacing**2)


def write_chest(
    folder: Path, seed: int, pneumothorax: bool = False, *, size: int = CHEST_SIZE
) -> Path:
    """Write a frontal chest radiograph of a phantom.

    Parameters
    ----------
    seed : int
        The same seed gives the same file; with and without a pneumothorax the same chest.
    pneumothorax : bool
        Whether it has a large one.

    Returns
    -------
    Path
        Of the one file in `folder`.
    """
    finding = Pneumothorax.draw(np.random.default_rng([seed, 9]), 1.0) if pneumothorax else None
    picture = Chest.draw(seed).radiograph(size, finding)
    series = _Identity("chest", seed, "pneumothorax" if pneumothorax else "none")
    folder.mkdir(parents=True, exist_ok=True)
    dataset = _cr_image(series, np.rint(picture * 4095).astype(np.uint16), size)
    return _save(dataset, folder / "chest.dcm")


def _clear_bleed(rng: np.random.Generator, head: Head, kind: BleedType) -> Bleed:
    low, high = (-2.0, 16.0) if kind is BleedType.INTRAVENTRICULAR else (0.0, 35.0)
    return draw_bleed(rng, head, kind, between(rng, low, high), size=1.0)


def _density(
    head: Head, grid: Grid, height: float, blood: Bleed | None
) -> tuple[NDArray[np.float32], float]:
    """Return HU, and how many pixels blood covers."""
    if blood is None:
        return head.slice(grid, height).hu, 0.0
    painted, cover = blood.paint(head.slice(grid, height, blood.push))
    return painted.hu, float((cover > 0.5).sum())


class _Identity:
    """UIDs and names of one phantom study, derived from what it shows and its seed."""

    def __init__(self, body_part: str, seed: int, variant: str) -> None:
        self.body_part, self.seed, self.variant = body_part, seed, variant

    def uid(self, *what: object) -> UID:
        """Return a UID under 2.25 (PS3.5 B.2) for a part of this study."""
        parts = ("preread-phantom", self.body_part, self.seed, self.variant, *what)
        text = "/".join(map(str, parts))
        return UID(f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:15], 'big')}")

    @property
    def patient_id(self) -> str:
        """Patient ID: the same with and without the finding."""
        return f"PHANTOM-{self.body_part.upper()}-{self.seed}"


def _image(series: _Identity, sop_class: UID, index: int, modality: str) -> Dataset:
    """Return the patient, study, series and equipment modules (PS3.3 C.7.1 to C.7.5)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = _IMPLEMENTATION
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = series.uid("instance", index)
    for stage in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{stage}Date", _WHEN["Date"])
        setattr(dataset, f"{stage}Time", _WHEN["Time"])
    dataset.Modality = modality
    dataset.Manufacturer = "Preread phantom"
    dataset.ManufacturerModelName = f"Phantom {series.body_part}"
    dataset.DeviceSerialNumber = str(series.seed)
    dataset.SoftwareVersions = "1"
    dataset.InstitutionName = ""
    dataset.ReferringPhysicianName = ""
    dataset.AccessionNumber = f"P{series.uid('accession')[-10:]}"
    dataset.StudyDescription = f"{series.body_part.capitalize()} phantom"
    dataset.SeriesDescription = f"Seed {series.seed}, finding: {series.variant}"
    dataset.PatientName = f"PHANTOM^{series.body_part.upper()}"
    dataset.PatientID = series.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = series.uid("study")
    dataset.SeriesInstanceUID = series.uid("series")
    dataset.StudyID = str(series.seed)
    dataset.SeriesNumber = 1
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = index + 1
    dataset.BodyPartExamined = series.body_part.upper()
    return dataset


def _ct_image(
    series: _Identity, index: int, height: float, spacing: float, hu: NDArray[np.int16]
) -> Dataset:
    """Return a CT image (PS3.3 A.3): 12 bits unsigned, offset by Rescale Intercept."""
    dataset = _image(series, CTImageStorage, index, "CT")
    corner = -(len(hu) - 1) / 2 * spacing
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.FrameOfReferenceUID = series.uid("frame of reference")
    dataset.PositionReferenceIndicator = "OM"
    dataset.PatientPosition = "HFS"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [round(corner, 4), round(corner, 4), height]
    dataset.SliceLocation = height
    dataset.SliceThickness = SLICE_MM
    dataset.SpacingBetweenSlices = SLICE_MM
    dataset.PixelSpacing = [spacing, spacing]
    dataset.KVP = 120
    dataset.ScanOptions = "AXIAL"
    dataset.GantryDetectorTilt = 0
    dataset.ConvolutionKernel = "STANDARD"
    dataset.XRayTubeCurrent = 200
    dataset.ExposureTime = 1000
    dataset.RescaleIntercept = LOWEST_HU
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 80
    _pixels(dataset, _outside_the_circle_is_padding(hu) - LOWEST_HU)
    dataset.PixelPaddingValue = _PADDING
    return dataset


def _outside_the_circle_is_padding(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return `hu` with what a scanner does not reconstruct set to the padding value."""
    places = np.arange(len(hu)) - (len(hu) - 1) / 2
    outside = np.hypot(places[:, None], places[None, :]) > len(hu) / 2
    return np.where(outside, LOWEST_HU + _PADDING, np.maximum(hu, LOWEST_HU + 1)).astype(np.int16)


def _cr_image(series: _Identity, stored: NDArray[np.uint16], size: int) -> Dataset:
    """Return a computed radiograph (PS3.3 A.2), postero-anterior, of a standing patient."""
    dataset = _image(series, ComputedRadiographyImageStorage, 0, "CR")
    spacing = CHEST_MM * CHEST_SIZE / size
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.ViewPosition = "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.KVP = 120
    dataset.PlateID = str(series.seed)
    dataset.ImagerPixelSpacing = [spacing, spacing]
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    _pixels(dataset, stored)
    return dataset


def _pixels(dataset: Dataset, stored: NDArray[np.int16] | NDArray[np.uint16]) -> None:
    """Add the image pixel module (PS3.3 C.7.6.3): 12 bits in 16, unsigned."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = stored.astype("<u2").tobytes()


def _save(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path
