"""Lookup tables of an image: Modality LUT, VOI LUT and palette (PS3.3 C.11.1, C.11.2, C.7.6.3.1.5).

All three have one form: a descriptor of three values and the entries. pydicom's own functions leave
out what real files have: tables of 8 bits with more than 256 entries, tables of a big-endian file,
a first value of the other sign, entries of 10 or 12 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .functional_groups import element, numbers

_MOST_BITS = 16


@dataclass(frozen=True, slots=True, eq=False)
class LookupTable:
    """One table.

    Attributes
    ----------
    first : int
        The input that is mapped to the first entry; lower ones are, too, and those beyond the last
        entry are mapped to that one.
    bits : int
        Of an entry, 8 to 16.
    entries : ndarray of float32, (entries,)
    """

    first: int
    bits: int
    entries: NDArray[np.float32]

    @property
    def highest(self) -> float:
        """Highest value that an entry can have."""
        return float(2**self.bits - 1)

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return the entries for `values`, of any shape, which are rounded to whole numbers."""
        index = np.rint(values.astype(np.float64)) - self.first
        found: NDArray[np.float32] = self.entries[
            index.clip(0, len(self.entries) - 1).astype(np.int64)
        ]
        return found


def lookup_table(
    holder: Dataset, descriptor: str, data: str, *, signed: bool, little_endian: bool
) -> LookupTable | None:
    """Read a table; None if it is absent or damaged.

    Parameters
    ----------
    holder : Dataset
        With the two attributes: an item of a sequence, or the image.
    descriptor, data : str
        Keywords, e.g. ``LUTDescriptor`` and ``LUTData``.
    signed : bool
        What is looked up may be negative. The first value mapped is then, too, whatever VR it was
        read with.
    little_endian : bool
        Byte order of the file (PS3.5 7.3), for entries that were read as bytes.
    """
    described = numbers(element(holder, descriptor), 3)
    if described is None or not 8.0 <= described[2] <= _MOST_BITS:
        return None
    count, first, bits = int(described[0]) or 65_536, int(described[1]), int(described[2])
    if signed and first >= 32_768:
        first -= 65_536
    entries = _entries(element(holder, data), count, little_endian)
    return None if entries is None else LookupTable(first, bits, entries)


def _entries(data: object, count: int, little_endian: bool) -> NDArray[np.float32] | None:
    """Return the entries: numbers, or bytes of one or two for each."""
    try:
        if isinstance(data, bytes):
            wide = "<u2" if little_endian else ">u2"
            table = np.frombuffer(data, dtype=wide if len(data) >= 2 * count else "u1")
            if table.dtype == np.uint8 and not little_endian:
                table = _swapped(table)
            table = table.astype(np.float32)
        else:
            table = np.array(data, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        return None
    return table[:count] if table.ndim == 1 and len(table) >= count > 0 else None


def _swapped(table: NDArray[Any]) -> NDArray[Any]:
    """Exchange the bytes of each pair: two entries of 8 bits stand in a word of the file."""
    if len(table) % 2:
        return table
    swapped: NDArray[Any] = table.reshape(-1, 2)[:, ::-1].reshape(-1)
    return swapped
