"""How much memory is in use, by this process or on its GPU. Light."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def bytes_in_use(device: str) -> int:
    """Return what torch has allocated on a GPU, or what of this process is in memory.

    0 where the kernel does not tell.

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
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:  # masked, or no more files may be opened: models keep their estimates
        return 0
