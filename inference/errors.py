"""The one error root of this room."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset

# What odd headers and pixels make pydicom, numpy, Pillow and torch raise. For what a result can do
# without, such as a picture: it is not worth a finding.
ODD_DATA = (
    ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip


class InferenceError(Exception):
    """An image, a model or a result object cannot be handled; the message says which and why.

    Attributes
    ----------
    code : str
        Stored as the reason of an analysis that fails so.
    facts : mapping or None
        What was observed until then; stored with it, JSON-serialisable.
    """

    code: str = "error"
    facts: Mapping[str, object] | None = None


class BundleError(InferenceError):
    """A MONAI Bundle is incomplete, damaged, or contradicts its Preread section."""

    code = "bundle_unusable"


class ObjectError(InferenceError):
    """A result object could not be built or does not satisfy its template."""


class InvalidObjectError(ObjectError):
    """A result object was built and breaks our promises: it is kept, and never sent.

    Attributes
    ----------
    dataset : pydicom.Dataset
        The object.
    """

    def __init__(self, message: str, dataset: Dataset) -> None:
        super().__init__(message)
        self.dataset = dataset


class CorrectedMeanwhileError(InferenceError):
    """A study was corrected while it was analysed: the analysis has to be done again."""


class ReissueError(InferenceError):
    """Results of a study cannot be replaced as a person asked."""


class NotAnalysableError(InferenceError):
    """The images are not what the model reads: a coded outcome, stored and delivered as such.

    Parameters
    ----------
    code : NotAnalysed
        Why, from the closed list in `inference.reading`.
    reason : str
        One sentence for a person; names tags and counts, never the patient.
    facts : mapping, optional
        What was observed until then, as in `Reading.facts`; JSON-serialisable.
    """

    def __init__(self, code: str, reason: str, facts: Mapping[str, object] | None = None) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.facts = facts
