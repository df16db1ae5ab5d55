"""Plain pictures, PNG and JPEG, as DICOM images, so that they go the way of all images.

A radiograph's greys are taken as its values. A CT picture has lost its Hounsfield units: its greys
are taken as those of a window, black its lower and white its upper end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from .errors import NotAnalysableError
from .reading import NotAnalysed
from .windows import Window

# How the two formats begin; a DICOM file has its mark at byte 128.
_PNG, _JPEG, _DICOM = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"DICM"
_PREAMBLE = 128
# Files that are taken for images by their name, even if they are damaged beyond recognition.
_SUFFIXES = frozenset({"", ".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg"})


def is_picture(path: Path) -> bool:
    """Return whether a file is a PNG or JPEG by its first bytes; False if it cannot be read."""
    return _head(path).startswith((_PNG, _JPEG))


def is_meant_as_image(path: Path) -> bool:
    """Return whether a file of a folder is an image by its first bytes, or by its name.

    A damaged ``.dcm`` counts: it must be missed by name, and not passed over.
    """
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() in _SUFFIXES:
        return True
    head = _head(path)
    return head.startswith((_PNG, _JPEG)) or head[_PREAMBLE:] == _DICOM


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + len(_DICOM))
    except OSError:
        return b""


def greys_of(path: Path) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], int]:
    """Return the greys of a picture and the value of white: 255, or 65535 for 16 bits.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE if it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith("I"):
                deep = np.asarray(picture).clip(0, 65535)
                return np.ascontiguousarray(deep.astype(np.uint16)), 65535
            return np.array(picture.convert("L"), dtype=np.uint8), 255
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError,
            Image.DecompressionBombError) as error:  # fmt: skip
        raise NotAnalysableError(
            NotAnalysed.UNDECODABLE, f"the picture cannot be read ({type(error).__name__})"
        ) from error


def as_radiograph(path: Path, modality: str = "CR") -> Dataset:
    """Return a picture as a computed radiograph with its greys as values.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE if it cannot be read.
    """
    greys, white = greys_of(path)
    dataset = _image(greys, white)
    dataset.SOPClassUID, dataset.Modality = ComputedRadiographyImageStorage, modality
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    return _identified(dataset)


def as_ct(path: Path, window: Window) -> Dataset:
    """Return a picture as a CT slice whose greys spread over `window`.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE if it cannot be read.
    """
    greys, white = greys_of(path)
    dataset = _image(greys, white)
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    # Decimal Strings have 16 characters (PS3.5 6.2).
    dataset.RescaleSlope = f"{window.width / white:.9g}"
    dataset.RescaleIntercept = f"{window.center - window.width / 2:.9g}"
    return _identified(dataset)


def _image(greys: NDArray[np.uint8] | NDArray[np.uint16], white: int) -> Dataset:
    dataset = Dataset()
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = greys.shape
    bits = 8 if white == 255 else 16
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = 0
    content = greys.astype("<u2" if bits == 16 else "u1").tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
    return dataset


def _identified(dataset: Dataset) -> Dataset:
    dataset.SOPInstanceUID = generate_uid()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    return dataset
