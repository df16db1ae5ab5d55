"""Conditions on attributes: what stands behind ``when`` in a routing rule.

::

    when = { Modality = ["CR", "DX"], BodyPartExamined = "CHEST*", Rows = { min = 512 } }

A key is a DICOM keyword (PS3.6), a path into sequences with dots
(``AnatomicRegionSequence.CodeMeaning``) or several of these with ``|``, of which one must satisfy
the condition. The condition is

- a value or a glob pattern (``*``, ``?``, ``[...]``), compared without regard to case; of an
  attribute with several values one must match; ``""`` matches an absent or empty attribute;
- a list of these, of which one must match;
- ``{ min = 1, max = 2 }``: a number within bounds, both included, either may be left out;
- ``{ absent = true }`` or ``{ absent = false }``;
- ``{ words = ["head", "brain"] }``: one of the words stands in the text as a whole word;
- ``{ not = ... }``: none of the values matches (and an absent attribute satisfies it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeAlias

from pydicom.datadict import keyword_dict, tag_for_keyword

from .errors import RuleError

Scalar: TypeAlias = str | int | float | bool
Condition: TypeAlias = Scalar | list[Scalar] | dict[str, Scalar | list[Scalar]]
# Values of attributes as text, by keyword or path; an absent attribute has no entry or no values.
Facts: TypeAlias = Mapping[str, Sequence[str]]

_FORMS = {"min", "max", "absent", "words", "not"}
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a condition does not hold: what was found, and in words what was asked for."""

    keyword: str
    found: tuple[str, ...]
    asked: str


def keywords_of(key: str) -> tuple[str, ...]:
    """Return the keywords or paths that a key of ``when`` names."""
    return tuple(part.strip() for part in key.split("|"))


def check(when: Mapping[str, Condition]) -> None:
    """Raise RuleError if a keyword is unknown or a condition has no known form."""
    for key, condition in when.items():
        for path in keywords_of(key):
            for keyword in path.split("."):
                _check_keyword(keyword)
        if isinstance(condition, dict):
            _check_form(key, condition)


def _check_keyword(keyword: str) -> None:
    if keyword in keyword_dict:
        # Of the head of a file (PS3.10) and of network messages; conditions see data sets alone.
        if (tag_for_keyword(keyword) or 0) >> 16 <= 0x0002:
            raise RuleError(
                f"{keyword!r} stands in no data set, so that when never sees it; for AE titles "
                "there are calling_ae and called_ae of the rule, beside when"
            )
        return
    by_folded = {known.lower(): known for known in keyword_dict}
    near = get_close_matches(keyword.lower(), by_folded, n=1, cutoff=0.5)
    hint = f"; did you mean {by_folded[near[0]]}?" if near else ""
    raise RuleError(f"{keyword!r} is no DICOM keyword{hint}")


def _check_form(key: str, condition: Mapping[str, object]) -> None:
    unknown = sorted(set(condition) - _FORMS)
    if unknown or not condition:
        what = f"{unknown[0]!r} is not" if unknown else "an empty table is not"
        raise RuleError(f"{key}: {what} one of {', '.join(sorted(_FORMS))}")
    for bound in ("min", "max"):
        if not isinstance(condition.get(bound, 0), int | float):
            raise RuleError(f"{key}: {bound} must be a number")
    if not isinstance(condition.get("absent", True), bool):
        raise RuleError(f"{key}: absent must be true or false")


def unmet(facts: Facts, when: Mapping[str, Condition]) -> Mismatch | None:
    """Return the first condition that the facts do not meet, None if they meet all."""
    for key, condition in when.items():
        keywords = keywords_of(key)
        found = [tuple(value for value in facts.get(name, ()) if value) for name in keywords]
        if not any(_meets(values, condition) for values in found):
            values = next((values for values in found if values), ())
            return Mismatch(key, values, told(condition))
    return None


def told(condition: Condition) -> str:
    """Say in words what a condition asks for, such as ``CR, DX`` or ``at least 512``."""
    if not isinstance(condition, dict):
        return _listed(condition)
    words = []
    if "absent" in condition:
        words.append("no value" if condition["absent"] else "any value")
    if "words" in condition:
        words.append(f"a word of {_listed(condition['words'])}")
    if "not" in condition:
        words.append(f"none of {_listed(condition['not'])}")
    if "min" in condition:
        words.append(f"at least {condition['min']}")
    if "max" in condition:
        words.append(f"at most {condition['max']}")
    return " and ".join(words)


def _listed(patterns: Scalar | list[Scalar]) -> str:
    listed = patterns if isinstance(patterns, list) else [patterns]
    return ", ".join("no value" if one == "" else str(one) for one in listed)


def _meets(values: tuple[str, ...], condition: Condition) -> bool:
    if not isinstance(condition, dict):
        return _matches(values, condition)
    if "absent" in condition and bool(values) == condition["absent"]:
        return False
    if "words" in condition and not _has_word(values, condition["words"]):
        return False
    if "not" in condition and _matches(values, condition["not"]):
        return False
    return _within(values, condition)


def _matches(values: tuple[str, ...], patterns: Scalar | list[Scalar]) -> bool:
    listed = patterns if isinstance(patterns, list) else [patterns]
    return any(_one_matches(values, pattern) for pattern in listed)


def _one_matches(values: tuple[str, ...], pattern: Scalar) -> bool:
    if pattern == "":
        return not values
    if isinstance(pattern, str):
        return any(fnmatchcase(value.casefold(), pattern.casefold()) for value in values)
    return any(_number(value) == float(pattern) for value in values)


def _has_word(values: tuple[str, ...], words: Scalar | list[Scalar]) -> bool:
    wanted = {str(word).casefold() for word in (words if isinstance(words, list) else [words])}
    return any(wanted & set(_WORD.findall(value.casefold())) for value in values)


def _within(values: tuple[str, ...], bounds: Mapping[str, Scalar | list[Scalar]]) -> bool:
    low, high = bounds.get("min"), bounds.get("max")
    if low is None and high is None:
        return True
    numbers = [number for number in map(_number, values) if number is not None]
    return any(
        (not isinstance(low, int | float) or low <= number)
        and (not isinstance(high, int | float) or number <= high)
        for number in numbers
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
