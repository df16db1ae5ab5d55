"""Weights are run by those who opened their bundle only as they were then. Light: no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .errors import BundleError


def require_unchanged(path: Path, sha256: str) -> None:
    """Raise BundleError if a file is another one than when its bundle was opened.

    Results would name weights that did not make them, and an exported network would be kept under
    these, for everybody who has them.

    Parameters
    ----------
    path : Path
    sha256 : str
        What its bytes hashed to, in hexadecimal.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if found != sha256:
        raise BundleError(
            f"{path} was changed after the bundle was opened: restart the workers, and give a "
            "changed model a new version"
        )
