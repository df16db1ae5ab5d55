"""What torch raises, in the words of this room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import DeviceLostError, EngineError, EngineOutOfMemoryError, EngineRunError
from .said import said

# Parts of messages; torch has no classes for these. Allocators of the host say it in two ways.
_NO_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "bad_alloc",
)  # fmt: skip
# After these a CUDA context answers every call with the same error, until its process ends.
_LOST = (
    "device-side assert", "illegal memory access", "unspecified launch failure", "ecc error",
    "device is lost", "no longer available", "fallen off the bus", "misaligned address",
    "launch timed out", "illegal instruction", "hardware stack error", "driver shutting down",
    "no cuda-capable device", "cuda unknown error", "cuda driver initialization",
    "no nvidia driver",
)  # fmt: skip


def typed(error: RuntimeError | MemoryError) -> EngineError:
    """Return an error of torch as one of this room; its message has no numbers of a picture."""
    text = str(error).lower()
    first = said((str(error).splitlines() or [""])[0], "")
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        m in text for m in _NO_MEMORY
    ):
        return EngineOutOfMemoryError(f"torch has not enough memory: {first}")
    if any(mark in text for mark in _LOST):
        return DeviceLostError(f"the GPU is lost: {first}")
    if isinstance(error, torch.AcceleratorError):
        # Of an unknown error of the device nobody knows whether its memory still holds.
        return DeviceLostError(f"the GPU fails: {first}")
    return EngineRunError(f"torch cannot carry the network out: {type(error).__name__}: {first}")


@contextmanager
def faults_typed() -> Iterator[None]:
    """Turn what torch raises within the block into errors of this room."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise typed(error) from error
