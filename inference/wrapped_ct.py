"""CT slices whose negative units were stored without a sign, and the way back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .functional_groups import items, whole_number

# An intercept above this is none that makes unsigned values reach air.
_LEAST_INTERCEPT = -100.0
# Unsigned values of 16 bits from here on are negative ones of a CT: no unit is so high.
_NEGATIVE = 65_536 - 4096


def has_wrapped_offset(
    dataset: Dataset, stored: NDArray[Any], slope: float, intercept: float
) -> bool:
    """Return whether values are units modulo 4096; see `unwrap_12_bit`."""
    return (
        stored.dtype.kind in "iu"
        and _is_unsigned(dataset, 12)
        and slope == 1.0
        and intercept > _LEAST_INTERCEPT
    )


def unwrap_12_bit(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Undo the offset of 1000 and the wrap at 4096 of some unsigned 12-bit CT images.

    Their values are HU modulo 4096, without the Rescale Intercept that would say so; the RSNA
    2019 set holds thousands. Values up to 3095 are HU as they stand, those above are negative.
    """
    shifted = (stored.astype(np.int32) + 1000) % 4096
    return (shifted - 1000).astype(np.float32)


def has_lost_sign(
    dataset: Dataset, stored: NDArray[Any], padding: NDArray[np.bool_] | None = None
) -> bool:
    """Return whether values of 16 bits are negative ones that are declared unsigned.

    They are where some are as high as -4096 to -1 without their sign and none lies between these
    and the highest that a signed value can be. What is padded is not looked at.
    """
    if stored.dtype != np.uint16 or not _is_unsigned(dataset, 16):
        return False
    high = stored >= 32_768
    if padding is not None:
        high &= ~padding
    return bool(high.any()) and int(stored[high].min()) >= _NEGATIVE


def _is_unsigned(dataset: Dataset, bits: int) -> bool:
    return (
        whole_number(dataset, "BitsStored") == bits
        and not whole_number(dataset, "PixelRepresentation")
        and not items(dataset, "ModalityLUTSequence")
    )
