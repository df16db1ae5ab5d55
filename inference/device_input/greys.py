"""What a network is shown of each stored value, before anything is scaled: a table for a channel.

The steps are those of `preprocess`, done to the few thousand entries of a table instead of to the
million pixels of a picture. Light: no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..input_spec import InputSpec
from .stored_picture import StoredPicture


def greys_of(picture: StoredPicture, spec: InputSpec) -> NDArray[np.float32]:
    """Return the greys of each entry of a picture's table, (channels, entries).

    Of slices a channel for each window; of a film one, before its percentiles are known.
    """
    if spec.kind == "ct_slices":
        with np.errstate(over="ignore"):  # a step is a ramp that is steeper than numbers go
            windows = [window.apply(picture.table) for window in spec.windows]
        return np.stack(windows).astype(np.float32, copy=False)
    return _of_film(picture, spec)[None]


def _of_film(picture: StoredPicture, spec: InputSpec) -> NDArray[np.float32]:
    """Return greys above 0, negatives turned round; an offset goes before anything is rounded."""
    table = picture.table
    if spec.intensity == "full_range":
        assert picture.full_range is not None, "the reader has looked"
        low, high = picture.full_range
        greys = ((table - np.float32(low)) / np.float32(high - low)).clip(0.0, 1.0)
        return np.float32(1.0) - greys if picture.turned else greys
    greys = table - np.float32(picture.lowest)
    if picture.turned:
        return np.float32(np.float32(picture.highest) - np.float32(picture.lowest)) - greys
    return greys
