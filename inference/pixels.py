"""From a stored SOP instance to modality values: PS3.3 C.7.6.3, C.7.5.1 and C.11.1.

What an image leaves out is replaced by a defined default and every default, repair or correction
is named in the notes of the result, so that it can be stored beside the findings.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from .decoders import PIXEL_KEYWORDS, DecodingError, decode_frame, held_frames
from .errors import NotAnalysableError
from .functional_groups import DAMAGE, element, holds, items, rescale, transfer_syntax, whole_number
from .reading import NotAnalysed

# Elements larger than this stay in the file until they are asked for: pixels, overlays, icons.
_DEFER_BYTES = 16_384
# Values below air are no measurement: padding outside the scan circle is -1500, -2000 or -3024.
AIR_HU = -1024.0
# ITU-R BT.601, the luminance of PS3.3 C.7.6.3.1.2.
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class ModalityImage:
    """Modality values of one frame.

    Attributes
    ----------
    values : ndarray of float32, (rows, columns)
        HU for CT; for radiographs any unit, tissue and bone high.
    notes : tuple of str
        Defaults, repairs and corrections that were applied, from a small fixed vocabulary.
    """

    values: NDArray[np.float32]
    notes: tuple[str, ...]


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
        UNDECODABLE if the file is no DICOM file or ends inside an element.
    """
    try:
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


def radiograph_values(dataset: Dataset, index: int = 0) -> ModalityImage:
    """Return a projection image with tissue and bone high, whatever its photometric form.

    MONOCHROME1 is inverted between the extremes of its own values, in whole numbers, so that it
    equals its MONOCHROME2 twin but for an offset. Colour and palette images become luminance.
    Padding takes the darkest value.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE or UNSUPPORTED_PIXELS.
    """
    stored, photometric = _decoded(dataset, index)
    if stored.ndim == 3 or photometric == "PALETTE COLOR":
        luminance = _finite(_luminance(stored, photometric, dataset))
        return ModalityImage(luminance, (_note(photometric),))
    padding = _padding(dataset, stored)
    values, notes = _modality_values(dataset, stored, index)
    if photometric == "MONOCHROME1":
        values = values.max() + values.min() - values
        notes = (*notes, "monochrome1_inverted")
    if padding is not None and not padding.all():
        values[padding] = values[~padding].min()
        notes = (*notes, "padding_replaced")
    return ModalityImage(values, notes)


def hounsfield_values(dataset: Dataset, index: int = 0) -> ModalityImage:
    """Return a CT slice in Hounsfield units, not below air.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE or UNSUPPORTED_PIXELS.
    """
    stored, photometric = _decoded(dataset, index)
    if not photometric.startswith("MONOCHROME") or stored.ndim != 2:
        raise _unsupported(
            f"a CT slice with {_named(photometric)} holds no Hounsfield units",
        )
    padding = _padding(dataset, stored)
    slope, intercept, notes = rescale(dataset, index)
    if stored.dtype.kind in "iu" and _has_wrapped_offset(dataset, slope, intercept):
        values, notes = unwrap_12_bit(stored), (*notes, "unsigned_12_bit_repaired")
    else:
        values, notes = _modality_values(dataset, stored, index)
    if padding is not None:
        values[padding] = AIR_HU
        notes = (*notes, "padding_replaced")
    if float(values.min()) < AIR_HU:
        values = np.maximum(values, np.float32(AIR_HU))
        notes = (*notes, "below_air_clamped")
    return ModalityImage(values, notes)


