"""The products of small matrices are torch's bilinear interpolation with antialiasing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.heap import keep_freed_memory
from inference.input_spec import InputSpec
from inference.placement import Placement
from inference.preprocess import place_ct, prepare_ct, prepare_radiograph
from inference.resize import scale_plane
from inference.torch_preprocess import film, head_boxes, slices
from inference.windows import BRAIN, SOFT, SUBDURAL, VoiLutFunction, Window

# Of a picture of one column torch repeats the first row, which is a fault of torch's.
LENGTH = st.integers(2, 700)


def by_torch(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)


@given(rows=LENGTH, columns=LENGTH, down=LENGTH, across=LENGTH)
@settings(max_examples=60, deadline=None)
def test_any_size_becomes_any_other(rows: int, columns: int, down: int, across: int) -> None:
    picture = np.random.default_rng(rows).random((rows, columns), dtype=np.float32)
    made = np.empty((down, across), dtype=np.float32)
    scale_plane(picture, made)
    exact = by_torch(torch.from_numpy(picture)[None, None], (down, across))[0, 0].numpy()
    np.testing.assert_allclose(made, exact, rtol=0, atol=1e-6)


def test_a_large_picture_is_scaled_band_by_band() -> None:
    values = np.random.default_rng(1).integers(0, 4096, (1700, 1300)).astype(np.float32)
    spec = InputSpec("radiograph", 224, intensity="full_range")
    place = Placement.whole((1700, 1300), 224)
    here = np.asarray(prepare_radiograph(values, spec, "cpu", place, (0.0, 4095.0)))
    exact = by_torch(torch.from_numpy(values / 4095.0)[None, None], place.fitted)
    np.testing.assert_allclose(here[(..., *place.inside)], exact.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("intensity", ["percentiles", "full_range"])
@pytest.mark.parametrize("turned", [False, True])
def test_films_are_what_a_device_of_torch_makes_of_them(intensity: str, turned: bool) -> None:
    values = np.random.default_rng(1).integers(40, 4096, (700, 500)).astype(np.float32)
    spec = replace(InputSpec("radiograph", 96, copies=3), intensity=intensity)
    place = Placement((700, 500), (13, 20, 600, 480), 96)
    known = (0.0, 4095.0) if intensity == "full_range" else None
    lit = np.where(np.arange(500) % 50 < 25, values, 4095 - values) if turned else values
    there = film(lit, spec, place, known, False, "cpu").numpy()
    here = np.asarray(prepare_radiograph(lit, spec, "cpu", place, known))
    np.testing.assert_allclose(here, there, rtol=0, atol=2e-6)


@pytest.mark.parametrize("crop", ["none", "head"])
def test_heads_are_what_a_device_of_torch_makes_of_them(crop: str) -> None:
    spec = replace(InputSpec("ct_slices", 96, (BRAIN, SOFT)), crop=crop)
    hu = np.random.default_rng(3).normal(40, 20, (3, 190, 130)).astype(np.float32)
    hu[:, :40] = hu[1, :, :30] = -1000.0
    places = place_ct(hu, spec)
    if crop == "head":
        assert tuple(place.box for place in places) == tuple(head_boxes(hu, "cpu"))
        assert len(set(places)) == 2
    there = slices(hu, spec, places, "cpu").numpy()
    here = np.asarray(prepare_ct(hu, spec, "cpu", places))
    np.testing.assert_allclose(here, there, rtol=0, atol=1e-6)


@pytest.mark.parametrize("crop", ["none", "head"])
def test_slices_are_what_torch_makes_of_them(crop: str) -> None:
    windows = (BRAIN, SUBDURAL, SOFT, Window(600, 2800, "", VoiLutFunction.SIGMOID))
    windows = (*windows, Window(40, 80), Window(40, 1))
    spec = replace(InputSpec("ct_slices", 96, windows), crop=crop)
    hu = np.random.default_rng(2).normal(40, 60, (2, 160, 120)).astype(np.float32)
    hu[:, :30] = -1000
    made = torch.from_numpy(np.asarray(prepare_ct(hu, spec)))
    for one, row in zip(hu, made, strict=True):
        (place,) = place_ct(one[None], spec)
        top, left, bottom, right = place.box
        channels = torch.stack([w.apply(torch.from_numpy(one)) for w in windows])
        part = by_torch(channels[None, :, top:bottom, left:right], place.fitted)[0]
        rows, columns = place.fitted
        up, before = (96 - rows) // 2, (96 - columns) // 2
        expected = torch.zeros_like(row)
        expected[:, up : up + rows, before : before + columns] = part
        torch.testing.assert_close(row, expected.clamp(0, 1), rtol=0, atol=1e-6)


@given(
    rows=st.integers(20, 300), columns=st.integers(20, 300), size=st.integers(16, 300),
    box=st.tuples(*[st.floats(0, 1)] * 4),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_air_around_a_head_is_black_and_changes_nothing(
    rows: int, columns: int, size: int, box: tuple[float, ...]
) -> None:
    spec = InputSpec("ct_slices", size, (BRAIN, SUBDURAL, SOFT))
    hu = np.random.default_rng(rows).normal(-700, 60, (1, rows, columns)).astype(np.float32)
    (top, bottom), (left, right) = sorted(box[:2]), sorted(box[2:])
    part = hu[0, int(top * rows) : int(bottom * rows), int(left * columns) : int(right * columns)]
    part += np.float32(740)
    place = Placement.whole((rows, columns), size)
    made = np.full((1, 3, size, size), np.nan, np.float32)
    told = prepare_ct(hu, spec, "cpu", [place], made)
    assert told is made
    there = slices(hu, spec, [place], "cpu").numpy()
    np.testing.assert_allclose(made, there, rtol=0, atol=1e-6)
    if not part.size:
        assert not made.any()


def test_memory_is_kept_where_the_library_can() -> None:
    assert keep_freed_memory() in (True, False)
