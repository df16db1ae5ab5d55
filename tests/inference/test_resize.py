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
from inference.preprocess import _film, _film_on_cpu, prepare_ct
from inference.resize import fitted
from inference.windows import BRAIN, SOFT, SUBDURAL, VoiLutFunction, Window

# Of a picture of one column torch repeats the first row, which is a fault of torch's.
LENGTH = st.integers(2, 700)


def by_torch(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)


@given(rows=LENGTH, columns=LENGTH, down=LENGTH, across=LENGTH)
@settings(max_examples=60, deadline=None)
def test_any_size_becomes_any_other(rows: int, columns: int, down: int, across: int) -> None:
    picture = torch.rand(1, 2, rows, columns, generator=torch.Generator().manual_seed(rows))
    torch.testing.assert_close(
        fitted(picture, (down, across)), by_torch(picture, (down, across)), rtol=0, atol=1e-6
    )


def test_a_large_picture_is_scaled_band_by_band() -> None:
    values = np.random.default_rng(1).integers(0, 4096, (1700, 1300)).astype(np.float32)
    place = Placement.whole((1700, 1300), 224)
    for full_range in (None, (0.0, 4095.0)):
        for turned in (False, True):
            here = _film_on_cpu(values, place, full_range, turned)
            there = _film(values, place, full_range, turned, torch.device("cpu"))
            exact = by_torch(
                there.new_tensor(greys(values, full_range, turned))[None, None], place.fitted
            )
            scale = 1.0 if full_range else 4095.0
            torch.testing.assert_close(here / scale, exact / scale, rtol=0, atol=1e-6)
            torch.testing.assert_close(here / scale, there / scale, rtol=0, atol=1e-6)


def greys(values: np.ndarray, full_range: tuple[float, float] | None, turned: bool) -> np.ndarray:
    made = values / 4095.0 if full_range else values - values.min()
    return (1.0 if full_range else made.max()) - made if turned else made


@pytest.mark.parametrize("crop", ["none", "head"])
def test_slices_are_what_torch_makes_of_them(crop: str) -> None:
    windows = (BRAIN, SUBDURAL, SOFT, Window(600, 2800, "", VoiLutFunction.SIGMOID))
    windows = (*windows, Window(40, 80), Window(40, 1))
    spec = replace(InputSpec("ct_slices", 96, windows), crop=crop)
    hu = np.random.default_rng(2).normal(40, 60, (2, 160, 120)).astype(np.float32)
    hu[:, :30] = -1000
    made = prepare_ct(hu, spec, torch.device("cpu"))
    # The meta device has no values; a subclass of the CPU's would take the other way. So by hand:
    for one, row in zip(hu, made, strict=True):
        (place,) = (p for p in placements(one, spec))
        top, left, bottom, right = place.box
        channels = torch.stack([w.apply(torch.from_numpy(one)) for w in windows])
        part = by_torch(channels[None, :, top:bottom, left:right], place.fitted)[0]
        rows, columns = place.fitted
        up, before = (96 - rows) // 2, (96 - columns) // 2
        expected = torch.zeros_like(row)
        expected[:, up : up + rows, before : before + columns] = part
        torch.testing.assert_close(row, expected.clamp(0, 1), rtol=0, atol=1e-6)


def placements(hu: np.ndarray, spec: InputSpec) -> tuple[Placement, ...]:
    from inference.preprocess import place_ct

    return place_ct(hu[None], spec, torch.device("cpu"))


def test_memory_is_kept_where_the_library_can() -> None:
    assert keep_freed_memory() in (True, False)
