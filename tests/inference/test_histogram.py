"""Histograms: no step has more values than another, and bins are neither coarse nor chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from inference import histogram
from inference.evaluation.plots import spread_edges
from inference.pixels import ModalityImage


@given(st.integers(1, 70_000), st.integers(-2000, 2000), st.integers(2, 256))
def test_steps_of_whole_numbers_hold_as_many_values_each(count: int, low: int, bins: int) -> None:
    edges = histogram._edges(np.arange(low, low + count, dtype=np.float64), bins)
    steps = np.diff(edges)
    assert len(steps) <= bins
    assert (steps == steps[0]).all() and steps[0] == round(steps[0])
    assert edges[0] == low and edges[-2] <= low + count - 1 < edges[-1]
    # As coarse as it has to be, and no more.
    assert steps[0] == 1 or count > bins * (steps[0] - 1)


@pytest.mark.parametrize("bins", [20, 256])
def test_an_even_ramp_of_grey_is_no_comb(monkeypatch: pytest.MonkeyPatch, bins: int) -> None:
    ramp = np.tile(np.arange(390, dtype=np.float32), (10, 1))
    monkeypatch.setattr(histogram, "modality_image", lambda *_: ModalityImage(ramp, ()))
    counts, edges = histogram.value_counts(Dataset(), 0, bins)
    assert counts.sum() == ramp.size
    assert len(set(counts[:-1].tolist())) == 1 and counts[-1] <= counts[0]
    assert edges[0] == 0


def test_values_that_are_not_whole_are_spread_evenly() -> None:
    edges = histogram._edges(np.linspace(0.0, 1.3, 50), 20)
    assert len(edges) == 21
    assert (edges[0], edges[-1]) == (0.0, 1.3)


@pytest.mark.parametrize(
    ("images", "bins"), [(1, 10), (399, 10), (400, 20), (625, 25), (2499, 25), (90_000, 50)]
)
def test_a_report_has_bins_by_how_many_images_there_are(images: int, bins: int) -> None:
    edges = spread_edges(images)
    assert len(edges) == bins + 1 and (edges[0], edges[-1]) == (0.0, 1.0)
    # A decimal score lies in the bin that begins with it.
    for step in range(bins):
        counts, _ = np.histogram([step / bins], edges)
        assert counts[step] == 1
