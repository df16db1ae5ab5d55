"""Garbage collection for processes that hold models or libraries for good and read many headers."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Objects made and not yet freed. Python's own 700 are made by a few headers of a series: a tenth
# of the time of an analysis went into looking for cycles that there are not.
_YOUNG = 50_000


def settle() -> None:
    """Leave what is loaded by now out of every later collection, and collect less often.

    Call it when all that stays is there. Pixels are freed without the collector, when the last
    reference to them is gone; only objects that refer to each other wait for it.
    """
    gc.enable()
    if "torch" in sys.modules:
        # An export leaves a network in cycles. Imports alone leave a thousand small objects, and to
        # look for them takes a tenth of a second.
        gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)


def hold() -> None:
    """Collect nothing until `settle`: for the start of a process that imports much."""
    gc.disable()


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing within the block, which imports: a fifth of its time went into that.

    What is imported stays for good and there are no cycles to find: later collections leave it out
    too, or the first of them would make up for all that were left out here.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
