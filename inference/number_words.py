"""How many there are of something, in words for people. Light."""

from __future__ import annotations


def number_of(count: int, one: str, several: str | None = None) -> str:
    """Return a number with what it counts: ``1 image``, ``24 images``, ``0 series``.

    Parameters
    ----------
    count : int
    one : str
        What one of them is called.
    several : str, optional
        What several are called, or none; with an s if not given.
    """
    return f"{count} {noun(count, one, several)}"


def noun(count: int, one: str, several: str | None = None) -> str:
    """Return what so many are called."""
    return one if count == 1 else several or f"{one}s"
