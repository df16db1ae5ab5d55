"""What NumPy does to pictures is what torch does to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from hypothesis import given, settings
from hypothesis import strategies as st

from inference import intensity, plane_intensity
from inference.area_means import area_means
from inference.bilinear import bilinear
from inference.intensity_spec import Intensity

LENGTH = st.integers(1, 150)


def drawn(rows: int, columns: int) -> np.ndarray:
    draw = np.random.default_rng([rows, columns])
    return draw.random((rows, columns), dtype=np.float32)


@given(rows=LENGTH, columns=LENGTH, down=LENGTH, across=LENGTH)
@settings(max_examples=80, deadline=None)
def test_between_pixels_and_over_parts(rows: int, columns: int, down: int, across: int) -> None:
    picture, size = drawn(rows, columns), (down, across)
    given = torch.from_numpy(picture)[None, None]
    between = F.interpolate(given, size=size, mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(bilinear(picture, size), between.numpy(), rtol=0, atol=1e-5)
    means = F.interpolate(given, size=size, mode="area")[0, 0]
    np.testing.assert_allclose(area_means(picture, size), means.numpy(), rtol=0, atol=1e-5)


def test_the_picture_itself_is_never_given_back() -> None:
    picture = drawn(8, 8)
    assert not np.shares_memory(picture, bilinear(picture, (8, 8)))


@pytest.mark.parametrize(
    "step",
    [
        Intensity("range", (0.2, 0.7), (0.0, 1.0)),
        Intensity("range", (0.2, 0.7), (-1.0, 1.0), clip=False),
        Intensity("minmax", target=(0.0, 255.0)),
        Intensity("percentiles", (0.5, 99.5), (0.0, 1.0)),
        Intensity("standardize"),
        Intensity("standardize", mean=0.3, deviation=0.1),
        Intensity("standardize", nonzero=True),
    ],
)
@pytest.mark.parametrize("what", ["drawn", "with zeros", "one value", "nothing"])
def test_steps_of_intensity_are_the_same_without_torch(step: Intensity, what: str) -> None:
    picture = drawn(40, 30)
    if what == "with zeros":
        picture[picture < 0.5] = 0
    elif what != "drawn":
        picture[:] = 7.0 if what == "one value" else 0.0
    there = intensity.apply(torch.from_numpy(picture), (step,)).numpy()
    here = plane_intensity.apply(picture, step)
    assert here.dtype == np.float32
    np.testing.assert_allclose(here, there, rtol=1e-6, atol=1e-6)
