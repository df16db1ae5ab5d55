"""Phantoms as files with headers of the size that scanners write.

Drawing takes seconds an image, so a few are drawn and their pixels stand in many files. What is
measured never looks at the pixels of a file; each file has a header of its own.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from inference.training.phantoms.files import write_chest, write_head_series

SEED = 13
_DRAWN_SLICES = 6
# A CT of today: 13 KB before the pixels, most of them private.
_PRIVATE_ELEMENTS, _PRIVATE_BYTES = 100, 110


def radiograph(folder: Path, rows: int, columns: int) -> list[Path]:
    """Write one frontal chest radiograph with a pneumothorax."""
    image = dcmread(write_chest(folder / "drawn", SEED, pneumothorax=True))
    if (rows, columns) != image.pixel_array.shape:
        drawn = Image.fromarray(image.pixel_array).resize((columns, rows))
        image.PixelData = np.asarray(drawn, dtype="<u2").tobytes()
        image.ImagerPixelSpacing = [
            image.ImagerPixelSpacing[0] * image.Rows / rows,
            image.ImagerPixelSpacing[1] * image.Columns / columns,
        ]
        image.Rows, image.Columns = rows, columns
    return [_save(image, folder, 0)]


def head_series(folder: Path, slices: int) -> list[Path]:
    """Write a head CT series with a bleed, from the lowest slice up."""
    drawn = write_head_series(folder / "drawn", SEED, "subdural", slices=_DRAWN_SLICES)
    images = [dcmread(path) for path in drawn]
    step = 150.0 / slices
    return [_save(_slice(images[n * len(images) // slices], n, step), folder, n)
            for n in range(slices)]  # fmt: skip


def _slice(drawn: Dataset, number: int, step: float) -> Dataset:
    image = copy.deepcopy(drawn)
    height = round(-60.0 + step * number, 3)
    image.InstanceNumber = number + 1
    image.ImagePositionPatient = [*image.ImagePositionPatient[:2], height]
    image.SliceLocation, image.SliceThickness = height, round(step, 3)
    return image


def _save(image: Dataset, folder: Path, number: int) -> Path:
    image.SOPInstanceUID = generate_uid(entropy_srcs=[image.StudyInstanceUID, str(number)])
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.IssuerOfPatientID = "BENCHMARK"
    image.RequestAttributesSequence = [_request()]
    block = image.private_block(0x0029, "PREREAD BENCHMARK", create=True)
    for offset in range(_PRIVATE_ELEMENTS):
        block.add_new(offset, "OB", bytes([number % 256]) * _PRIVATE_BYTES)
    path = folder / f"{number:04d}.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def _request() -> Dataset:
    item = Dataset()
    item.RequestedProcedureID = "R1"
    item.RequestedProcedureDescription = "Emergency"
    item.ScheduledProcedureStepID = "S1"
    item.ScheduledProcedureStepDescription = "Emergency"
    return item
