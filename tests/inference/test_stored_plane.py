"""What is made of stored values piece by piece is what is made of the picture as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.box_above import box_above
from inference.film_contrast import check_contrast
from inference.input_spec import InputSpec
from inference.preprocess import place_ct, place_radiograph, prepare_ct, prepare_radiograph
from inference.stored_plane import StoredPlane, ends_of, in_pieces, whole
from inference.windows import BRAIN, SOFT, SUBDURAL, VoiLutFunction, Window

TYPES = st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32"])
NUMBERS = st.floats(-3000, 3000, width=32)


def stored_of(kind: str, shape: tuple[int, int], seed: int = 0) -> NDArray[Any]:
    limits = np.iinfo(kind)
    rng = np.random.default_rng(seed)
    made = rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    made.flags.writeable = False  # as what is read from a file
    return made


@st.composite
def planes(draw: st.DrawFn) -> StoredPlane:
    shape = draw(st.tuples(st.integers(1, 90), st.integers(1, 90)))
    plane = StoredPlane(
        stored_of(draw(TYPES), shape, draw(st.integers(0, 9))),
        np.float32(draw(st.sampled_from([1.0, -1.0, 0.0, 0.5, 3.25]))),
        np.float32(draw(st.sampled_from([0.0, -1024.0, 0.1]))),
    )
    if draw(st.booleans()):
        plane = plane.inverted(draw(NUMBERS))
    return plane.at_least(draw(NUMBERS)) if draw(st.booleans()) else plane


def as_before(plane: StoredPlane) -> NDArray[np.float32]:
    """The same steps on the whole picture."""
    values = plane.stored.astype(np.float32) * plane.slope + plane.intercept
    if plane.taken_from is not None:
        values = plane.taken_from - values
    return values if plane.least is None else np.maximum(values, plane.least)


@given(plane=planes(), rows=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_pieces_are_of_the_whole(plane: StoredPlane, rows: tuple[float, float]) -> None:
    expected = as_before(plane)
    first, last = sorted(int(one * len(expected)) for one in rows)
    cells, piece = in_pieces(plane)
    assert cells is plane.stored
    part = cells[first:last]
    np.testing.assert_array_equal(
        piece(part, np.full(part.shape, np.nan, np.float32)), expected[first:last]
    )
    assert ends_of(plane) == (expected.min(), expected.max())
    before = plane.nbytes
    np.testing.assert_array_equal(whole(plane), expected)
    assert plane.values is plane.values
    assert plane.nbytes == before + expected.nbytes
    # Once they are all there they are taken from there.
    assert in_pieces(plane)[0] is plane.values
    np.testing.assert_array_equal(in_pieces(plane)[1](plane.values, plane.values), expected)


@given(plane=planes(), floor=NUMBERS)
def test_nothing_outside_of_the_box_is_above(plane: StoredPlane, floor: float) -> None:
    for one in (plane, as_before(plane)):
        top, left, bottom, right = box_above(*in_pieces(one), np.float32(floor))
        above = as_before(plane) > np.float32(floor)
        inside = above[top:bottom, left:right]
        assert inside.sum() == above.sum()
        if above.any():
            assert inside[:, 0].any() and inside[:, -1].any()
            assert inside[:8].any() and inside[-8:].any()
        else:
            assert inside.size == 0


@pytest.mark.parametrize("crop", ["none", "head"])
@pytest.mark.parametrize("size", [16, 90, 130])
@given(plane=planes())
@settings(max_examples=20, deadline=None)
def test_a_slice_in_pieces_is_the_slice(crop: str, size: int, plane: StoredPlane) -> None:
    windows = (BRAIN, SUBDURAL, SOFT)
    steps = (Window(600, 2800, "", VoiLutFunction.SIGMOID), Window(40, 1), Window(40_000, 100))
    for chosen in (windows, (*windows, *steps)):
        spec = replace(InputSpec("ct_slices", size, chosen), crop=crop)
        (place,) = places = place_ct([plane], spec)
        values = as_before(plane)
        assert place_ct(values[None], spec) == places
        made = prepare_ct([replace(plane, _whole=[])], spec, "cpu", [place])
        np.testing.assert_array_equal(made, prepare_ct(values[None], spec, "cpu", [place]))


@pytest.mark.parametrize("intensity", ["percentiles", "full_range"])
@pytest.mark.parametrize("crop", ["none", "square", "lungs"])
@pytest.mark.parametrize("polarity", ["tag", "chest"])
@given(plane=planes())
@settings(max_examples=10, deadline=None)
def test_a_film_in_pieces_is_the_film(
    intensity: str, crop: str, polarity: str, plane: StoredPlane
) -> None:
    spec = replace(InputSpec("radiograph", 40), intensity=intensity, crop=crop, polarity=polarity)
    values = as_before(plane)
    place = place_radiograph(plane, spec)
    assert place_radiograph(values, spec) == place
    known = (-5000.0, 70_000.0)
    fresh = replace(plane, _whole=[])
    made = prepare_radiograph(fresh, spec, "cpu", place, known)
    np.testing.assert_array_equal(made, prepare_radiograph(values, spec, "cpu", place, known))

    def judged(film: Any) -> str:
        try:
            check_contrast(film, np.asarray(made), place)
        except Exception as error:
            return str(error)
        return ""

    assert judged(replace(plane, _whole=[])) == judged(values)
