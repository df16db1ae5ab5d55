"""How much a deflated file inflates to (PS3.5 A.5), found out without keeping it.

A megabyte can become a gigabyte, and what opens a file has it in memory three times.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from .functional_groups import element

# More than any stored image: an enhanced CT of a thousand frames has half of it.
MOST_BYTES = 1 << 30
# No byte of a deflated stream becomes more than this.
_LARGEST_RATIO = 1032
_STEP = 1 << 20


def inflates_beyond(path: Path, most: int = MOST_BYTES) -> bool:
    """Return whether a file is deflated, and its data set would have more bytes than `most`.

    Only what is large enough for that is opened.

    Raises
    ------
    OSError, pydicom.errors.InvalidDicomError
        If the file cannot be read, or is none of PS3.10.
    zlib.error
        If the stream is damaged.
    """
    if path.stat().st_size * _LARGEST_RATIO <= most:
        return False
    with path.open("rb") as file:
        read_preamble(file, force=False)
        meta = read_dataset(
            file, is_implicit_VR=False, is_little_endian=True,
            stop_when=lambda tag, _vr, _length: tag.group != 2,
        )  # fmt: skip
        if element(meta, "TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return False
        stream, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while count <= most and not stream.eof:
            rest = stream.unconsumed_tail or file.read(_STEP)
            if not rest:
                break
            count += len(stream.decompress(rest, _STEP))
        return count > most
