"""Whether an image is decoded by another process, or here and now.

Here is everything that no decoder touches: native frames, which are read by their offset in the
file in 0.05 ms. For what a decoder reads a process is asked even where the way there and back costs
as much as the decoder: a codestream that crashes it then costs one image, not the worker.
"""

from __future__ import annotations

from pydicom.uid import UID

from .decode_task import DecodeTask

# A frame of which nobody knows the size: a large radiograph.
_UNKNOWN_BYTES = 64 << 20
_FLOAT = 4
# What may stand before the values.
_HEAD_BYTES = 4096


def is_worth_a_process(task: DecodeTask) -> bool:
    """Return whether a frame goes to a decode process, where there is one."""
    facts = task.image.facts
    if facts is None or facts.table is None:
        return True  # the whole file is read, by what it says of itself
    return bool(UID(facts.syntax).is_encapsulated)


def value_bytes(task: DecodeTask) -> int:
    """Return how many bytes the values of a frame have; where nobody knows, that of many."""
    facts = task.image.facts
    if facts is None or (cells := facts.cells) is None:
        return _UNKNOWN_BYTES
    return cells.rows * cells.columns * _FLOAT + _HEAD_BYTES
