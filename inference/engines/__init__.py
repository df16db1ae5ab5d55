"""What carries a network out: one small protocol, and engines behind it.

The door is light: it imports neither torch nor ONNX Runtime.
"""

from .engine import Engine, EngineIdentity, MadeWith, RawOutputs, Rows
from .errors import (
    DeviceLostError,
    EngineError,
    EngineOutOfMemoryError,
)

__all__ = [
    "DeviceLostError",
    "Engine",
    "EngineError",
    "EngineIdentity",
    "EngineOutOfMemoryError",
    "MadeWith",
    "RawOutputs",
    "Rows",
]
