"""How the file of an image and its row can differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Kind(StrEnum):
    """How a file and the rows differ."""

    UNINDEXED = "unindexed"  # a whole file that had no row
    DAMAGED = "damaged"  # without a row, and no whole image
    ALTERED = "altered"  # other bytes than its row says
    MISSING = "missing"  # a row without its file
    ORPHANED = "orphaned"  # a row whose study or series has none
    RETURNED = "returned"  # the file of a row that was marked missing is there again
    SURPLUS = "surplus"  # a second file of equal bytes
    FOREIGN = "foreign"  # not put there by this node
    UNREADABLE = "unreadable"
    REFUSED = "refused"  # the database does not take its row


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One file and its row that differ, or did.

    Attributes
    ----------
    path : str
        Relative to the data directory.
    reason : str
        What is wrong, without any value of the file; empty where the kind says it all.
    known : bool
        It had been found before.
    """

    kind: Kind
    path: str
    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None
    reason: str = ""
    known: bool = False


# Told of each one, as it is found.
Report: TypeAlias = Callable[[Discrepancy], None]
