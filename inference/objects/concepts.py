"""Our codes as highdicom writes them."""

from __future__ import annotations

from highdicom.sr import CodedConcept

from ..reading import Code


def concept(code: Code) -> CodedConcept:
    """Return a code as a coded concept (PS3.3 8.8)."""
    return CodedConcept(code.value, code.scheme, code.meaning)
