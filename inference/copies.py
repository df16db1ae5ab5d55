"""Several stored files under one SOP Instance UID: the same image, or not. Light: no torch.

A UID stands for one instance and no other (PS3.5 9), so a second file under it is a copy, or
somebody changed the image and kept its UID. A copy is passed by. Of files that differ nobody can
tell which is the image: one is read, and the reading says of how many others it is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

# Of the facts of a reading: by SOP Instance UID, how many files were not read for other bytes.
FACT = "conflicting_files"


def conflicting(read: Path, others: Sequence[Path]) -> int:
    """Return how many of the other files under the UID of one do not have its bytes.

    A file that cannot be read is one of them.
    """
    if not others:
        return 0
    known = _sha256(read)
    return sum(known is None or _sha256(other) != known for other in others)


def told(facts: Mapping[str, object]) -> int:
    """Return how many files the facts of a reading tell of, over all UIDs."""
    counted = facts.get(FACT)
    return sum(counted.values()) if isinstance(counted, Mapping) else 0


def _sha256(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
