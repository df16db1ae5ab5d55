"""How much memory is in use, by this process or on its GPU. Light."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def bytes_in_use(device: str) -> int:
    """Return what torch has allocated on a GPU, or what of this process is in memory.

    Parameters
    ----------
    device : str
        ``cpu`` or ``cuda:N``.
    """
    if device.startswith("cuda") and "torch" in sys.modules:
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return int(torch.cuda.memory_allocated(device))
        return 0
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
