"""Stored images become findings and result objects; models are trained here too.

The door is light: nothing that imports torch is re-exported, so that the process that receives
images never pays for it.
"""

from .errors import InferenceError, NotAnalysableError
from .reading import Finding, ModelIdentity, Reading, SourceImage

__all__ = [
    "Finding",
    "InferenceError",
    "ModelIdentity",
    "NotAnalysableError",
    "Reading",
    "SourceImage",
]
