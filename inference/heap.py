"""Memory that pictures leave behind is kept for the next ones; that of models is given back."""

from __future__ import annotations

import ctypes
import gc
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Blocks up to this, the most that glibc allows, come from the heap; larger ones from the kernel.
_FROM_HEAP = 32 << 20


def keep_freed_memory(n_bytes: int = 256 << 20) -> bool:
    """Keep up to so much freed memory in this process; return whether that is possible here.

    An array of a megabyte is given back to the kernel when it is freed and comes back page by page,
    each of them zeroed: up to a quarter of the time that a CT slice takes was measured, and nothing
    where other allocations keep the heap large anyway.

    Parameters
    ----------
    n_bytes : int
        What stays when all is freed; the rest goes back to the kernel.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _FROM_HEAP)
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, n_bytes))


def give_back() -> None:
    """Give the kernel, and the GPU, all memory back that nobody refers to.

    It looks for cycles among what was left out of collections too: networks with hooks are in
    some. Takes a tenth of a second or more, during which nothing else runs.
    """
    is_settled = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if is_settled:
        gc.freeze()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
