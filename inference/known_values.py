"""An image of which some attributes are known without its file.

`functional_groups` asks such an image for its values before it asks the data set; the file is read
only when something is asked for that nobody wrote down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray
from pydicom import FileDataset

Value = int | float | str | list[int] | list[float] | list[str]


class Unknown:
    """The answer for an attribute that was not written down."""


UNKNOWN: Final = Unknown()


@dataclass(frozen=True, slots=True)
class KnownValues:
    """Attributes of the data set itself, not of its sequences, by keyword.

    Attributes
    ----------
    asked : frozenset of str
        Which attributes are known; of those in none of the others, that they are absent.
    values : mapping of str to Value
        Those with a value that its VR allows.
    damaged, empty : frozenset of str
        Those that are there, and have a value that cannot be understood, or none.
    valued : frozenset of str
        Those of which only that they have a value is known: pixels, sequences.
    """

    asked: frozenset[str]
    values: Mapping[str, Value]
    damaged: frozenset[str] = field(default=frozenset())
    empty: frozenset[str] = field(default=frozenset())
    valued: frozenset[str] = field(default=frozenset())

    def value(self, keyword: str) -> Value | Unknown | None:
        """Return what `functional_groups.element` says of the attribute, or `UNKNOWN`."""
        found = self.values.get(keyword)
        if found is not None:
            return found
        return None if keyword in self.asked and keyword not in self.valued else UNKNOWN

    def holds(self, keyword: str) -> bool | None:
        """Return whether it has a value, be it damaged; None if not known."""
        if keyword not in self.asked:
            return None
        return keyword in self.values or keyword in self.damaged or keyword in self.valued

    def contains(self, keyword: str) -> bool | None:
        """Return whether it is there, be it empty; None if not known."""
        held = self.holds(keyword)
        return held if held is None else held or keyword in self.empty


class KnownDataset(FileDataset):
    """A data set of which some values are known.

    Attributes
    ----------
    known : KnownValues or None
    known_syntax : str
        Transfer Syntax UID (0002,0010), where values are known.
    """

    known: KnownValues | None = None
    known_syntax: str = ""

    @property
    def located_frames(self) -> int | None:
        """How many frames can be read by their offset; None where that is not known."""
        return None

    def frame(self, index: int) -> tuple[NDArray[Any], str] | None:
        """Return the stored values of a frame and its Photometric Interpretation.

        None where the frame has to be read the long way, by `decoders`.
        """
        return None

    def is_direct(self, index: int) -> bool:
        """Return whether a frame should be read by its offset and the first decoder."""
        return False
