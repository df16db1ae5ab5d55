"""What an error of an analysis says of the device. Light: no torch.

Input is made on the device, too, and what fails there comes as torch raises it.
"""

from __future__ import annotations

import sys

from .engines.errors import DeviceLostError, EngineError, EngineOutOfMemoryError


def device_fault(error: Exception) -> EngineError | None:
    """Return an error of memory or of a lost device in the words of engines; None for others."""
    if isinstance(error, DeviceLostError):
        return error
    # Who did not load torch has no error of its.
    if not isinstance(error, RuntimeError | MemoryError) or "torch" not in sys.modules:
        return None
    from .engines.torch_faults import typed

    found = typed(error)
    return found if isinstance(found, DeviceLostError | EngineOutOfMemoryError) else None
