"""The words in which a result says what was assumed of, repaired in or done to its pixels."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from enum import StrEnum

from pydicom.uid import UID


class PixelNote(StrEnum):
    """What was done to the pixels of an image that its header alone does not say.

    They are stored beside the findings (``pixel_notes``), each with the number of images.
    ``deploy/docs/pixels.md`` says of each when it is made.
    """

    DECODER_FALLBACK = "decoder_fallback"
    HIGH_BIT_DEFAULTED = "high_bit_defaulted"
    RESCALE_SLOPE_DEFAULTED = "rescale_slope_defaulted"
    RESCALE_INTERCEPT_DEFAULTED = "rescale_intercept_defaulted"
    RESCALE_TYPE_IGNORED = "rescale_type_ignored"
    MODALITY_LUT = "modality_lut"
    VOI_ABSENT = "voi_absent"
    VOI_APPLIED = "voi_applied"
    UNUSED_BITS_DROPPED = "unused_bits_dropped"
    UNSIGNED_12_BIT_REPAIRED = "unsigned_12_bit_repaired"
    UNSIGNED_16_BIT_REPAIRED = "unsigned_16_bit_repaired"
    WINDOWED_8_BIT_RESTORED = "windowed_8_bit_restored"
    BRAIN_WINDOW_ASSUMED = "brain_window_assumed"
    PADDING_REPLACED = "padding_replaced"
    PADDING_IGNORED = "padding_ignored"
    BELOW_AIR_CLAMPED = "below_air_clamped"
    MONOCHROME1_INVERTED = "monochrome1_inverted"
    MONOCHROME1_KEPT = "monochrome1_kept"
    COLOUR_TO_LUMINANCE = "colour_to_luminance"
    PALETTE_TO_LUMINANCE = "palette_to_luminance"
    POLARITY_CORRECTED = "polarity_corrected"
    LUNGS_NOT_FOUND = "lungs_not_found"
    PIXELS_NOT_SQUARE = "pixels_not_square"


def common_notes(notes: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """Count how many images each note was made for, in the order of the alphabet."""
    flat = sorted(str(note) for image in notes for note in set(image))
    return {note: flat.count(note) for note in dict.fromkeys(flat)}


def count_fallback(facts: MutableMapping[str, object], syntax: str, notes: Sequence[str]) -> None:
    """Count in the facts of a reading an image that the first decoder did not read.

    Parameters
    ----------
    facts : mapping
        ``decoder_fallbacks`` is by the name of the transfer syntax.
    syntax : str
        Transfer Syntax UID (0002,0010).
    """
    if PixelNote.DECODER_FALLBACK in notes:
        name = UID(syntax).name
        add_fallbacks(facts, {"decoder_fallbacks": {name: 1}})


def add_fallbacks(facts: MutableMapping[str, object], more: Mapping[str, object]) -> None:
    """Add what `count_fallback` counted in the facts of a part of a reading."""
    added = more.get("decoder_fallbacks")
    if not isinstance(added, dict):
        return
    counted = facts.setdefault("decoder_fallbacks", {})
    assert isinstance(counted, dict)
    for name, count in added.items():
        counted[name] = counted.get(name, 0) + count
