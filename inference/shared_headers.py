"""The headers of a series in memory: what all of them say is there once.

Hundreds of slices differ in a few elements of a hundred. Nothing is left out and nothing is looked
into: elements are compared as the bytes that came, which reports must repeat.
"""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag

from .image_file import header_of, open_image

_Elements = dict[BaseTag, DataElement | RawDataElement]


class SharedHeaders:
    """Reads the headers of the images of one analysis."""

    def __init__(self) -> None:
        self._known: dict[BaseTag, RawDataElement] = {}

    def __call__(self, path: Path) -> Dataset:
        """Return the header of a stored file, as `image_file.header_of` does.

        Raises
        ------
        NotAnalysableError
            UNDECODABLE if the file is no DICOM file or ends inside an element.
        """
        header = header_of(open_image(path))
        for dataset in (header, header.file_meta):
            dataset._dict = self._shared(dict(dataset.items()))
        return header

    def _shared(self, elements: _Elements) -> _Elements:
        return dict(self._one(tag, element) for tag, element in elements.items())

    def _one(
        self, tag: BaseTag, element: DataElement | RawDataElement
    ) -> tuple[BaseTag, DataElement | RawDataElement]:
        if not isinstance(element, RawDataElement) or element.value is None:
            return tag, element  # a sequence, or what stays in the file
        known = self._known.setdefault(tag, element)
        return (known.tag, known) if _are_same(known, element) else (known.tag, element)


def _are_same(one: RawDataElement, other: RawDataElement) -> bool:
    """Compare all but where in its file a value stood."""
    return (
        one.value == other.value
        and one.VR == other.VR
        and one.length == other.length
        and one.is_implicit_VR == other.is_implicit_VR
        and one.is_little_endian == other.is_little_endian
    )
