"""Where a setting stands, in words: of several ``[[model]]`` the one of its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 64


def place_of(location: Sequence[int | str], given: Mapping[str, Any]) -> str:
    """Return how a person finds a setting.

    Parameters
    ----------
    location : sequence of int or str
        Keys, and numbers of entries from 0.
    given : mapping of str to object
        The settings as they were written, with the names of entries.

    Returns
    -------
    str
        Such as ``scp.port``, or ``[[model]] mine: label finding: thresholds.low``; an entry without
        a name has its number, from 1.
    """
    words, keys = list[str](), list[str]()
    here: Any = given
    for depth, part in enumerate(location):
        here = _inside(here, part)
        if isinstance(part, int) and (depth == 1 or isinstance(here, Mapping)):
            table = ".".join(keys)
            words.append(f"{f'[[{table}]]' if depth == 1 else table} {name_of(here, part)}")
            keys = []
        else:
            keys.append(str(part))
    return ": ".join([*words, *([".".join(keys)] if keys else [])])


def name_of(entry: object, number: int) -> str:
    """Return the name of an entry, or its number from 1 if it has none."""
    name = _inside(entry, "name")
    return name[:_LONGEST] if isinstance(name, str) and name else f"number {number + 1}"


def _inside(given: object, part: int | str) -> object:
    if isinstance(part, str):
        return given.get(part) if isinstance(given, Mapping) else None
    is_there = isinstance(given, Sequence) and not isinstance(given, str) and part < len(given)
    return given[part] if is_there and isinstance(given, Sequence) else None