def unwrap_12_bit(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Undo the offset of 1000 and the wrap at 4096 of some unsigned 12-bit CT images.

    Their values are HU modulo 4096, without the Rescale Intercept that would say so; the RSNA
    2019 set holds thousands. Values up to 3095 are HU as they stand, those above are negative.
    """
    shifted = (stored.astype(np.int32) + 1000) % 4096
    return (shifted - 1000).astype(np.float32)


def used_bits(stored: NDArray[Any], bits_stored: int, high_bit: int, signed: bool) -> NDArray[Any]:
    """Keep the bits of the pixel and drop what else is in the cell, such as an overlay.

    Parameters
    ----------
    stored : ndarray of 8, 16 or 32-bit integers
        Cells as they are in the file.
    bits_stored, high_bit : int
        (0028,0101) and (0028,0102), PS3.5 8.1.1.
    signed : bool
        Pixel Representation (0028,0103) is 1.
    """
    allocated = stored.dtype.itemsize * 8
    if not 1 <= bits_stored <= high_bit + 1 <= allocated or bits_stored == allocated:
        return stored
    kind = np.dtype(f"{'i' if signed else 'u'}{stored.dtype.itemsize}")
    cells = stored.view(kind)
    moved: NDArray[Any] = (cells << (allocated - 1 - high_bit)) >> (allocated - bits_stored)
    return moved


def _decoded(dataset: Dataset, index: int) -> tuple[NDArray[Any], str]:
    try:
        stored, photometric = decode_frame(dataset, index)
    except DecodingError as error:
        raise _undecodable(str(error)) from error
    coloured = stored.ndim == 3 and photometric == "RGB" and stored.shape[-1] in (3, 4)
    if stored.ndim != 2 and not coloured:
        raise _unsupported(
            f"{_named(photometric)} with values of shape {stored.shape}",
        )
    if stored.dtype.kind in "iu" and not transfer_syntax(dataset).is_encapsulated:
        bits = whole_number(dataset, "BitsStored") or stored.dtype.itemsize * 8
        high = whole_number(dataset, "HighBit")
        signed = whole_number(dataset, "PixelRepresentation") == 1
        stored = used_bits(stored, bits, bits - 1 if high is None else high, signed)
    return stored, photometric


def _modality_values(
    dataset: Dataset, stored: NDArray[Any], index: int
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Apply the Modality LUT or the rescale (PS3.3 C.11.1); without either the values stand."""
    if items(dataset, "ModalityLUTSequence"):
        try:
            looked_up = apply_modality_lut(stored, dataset)
        except DAMAGE as error:
            raise _unsupported(
                f"the Modality LUT Sequence (0028,3000) is damaged ({type(error).__name__})",
            ) from error
        return _finite(np.asarray(looked_up, dtype=np.float32)), ("modality_lut",)
    slope, intercept, notes = rescale(dataset, index)
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(np.float32)
        if slope != 1.0:
            values *= np.float32(slope)
        if intercept != 0.0:
            values += np.float32(intercept)
    return _finite(values), notes


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise _unsupported("some pixels have a value that is no finite number")
    return values


def _has_wrapped_offset(dataset: Dataset, slope: float, intercept: float) -> bool:
    return (
        whole_number(dataset, "BitsStored") == 12
        and not whole_number(dataset, "PixelRepresentation")
        and slope == 1.0
        and intercept > -100.0
        and not items(dataset, "ModalityLUTSequence")
    )


def _padding(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where the image is padded (PS3.3 C.7.5.1.1.2), or None if it is nowhere."""
    value = element(dataset, "PixelPaddingValue")
    if not isinstance(value, int) or stored.ndim != 2:
        return None
    limit = element(dataset, "PixelPaddingRangeLimit")
    limit = limit if isinstance(limit, int) else value
    padded = (stored >= min(value, limit)) & (stored <= max(value, limit))
    return padded if padded.any() else None


def _luminance(stored: NDArray[Any], photometric: str, dataset: Dataset) -> NDArray[np.float32]:
    if photometric == "PALETTE COLOR":
        try:
            stored = apply_color_lut(stored, dataset)
        except DAMAGE as error:
            raise _unsupported(
                f"the palette colour lookup table is damaged ({type(error).__name__})",
            ) from error
    luminance: NDArray[np.float32] = stored[..., :3].astype(np.float32) @ _LUMINANCE
    return luminance


def _note(photometric: str) -> str:
    return "palette_to_luminance" if photometric == "PALETTE COLOR" else "colour_to_luminance"


def _undecodable(reason: str) -> NotAnalysableError:
    return NotAnalysableError(NotAnalysed.UNDECODABLE, reason)


def _unsupported(reason: str) -> NotAnalysableError:
    return NotAnalysableError(NotAnalysed.UNSUPPORTED_PIXELS, reason)


def _named(photometric: str) -> str:
    """Name a defined term; anything else may be anything, and is not repeated."""
    known = photometric in list(PhotometricInterpretation)
    return f"Photometric Interpretation {photometric if known else 'of no defined term'}"


def common_notes(notes: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """Count how many images each note was made for, in the order of the alphabet."""
    flat = sorted(note for image in notes for note in set(image))
    return {note: flat.count(note) for note in dict.fromkeys(flat)}
