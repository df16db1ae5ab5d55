"""Phantoms as files in every transfer syntax, with headers of the size that scanners write.

Drawing takes seconds an image, so a few are drawn and their pixels stand in many files.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from inference.training.phantoms.files import draw_head_series, write_chest

Pixels = np.ndarray[Any, Any]

SEED = 13
_DRAWN_SLICES = 6
LARGE = (1955, 1841)
# A CT of today: 13 KB before the pixels, most of them private.
_PRIVATE_ELEMENTS, _PRIVATE_BYTES = 100, 110
_NOISE = 12.0  # of a detector, in 4096 greys

ENCODERS: Mapping[str, Callable[[Pixels], bytes]] = {
    JPEGBaseline8Bit: lambda pixels: imagecodecs.jpeg8_encode(pixels, level=90),
    JPEGLosslessSV1: lambda pixels: imagecodecs.ljpeg_encode(pixels, bitspersample=16),
    JPEG2000Lossless: lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", level=0),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    HTJ2KLossless: lambda pixels: imagecodecs.htj2k_encode(pixels, reversible=True),
}


def head_series(folder: Path, syntax: str, slices: int) -> tuple[Path, ...]:
    """Write a head CT series, 512 x 512, from the lowest slice up."""
    drawn = _heads()
    step, made = 150.0 / slices, []
    for number in range(slices):
        image = copy.deepcopy(drawn[number * len(drawn) // slices])
        height = round(-60.0 + step * number, 3)
        image.InstanceNumber = number + 1
        image.ImagePositionPatient = [*image.ImagePositionPatient[:2], height]
        image.SliceLocation, image.SliceThickness = height, round(step, 3)
        made.append(_save(image, folder, number, syntax))
    return tuple(made)


def films(folder: Path, syntax: str, count: int, *, large: bool) -> tuple[Path, ...]:
    """Write frontal chest radiographs: 1024 x 1024, or of 3.6 million pixels; 8 bits as JPEG."""
    image = copy.deepcopy(_chest())
    if large:
        image = _enlarged(image)
    if syntax == JPEGBaseline8Bit:
        image.PixelData = (image.pixel_array >> 4).astype(np.uint8).tobytes()
        image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
        image.WindowCenter, image.WindowWidth = 128, 256
    return tuple(_save(copy.deepcopy(image), folder, number, syntax) for number in range(count))


@cache
def _heads() -> tuple[Dataset, ...]:
    return tuple(one.dataset for one in draw_head_series(SEED, "subdural", slices=_DRAWN_SLICES))


@cache
def _chest() -> Dataset:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        image = dcmread(write_chest(Path(folder), SEED, pneumothorax=True))
        assert image.pixel_array.shape == (1024, 1024)  # and read before its file goes
        return image


def _enlarged(image: Dataset) -> Dataset:
    drawn = Image.fromarray(image.pixel_array.astype(np.float32)).resize(LARGE[::-1])
    noise = np.random.default_rng(SEED).normal(0.0, _NOISE, LARGE)
    image.PixelData = (np.asarray(drawn) + noise).clip(0, 4095).astype("<u2").tobytes()
    image.ImagerPixelSpacing = [image.ImagerPixelSpacing[0] * 1024 / LARGE[0]] * 2
    image.Rows, image.Columns = LARGE
    return image


def _save(image: Dataset, folder: Path, number: int, syntax: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    image.SOPInstanceUID = generate_uid(entropy_srcs=[str(folder), str(number)])
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    block = image.private_block(0x0029, "PREREAD BENCHMARK", create=True)
    for offset in range(_PRIVATE_ELEMENTS):
        block.add_new(offset, "OB", bytes([number % 256]) * _PRIVATE_BYTES)
    if syntax == RLELossless:
        image.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    elif syntax != ExplicitVRLittleEndian:
        image.PixelData = encapsulate([ENCODERS[syntax](image.pixel_array)])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = syntax
    path = folder / f"{number:04d}.dcm"
    image.save_as(path, enforce_file_format=True)
    return path
