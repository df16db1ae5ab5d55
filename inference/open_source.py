"""Open a stored instance for a reader: by its facts where there are some, else by its header."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset

from .frame_table import Unlocated
from .image_file import header_of, open_image
from .indexed_image import IndexedImage
from .reading import SourceImage
from .stored_facts import StoredFacts, stored_facts


def open_source(
    image: SourceImage, read_header: Callable[[Path], Dataset] | None = None
) -> tuple[Dataset, Dataset]:
    """Return an image with its pixels, and what it says besides them, as it came.

    Either reads the file only as far as it is asked for what its facts do not say.

    Parameters
    ----------
    image : SourceImage
    read_header : callable, optional
        Reads what the image says; a `SharedHeaders` for those of a series.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE if the file is no DICOM file or ends inside an element.
    """
    facts, path = image.facts, image.path
    if facts is not None and _describe(facts, path):
        header = IndexedImage(path, facts, read_header or _read_header)
        header.ask_the_file()
        return IndexedImage(path, facts, open_image), header
    dataset = open_image(path)
    header_now = header_of(dataset)
    found = stored_facts(dataset, os.stat(path).st_size)  # noqa: PTH116 - as `_describe` does
    return IndexedImage(path, found, lambda _path: dataset), header_now


def index_file(path: Path) -> StoredFacts:
    """Return the facts of a stored file, to be kept.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE if the file is no DICOM file or ends inside an element.
    """
    return stored_facts(open_image(path), path.stat().st_size)


def _describe(facts: StoredFacts, path: Path) -> bool:
    """Return whether facts are of the file that is there now."""
    if facts.unlocated is Unlocated.UNREADABLE:
        return False
    try:
        return os.stat(path).st_size == facts.size_bytes  # noqa: PTH116 - a third of the time
    except OSError:
        return False


def _read_header(path: Path) -> Dataset:
    return header_of(open_image(path))
