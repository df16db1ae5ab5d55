"""What a trained model is called, and whose it is: never what the ones that ship are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InferenceError
from ..long_string import ASKED, LONGEST, is_long_string

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# The grammar of Semantic Versioning 2.0.0: no leading zeros, but in a word with a letter and
# behind the +. ASCII: \d alone takes the digits of every script.
_NUMBER = r"(?:0|[1-9]\d*)"
_BEFORE = rf"(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)"
_BUILD = r"[0-9A-Za-z-]+"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_BEFORE}(?:\.{_BEFORE})*)?"
    rf"(?:\+{_BUILD}(?:\.{_BUILD})*)?",
    re.ASCII,
)
# No version that shipped: a model may take the name of the one that ships.
FIRST_VERSION = "1.0.0"
NOBODY = "not stated"


@dataclass(frozen=True, slots=True)
class Naming:
    """How a model is known in the database, in reports and to rules.

    Attributes
    ----------
    name : str
        Of the model; rules route to it.
    version : str
        As Semantic Versioning 2.0.0 has it, such as 1.0.0 or 2.1.0-rc.1.
    authors : tuple of str
        Who trained it; in the card and in ``metadata.json``.
    manufacturer : str
        Who answers for it; in reports (TID 4019).

    Raises
    ------
    InferenceError
        If something cannot stand in a report; the message names the option.
    """

    name: str
    version: str = FIRST_VERSION
    authors: tuple[str, ...] = ()
    manufacturer: str = NOBODY

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def of(
        cls,
        reader: str,
        name: str | None = None,
        version: str | None = None,
        authors: Sequence[str] = (),
        manufacturer: str | None = None,
    ) -> Naming:
        """Return the naming of a trained `reader`; what is None gets its default."""
        return cls(
            name=name if name is not None else own_name(reader),
            version=version if version is not None else FIRST_VERSION,
            authors=tuple(one.strip() for one in authors),
            manufacturer=manufacturer if manufacturer is not None else NOBODY,
        )

    @property
    def by(self) -> str:
        """Who made it, in words."""
        told = ", ".join(self.authors) or NOBODY
        return f"Authors: {told}. Manufacturer: {self.manufacturer}."


def own_name(reader: str) -> str:
    """Return what a model is called that somebody trained, where nothing else is said."""
    return f"{reader}-own"


def _check(naming: Naming) -> None:
    if not _NAME.fullmatch(naming.name) or len(naming.name) > LONGEST:
        raise InferenceError(
            f"--name {naming.name!a} cannot name a model: up to {LONGEST} letters (A to Z), "
            "digits, dots, hyphens and underscores, the first a letter or digit"
        )
    if not _VERSION.fullmatch(naming.version) or len(naming.version) > LONGEST:
        raise InferenceError(
            f"--version {naming.version!a} is no version such as 1.0.0 or 2.1.0-rc.1 "
            f"(Semantic Versioning 2.0.0, up to {LONGEST} characters)"
        )
    if any(not one or not one.isprintable() for one in naming.authors):
        raise InferenceError("--authors must be a name on one line, once for each author")
    made = naming.manufacturer
    if not is_long_string(made):
        raise InferenceError(f"--manufacturer {made!a} cannot be written into reports: {ASKED}")
