"""Volumes by masks and the true places of slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import codes
from inference.image_file import open_image
from inference.measure import MOST_ML, cells_mm, left_out, pixel_ml, volumes
from inference.objects import validate_report
from inference.reading import Mask, SourceImage
from inference.volume import Stack, arrange, slices_of

Sources = Callable[[Iterable[Path]], list[SourceImage]]
# None is more than twice another: that is a gap.
distances = st.lists(st.floats(4.0, 8.0), min_size=1, max_size=20)


@given(distances)
def test_cells_fill_the_stack_without_gap_or_overlap(apart: list[float]) -> None:
    at = np.concatenate(([3.0], 3.0 + np.cumsum(apart)))
    cells = cells_mm(at)
    beyond = (apart[0] + apart[-1]) / 2.0
    assert cells.sum() == pytest.approx(at[-1] - at[0] + beyond)
    assert (cells > 0).all()


@given(distances, st.data())
def test_slices_at_one_place_share_its_cell(apart: list[float], data: st.DataObject) -> None:
    at = np.concatenate(([0.0], np.cumsum(apart)))
    counts = data.draw(st.lists(st.integers(1, 3), min_size=len(at), max_size=len(at)))
    doubled = cells_mm(np.repeat(at, counts))
    summed = np.add.reduceat(doubled, np.concatenate(([0], np.cumsum(counts)[:-1])))
    assert summed == pytest.approx(cells_mm(at))


@pytest.mark.parametrize("far", [[60.0, 1000.0], [-900.0, 60.0], [-900.0, -500.0, 60.0, 1000.0]])
def test_a_slice_far_away_does_not_stand_for_the_gap(far: list[float]) -> None:
    even = 3.0 * np.arange(21)
    cells = cells_mm(np.array(sorted({*even.tolist(), *far})))
    assert cells.max() <= 1.5 * 3.0 + 3.0 / 2.0
    assert cells.sum() < 1.3 * cells_mm(even).sum()


def test_slices_that_are_missing_are_counted_once_at_most() -> None:
    all_but = np.delete(3.0 * np.arange(21), 7)
    assert cells_mm(all_but).sum() == pytest.approx(63.0)
    assert cells_mm(np.delete(3.0 * np.arange(21), slice(7, 12))).max() == pytest.approx(4.5)


def test_a_series_that_changes_its_spacing_keeps_it() -> None:
    at = np.cumsum([0.0] + [4.0] * 20 + [7.0] * 5)
    assert cells_mm(at)[[1, -2, -1]] == pytest.approx([4.0, 7.0, 7.0])


def stack_of(write_image: Callable[..., Path], sources: Sources, **elements: object) -> Stack:
    paths = [
        write_image(
            np.zeros((8, 10), dtype=np.int16),
            **{
                "ImagePositionPatient": [0, 0, z],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "PixelSpacing": [0.5, 0.8],
                "InstanceNumber": number,
                **elements,
            },
        )
        for number, z in enumerate((0.0, 2.0, 6.0))
    ]
    return arrange([s for one in sources(paths) for s in slices_of(one, open_image(one.path))])


def test_a_volume_counts_the_pixels_of_each_slice_by_its_cell(
    write_image: Callable[..., Path], sources: Sources
) -> None:
    stack = stack_of(write_image, sources)
    ml = pixel_ml(stack)
    assert ml is not None
    assert ml == pytest.approx(np.array([2.0, 3.0, 4.0]) * 0.4 / 1000.0)
    images = [(one.image.sop_instance_uid, one.frame) for one in stack.slices]
    full = np.ones((8, 10), dtype=np.bool_)
    masks = [Mask("a", *images[0], full), Mask("a", *images[2], full), Mask("b", *images[1], full)]
    found = {one.label: one for one in volumes(masks, images, ml)}
    assert found["a"].value == pytest.approx(80 * 6.0 * 0.4 / 1000.0)
    assert found["b"].value == pytest.approx(80 * 3.0 * 0.4 / 1000.0)
    assert (found["a"].quantity, found["a"].unit) == (codes.VOLUME, codes.MILLILITRE)


@pytest.mark.parametrize("ml", [1_300.0, np.inf, np.nan])
def test_a_volume_that_nobody_has_is_left_out(ml: float) -> None:
    full = np.ones((8, 10), dtype=np.bool_)
    masks = [Mask("a", "1.2", 0, full), Mask("b", "1.3", 0, full)]
    found = volumes(masks, [("1.2", 0), ("1.3", 0)], np.array([ml, 1_200.0]))
    assert [one.label for one in found] == ["b"]
    assert left_out(masks, found) == {"volume_implausible": ["a"]}
    assert left_out(masks[1:], found) == {}
    assert MOST_ML == validate_report._MOST_ML


@pytest.mark.parametrize(
    "elements",
    [
        {"PixelSpacing": [0, 0.8]},
        {"PixelSpacing": [0.5, 0.5], "ImagePositionPatient": [0, 0, 0]},
        {"PixelSpacing": [0.5, 0.5], "ImagePositionPatient": []},
    ],
)
def test_a_volume_that_nobody_can_know_is_none(
    elements: dict[str, object], write_image: Callable[..., Path], sources: Sources
) -> None:
    assert pixel_ml(stack_of(write_image, sources, **elements)) is None
