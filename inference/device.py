"""Where networks run, and how torch computes there."""

from __future__ import annotations

import torch

from .errors import InferenceError


def choose_device(wanted: str) -> str:
    """Return the device for ``inference.device``: ``auto``, ``cpu`` or ``cuda[:N]``.

    Raises
    ------
    InferenceError
        If a GPU is asked for that is not there.
    """
    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return wanted
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(wanted.partition(":")[2] or 0)
    if number >= there:
        raise InferenceError(
            f"inference.device is {wanted}, but torch sees {there} GPU; use auto or cpu"
        )
    return f"cuda:{number}"


def configure_torch(threads: int = 0) -> None:
    """Make torch compute the same every time, with `threads` threads; 0 leaves their number.

    For the start of a process that reads: these are settings of the whole process.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
