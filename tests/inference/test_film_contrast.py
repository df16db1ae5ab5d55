"""A film shows something as soon as one pixel of it differs from another, wherever it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import NotAnalysableError
from inference.film_contrast import check_contrast
from inference.placement import Placement

SHOWN = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 1, 16, 16)


@given(rows=st.integers(1, 200), columns=st.integers(1, 5), place=st.floats(0, 0.999),
       change=st.sampled_from([-1, 1]))  # fmt: skip
def test_one_other_pixel_is_contrast(rows: int, columns: int, place: float, change: int) -> None:
    film = np.full((rows, columns), 7, dtype=np.float32)
    whole = Placement((rows, columns), (0, 0, rows, columns), 16, "stretch")
    with pytest.raises(NotAnalysableError, match="no contrast"):
        check_contrast(film, SHOWN, whole)
    film.flat[int(place * film.size)] += change
    if film.size > 1:
        check_contrast(film, SHOWN, whole)
    with pytest.raises(NotAnalysableError, match="no contrast"):
        check_contrast(film, np.full_like(SHOWN, 0.5), whole)
