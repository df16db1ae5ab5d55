"""What part of a picture a network is shown, and the way back from its maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.heads import head_boxes
from inference.input_spec import InputSpec
from inference.placement import Placement
from inference.preprocess import place_ct
from inference.tensors import prepare_ct
from inference.windows import BRAIN

CPU = torch.device("cpu")
HEAD = InputSpec("ct_slices", 64, windows=(BRAIN,), crop="head")


def slice_with(*boxes: tuple[int, int, int, int], hu: float = 40.0, size: int = 256) -> np.ndarray:
    image = np.full((size, size), -1000.0, dtype=np.float32)
    for top, left, bottom, right in boxes:
        image[top:bottom, left:right] = hu
    return image


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    rows, columns = draw(st.integers(1, 700)), draw(st.integers(1, 700))
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
    bottom, right = draw(st.integers(top + 1, rows)), draw(st.integers(left + 1, columns))
    return Placement((rows, columns), (top, left, bottom, right), draw(st.integers(16, 256)))


@settings(deadline=None)
@given(placements())
def test_the_part_fits_the_input_and_fills_its_longer_side(place: Placement) -> None:
    down, across = place.inside
    assert 0 <= down.start < down.stop <= place.size
    assert 0 <= across.start < across.stop <= place.size
    assert max(place.fitted) == place.size


def test_a_box_that_is_not_inside_the_source_is_refused() -> None:
    for box in ((0, 0, 11, 5), (-1, 0, 5, 5), (3, 3, 3, 5)):
        with pytest.raises(ValueError, match="not inside"):
            Placement((10, 10), box, 64)


def test_a_map_over_the_part_comes_back_where_the_part_is() -> None:
    place = Placement((200, 100), (100, 20, 180, 60), 64)
    square = np.zeros((64, 64), dtype=np.float32)
    down, across = place.inside
    square[down, across] = 1.0
    whole = place.over_source(square)
    ys, xs = np.nonzero(whole)
    scale = whole.shape[0] / 200
    assert (ys.min() / scale, (ys.max() + 1) / scale) == pytest.approx((100, 180), abs=1.5)
    assert (xs.min() / scale, (xs.max() + 1) / scale) == pytest.approx((20, 60), abs=1.5)
    assert whole.shape[1] / whole.shape[0] == pytest.approx(0.5, abs=0.02)


def test_the_head_is_the_largest_part_not_a_headrest_nor_letters() -> None:
    head, rest, letter = (60, 80, 200, 190), (230, 10, 236, 250), (5, 5, 20, 20)
    (box,) = head_boxes(slice_with(head, rest, letter)[None])
    assert np.abs(np.subtract(box, head)).max() <= 8


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 100), st.integers(40, 150), st.integers(40, 150))
def test_a_moved_head_is_shown_alike(top: int, left: int, tall: int, wide: int) -> None:
    image = slice_with((top, left, top + tall, left + wide))
    (box,) = head_boxes(image[None])
    assert np.abs(np.subtract(box, (top, left, top + tall, left + wide))).max() <= 8
    shown = prepare_ct(image[None], HEAD, CPU)[0, 0].numpy()
    assert (shown > 0.25).mean() > 0.6 * min(tall, wide) / max(tall, wide)


def test_fat_around_and_an_8_bit_picture_change_nothing() -> None:
    head = slice_with((60, 80, 200, 190))
    fat = head.copy()
    fat[50:210, 70:200] = np.maximum(fat[50:210, 70:200], -90.0)
    picture = np.clip(head, 0, 80)
    boxes = [head_boxes(one[None]) for one in (head, fat, picture)]
    assert boxes[0] == boxes[1] == boxes[2]


@pytest.mark.parametrize("hu", [-1000.0, 40.0])
def test_without_a_part_that_stands_out_all_is_shown(hu: float) -> None:
    image = np.full((1, 128, 96), hu, dtype=np.float32)
    assert place_ct(image, HEAD, CPU)[0].box == (0, 0, 128, 96)


def test_slices_of_one_batch_are_each_shown_by_themselves() -> None:
    small, large = slice_with((100, 100, 150, 150)), slice_with((20, 20, 240, 240))
    both = prepare_ct(np.stack([small, large]), HEAD, CPU)
    assert torch.equal(both[0], prepare_ct(small[None], HEAD, CPU)[0])
    assert torch.equal(both[1], prepare_ct(large[None], HEAD, CPU)[0])


def test_the_crop_is_part_of_the_configuration_only_where_there_is_one() -> None:
    whole = InputSpec("ct_slices", 64, windows=(BRAIN,))
    assert "crop" not in whole.to_dict()
    assert InputSpec.from_dict(HEAD.to_dict()) == HEAD
    with pytest.raises(ValueError, match="has no crop"):
        InputSpec("radiograph", 64, crop="head")
