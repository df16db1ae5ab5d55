"""On what a worker runs: what the settings ask for, or the CPU, loudly, where that has gone.

A GPU that was there once and is not there at the next start must not keep the node from working,
and nobody may have to find out by how slow it is. That it was there is remembered by an empty file.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import InferenceError

# Lost so often within an hour it is left alone: each loss costs a start.
MOST_LOSSES = 3


@dataclass(frozen=True, slots=True)
class Device:
    """What a worker runs on.

    Attributes
    ----------
    name : str
        ``cpu`` or ``cuda:N``.
    wanted : str or None
        The GPU that it should run on, where that is not so.
    trouble : str or None
        Why not, for a person.
    """

    name: str
    wanted: str | None = None
    trouble: str | None = None


def device_for(
    setting: str, folder: Path, choose: Callable[[str], str], losses: Callable[[str], int]
) -> Device:
    """Return what a worker runs on.

    Parameters
    ----------
    setting : str
        ``inference.device``.
    folder : Path
        Where is remembered which GPUs were there; made if need be.
    choose : callable
        Gives the device for a setting; see `choose_device`.
    losses : callable
        Tells how often a device was lost within the last hour.

    Raises
    ------
    InferenceError
        If a GPU is asked for that never was there.
    """
    before = _remembered(folder, setting)
    try:
        found = choose(setting)
    except InferenceError as error:
        if before is None:
            raise
        return Device("cpu", before, f"{error}; it was there before")
    if not found.startswith("cuda"):
        if setting == "cpu" or before is None:
            return Device(found)
        return Device(found, before, f"{before} was there before, and no GPU is there now")
    _mark(folder, found).parent.mkdir(parents=True, exist_ok=True)
    _mark(folder, found).touch()
    if (times := losses(found)) >= MOST_LOSSES:
        return Device("cpu", found, f"{found} was lost {times} times within an hour")
    return Device(found)


def _remembered(folder: Path, setting: str) -> str | None:
    """Return the GPU that a setting meant before."""
    if setting == "auto":
        found = sorted(folder.glob(f"{socket.gethostname()}-cuda*.seen"))
        number = found[0].stem.rpartition("-cuda")[2] if found else ""
        return f"cuda:{number}" if number else None
    if not setting.startswith("cuda"):
        return None
    device = f"cuda:{setting.partition(':')[2] or 0}"
    return device if _mark(folder, device).exists() else None


def _mark(folder: Path, device: str) -> Path:
    return folder / f"{socket.gethostname()}-{device.replace(':', '')}.seen"
