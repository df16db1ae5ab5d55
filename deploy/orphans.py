"""Parts never outlive their node: killed with it, they would hold its port and its jobs."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the process that started this one dies (Linux only)."""
    if not sys.platform.startswith("linux") or os.environ.get("PREREAD_PARENT") is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(os.environ["PREREAD_PARENT"]):
        os.kill(os.getpid(), signal.SIGTERM)  # it died before we asked
