"""What the first result needs last: imported while a new worker waits for its networks."""

from __future__ import annotations

import threading
from importlib import import_module

# With highdicom and its codes; what opens compressed images; what numpy brings with percentiles.
_MODULES = ("inference.result_objects", "inference.direct_frames", "numpy.ma")


def import_late() -> threading.Thread:
    """Import beside everything else; who needs a module meanwhile waits for it and no longer.

    Returns
    -------
    Thread
        It runs already. A module that cannot be imported fails again, and says so, where it is
        needed.
    """
    thread = threading.Thread(target=_import, name="late-imports", daemon=True)
    thread.start()
    return thread


def _import() -> None:
    for name in _MODULES:
        try:
            import_module(name)
        except ImportError:
            return
