"""Where networks run, and how torch computes there. Light: torch only where it is needed.

Torch takes a second to import, which a worker that runs exported networks on a CPU never pays. So
``auto`` first looks for what a GPU cannot do without: the device nodes and the library of a driver,
of NVIDIA (also under WSL) or of AMD. Where neither is there the device is the CPU, as torch would
say; where one is, torch is asked, for a driver without a usable GPU is no GPU.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

from .errors import InferenceError

# Made by a driver when it finds a GPU; containers get those that they may use.
_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd", "/proc/driver/nvidia/version")
# Part of the driver, not of torch.
_LIBRARY = "libcuda.so.1"


@dataclass(slots=True)
class _TorchSettings:
    """What the process wants of torch, which may be imported later."""

    wanted: bool = False
    threads: int = 0


_settings = _TorchSettings()


def choose_device(wanted: str) -> str:
    """Return the device for ``inference.device``: ``auto``, ``cpu`` or ``cuda[:N]``.

    Raises
    ------
    InferenceError
        If a GPU is asked for that is not there.
    """
    if wanted == "cpu" or (wanted == "auto" and not driver_found()):
        return "cpu"
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(wanted.partition(":")[2] or 0)
    if number >= there:
        raise InferenceError(
            f"inference.device is {wanted}, but torch sees {there} GPU; use auto or cpu"
        )
    return f"cuda:{number}"


def driver_found(root: Path = Path("/"), library: str = _LIBRARY) -> bool:
    """Tell whether this machine may have a GPU: whether the driver of one is there.

    Parameters
    ----------
    root : Path
        Where the device nodes are looked for.
    library : str
        The driver's own library.
    """
    if any((root / node.lstrip("/")).exists() for node in _NODES):
        return True
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def configure_torch(threads: int = 0) -> None:
    """Make torch compute the same every time, with `threads` threads; 0 leaves their number.

    For the start of a process that reads: these are settings of the whole process. Torch is not
    imported for them: they take effect when the first network is loaded with it.
    """
    _settings.wanted, _settings.threads = True, threads
    if "torch" in sys.modules:
        configure_loaded_torch()


def configure_loaded_torch() -> None:
    """Apply what `configure_torch` was told; whoever loads a network with torch calls it."""
    if not _settings.wanted:
        return
    import torch

    if _settings.threads:
        torch.set_num_threads(_settings.threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
