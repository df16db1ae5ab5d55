"""Pixels as DCMTK decodes and shows them: a reference that shares no code with the node's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from pydicom import Dataset, dcmread
from running import need

_BIN = Path("/usr/bin")
# Each decompresses the transfer syntaxes of one family; dcmconv changes the byte order.
_DECODERS = {
    "JPEG-LS": ("dcmdjpls",),
    "JPEG": ("dcmdjpeg",),
    "RLE": ("dcmdrle",),
    "": ("dcmconv", "+te"),
}


def shown(path: Path, folder: Path, *options: str) -> np.ndarray[Any, Any]:
    """Return what dcm2pnm makes of a file as 0 to 1: (rows, columns) or (rows, columns, 3).

    It cuts what is between two levels, so grey is up to one level of 16 bits below; it shows
    colour in 8 bits.
    """
    need(str(_BIN / "dcm2pnm"))
    picture = folder / "shown.png"
    command = [_BIN / "dcm2pnm", "-q", "-O", "+on2", *options, path, picture]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    levels = imagecodecs.png_decode(picture.read_bytes())
    found: np.ndarray[Any, Any] = levels / np.iinfo(levels.dtype).max
    return found


def stored(path: Path, folder: Path, index: int = 0) -> tuple[np.ndarray[Any, Any], Dataset]:
    """Return the stored values of a frame that DCMTK decoded, read here bit by bit, and its header.

    Colour keeps the form that DCMTK left: see Photometric Interpretation of the header.
    """
    name = dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID.name
    program, *options = next(
        command for family, command in _DECODERS.items() if name.startswith(family)
    )
    need(str(_BIN / program))
    plain = folder / "plain.dcm"
    command = [_BIN / program, *options, path, plain]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return _frame(dcmread(plain), index)


def _frame(dataset: Dataset, index: int) -> tuple[np.ndarray[Any, Any], Dataset]:
    """PS3.5 8.1.1 by hand: little-endian cells, of which some bits are the pixel."""
    rows, columns, samples = dataset.Rows, dataset.Columns, dataset.SamplesPerPixel
    cell = dataset.BitsAllocated // 8
    count = rows * columns * samples
    cells = np.frombuffer(dataset.PixelData, f"<u{cell}", count, index * count * cell)
    if samples == 3:
        planes = cells.reshape(3, rows, columns).transpose(1, 2, 0)
        pixels = cells.reshape(rows, columns, 3)
        return (planes if dataset.PlanarConfiguration else pixels), dataset
    bits, high = dataset.BitsStored, dataset.HighBit
    values = (cells.astype(np.int64) >> (high + 1 - bits)) & ((1 << bits) - 1)
    if dataset.PixelRepresentation:
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)
    return values.reshape(rows, columns), dataset
