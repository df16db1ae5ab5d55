"""A stored file as it is opened: its header, and how many frames it has; no pixels yet."""

from __future__ import annotations

import zlib
from pathlib import Path

from pydicom import Dataset, FileDataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from .decoder_table import DecodingError
from .errors import NotAnalysableError
from .functional_groups import DAMAGE, holds, items, transfer_syntax, whole_number
from .held_frames import PIXEL_KEYWORDS, held_frames
from .inflated import inflates_beyond
from .reading import NotAnalysed

# Elements larger than this stay in the file until they are asked for: pixels, overlays, icons.
_DEFER_BYTES = 16_384


def open_image(path: Path) -> Dataset:
    """Read a stored instance; its pixels stay in the file until they are decoded.

    Parameters
    ----------
    path : Path
        A DICOM file (PS3.10).

    Returns
    -------
    Dataset
        With file meta information.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE if the file is no DICOM file, ends inside an element, or inflates to more than
        any image has.
    """
    try:
        if inflates_beyond(path):
            raise _undecodable("the stored file inflates to more than 1 GiB")
        dataset = dcmread(path, defer_size=_DEFER_BYTES)
        if transfer_syntax(dataset) == DeflatedExplicitVRLittleEndian:
            # What was deferred cannot be found again in a deflated file.
            dataset = dcmread(path)
    except InvalidDicomError as error:
        raise _undecodable("the stored file is no DICOM file (PS3.10)") from error
    except (*DAMAGE, zlib.error) as error:
        # The message may quote the header; only the kind of error is said.
        raise _undecodable(f"the stored file cannot be read ({type(error).__name__})") from error
    if not transfer_syntax(dataset):
        raise _undecodable("the stored file has no Transfer Syntax UID (0002,0010)")
    return dataset


def header_of(dataset: Dataset) -> Dataset:
    """Return what an image just opened says besides its pixels, as it came from the file.

    Elements are shared as long as neither data set has converted them; so a header taken before the
    first look still has the very bytes of its names, which reports must repeat.

    Parameters
    ----------
    dataset : Dataset
        Of `open_image`; not changed.
    """
    elements = dict(dataset.items())
    for keyword in PIXEL_KEYWORDS:
        elements.pop(Tag(keyword), None)
    implicit, little = (bool(told) for told in dataset.original_encoding)
    header = FileDataset(
        str(dataset.filename),
        elements,
        preamble=dataset.preamble,
        file_meta=dataset.file_meta,
        is_implicit_VR=implicit,
        is_little_endian=little,
    )
    header.set_original_encoding(implicit, little, dataset.original_character_set)
    return header


def frame_count(dataset: Dataset) -> int:
    """Return the number of frames; 1 where Number of Frames (0028,0008) is absent or empty.

    The number is compared with the pixel data and the functional groups before anyone counts on
    it: it costs nothing to write a million.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE if the number is damaged or the pixel data hold fewer frames.
    """
    count = whole_number(dataset, "NumberOfFrames")
    if (count or 0) < 0 or (count is None and holds(dataset, "NumberOfFrames")):
        raise _undecodable("Number of Frames (0028,0008) is damaged")
    count = max(1, count or 1)
    says = f"Number of Frames (0028,0008) says {count}"
    try:
        # One frame is checked when it is decoded.
        if count > 1 and (held := held_frames(dataset, count)) < count:
            raise _undecodable(f"{says}, the pixel data hold {held}")
    except DecodingError as error:
        raise _undecodable(str(error)) from error
    described = len(items(dataset, "PerFrameFunctionalGroupsSequence"))
    if described and described != count:
        raise _undecodable(f"{says}, the functional groups (5200,9230) are of {described}")
    return count


def _undecodable(reason: str) -> NotAnalysableError:
    return NotAnalysableError(NotAnalysed.UNDECODABLE, reason)
