"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..errors import InferenceError


@contextmanager
def whole_text(path: Path) -> Iterator[TextIO]:
    """Open a file to write; it gets its name when the block ends well, and is gone otherwise.

    A process that is killed leaves ``.NAME.part`` beside it, which the next run replaces.

    Raises
    ------
    InferenceError
        If the file cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise InferenceError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
