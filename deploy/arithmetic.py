"""How NumPy multiplies matrices."""

from __future__ import annotations

import os

# OpenBLAS, which NumPy brings, reads it when it is loaded.
_THREADS = "OPENBLAS_NUM_THREADS"


def one_thread_for_small_products() -> None:
    """Have NumPy multiply in the thread that asks, unless the environment says otherwise.

    Pictures are scaled by products so small that more threads are no faster, and take twice the
    processor's time: they wait for each other by turning in circles, on cores that decode or run a
    network. Call it before NumPy is imported; what runs networks has threads of its own.
    """
    os.environ.setdefault(_THREADS, "1")
