"""A stored picture on its way through the decode pool, whose places hold float32 values.

The bytes of a head, the stored values and the table stand in them one after the other. The first
value is no number then, which values of a picture never are (`pixels`). Light: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ..decode_task import DecodeTask
from ..pixels import ModalityImage
from .stored_picture import StoredPicture, picture_of

_HEAD = np.dtype(
    [
        ("mark", "f4"),
        ("type", "u1", 4),
        ("rows", "u4"),
        ("columns", "u4"),
        ("first", "i4"),
        ("entries", "u4"),
        ("turned", "u4"),
        ("lowest", "f4"),
        ("highest", "f4"),
    ]
)


@dataclass(frozen=True, slots=True)
class StoredTask(DecodeTask):
    """A frame to become a stored picture; see `DecodeTask`."""

    def made(self, dataset: Dataset) -> ModalityImage:
        """Return the picture packed, or its values where it has no table."""
        picture = picture_of(dataset, self.frame, self.spec)
        return pack(picture) if isinstance(picture, StoredPicture) else picture


def pack(picture: StoredPicture) -> ModalityImage:
    """Return a picture as values, (1, cells), that mean nothing until they are unpacked."""
    stored, table = picture.stored, picture.table
    head = np.zeros((), dtype=_HEAD)
    head["mark"] = np.nan
    head["type"] = tuple(f"{stored.dtype.kind}{stored.dtype.itemsize}".encode().ljust(4))
    head["rows"], head["columns"] = stored.shape
    head["first"], head["entries"], head["turned"] = picture.first, len(table), picture.turned
    head["lowest"], head["highest"] = picture.lowest, picture.highest
    begin = _HEAD.itemsize
    middle = begin + _whole(stored.nbytes)
    cells = np.zeros(middle + table.nbytes, dtype=np.uint8)
    cells[:begin] = np.frombuffer(head.tobytes(), np.uint8)
    native = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("="))
    cells[begin : begin + stored.nbytes] = native.reshape(-1).view(np.uint8)
    cells[middle:] = table.view(np.uint8)
    return ModalityImage(cells.view(np.float32)[None], picture.notes, picture.full_range)


def unpack(image: ModalityImage) -> StoredPicture | ModalityImage:
    """Return the picture that was packed, in memory of its own; or values as they are."""
    if image.values.size < _HEAD.itemsize // 4 or not np.isnan(image.values.flat[0]):
        return replace(image, plane=image.values.copy())
    cells: NDArray[Any] = image.values.reshape(-1).view(np.uint8)
    (head,) = np.frombuffer(cells[: _HEAD.itemsize].tobytes(), _HEAD)
    kind = np.dtype(bytes(head["type"]).decode().strip())
    rows, columns = int(head["rows"]), int(head["columns"])
    begin, length = _HEAD.itemsize, rows * columns * kind.itemsize
    middle = begin + _whole(length)
    table = cells[middle : middle + 4 * int(head["entries"])]
    return StoredPicture(
        stored=cells[begin : begin + length].copy().view(kind).reshape(rows, columns),
        first=int(head["first"]),
        table=table.copy().view(np.float32),
        lowest=float(head["lowest"]),
        highest=float(head["highest"]),
        notes=image.notes,
        full_range=image.full_range,
        turned=bool(head["turned"]),
    )


def _whole(length: int) -> int:
    return -(-length // 4) * 4
