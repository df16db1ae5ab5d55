"""The one error root of this room."""

from __future__ import annotations

from collections.abc import Mapping


class InferenceError(Exception):
    """An image, a model or a result object cannot be handled; the message says which and why."""


class BundleError(InferenceError):
    """A MONAI Bundle is incomplete or contradicts its Preread section."""


class ObjectError(InferenceError):
    """A result object could not be built or does not satisfy its template."""


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
