"""Rows made with matrices, from memory used in turns, are those of `preprocess`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.device_input.banded import axis_plan, batch_plan, placed
from inference.device_input.device_input import DeviceInput, Picture
from inference.device_input.lanes import CpuLane, Mark
from inference.device_input.staging import Staging
from inference.device_input.stored_picture import StoredPicture
from inference.input_spec import InputSpec
from inference.pixels import ModalityImage
from inference.placement import Placement
from inference.preprocess import prepare_ct, prepare_radiograph
from inference.resize import scale_plane
from inference.windows import BRAIN, SOFT, SUBDURAL

CPU = torch.device("cpu")
CT = InputSpec("ct_slices", 48, (BRAIN, SUBDURAL, SOFT))


def stored(
    seed: int, shape: tuple[int, int], dtype: type[np.generic] = np.int16, turned: bool = False
) -> StoredPicture:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 4000, shape)
    pixels = pixels // 16 if np.dtype(dtype).itemsize == 1 else pixels
    if dtype is np.uint16:
        pixels = pixels + 40_000
    table = np.arange(pixels.min(), pixels.max() + 1, dtype=np.float32)
    table = table / table[-1] * np.float32(3000.0) - np.float32(1000.0)
    ends = float(table.min()), float(table.max())
    return StoredPicture(
        pixels.astype(dtype), int(pixels.min()), table, *ends, (), (-1000.0, 2300.0), turned
    )


@st.composite
def placements(draw: st.DrawFn, rows: int, columns: int, size: int) -> Placement:
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
    bottom, right = draw(st.integers(top + 1, rows)), draw(st.integers(left + 1, columns))
    return Placement((rows, columns), (top, left, bottom, right), size)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bands_crop_scale_and_centre(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150))
    size = data.draw(st.integers(1, 70))
    where = data.draw(st.lists(placements(rows, columns, size), min_size=1, max_size=3))
    pictures = torch.rand(len(where), rows, 2, columns)
    plan = [torch.from_numpy(one) for one in batch_plan(tuple(where)).arrays]
    made = placed(pictures, size, *plan)
    assert made.shape == (len(where), 2, size, size)
    for picture, place, found in zip(pictures, where, made, strict=True):
        top, left, bottom, right = place.box
        told = np.zeros((2, size, size), np.float32)
        down, across = place.inside
        for channel in (0, 1):
            part = picture[top:bottom, channel, left:right].numpy()
            scale_plane(part, told[channel, down, across])
        np.testing.assert_allclose(found.numpy(), told, rtol=0, atol=2e-6)


def test_bands_are_a_small_part_of_the_whole_matrix() -> None:
    plan = axis_plan(512, 256, 256)
    assert plan.weights.size * 6 < 512 * 256


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
def test_slices_of_different_shapes_and_types_and_boxes_are_made_together(
    dtype: type[np.generic],
) -> None:
    shapes = [(64, 64), (80, 50), (64, 64), (48, 48)]
    kinds = [dtype, dtype, np.int16, np.uint16]
    pictures = [stored(n, s, k) for n, (s, k) in enumerate(zip(shapes, kinds, strict=True))]
    boxes = [(3, 5, 60, 61), (0, 0, 80, 50), (0, 0, 64, 64), (0, 0, 48, 48)]
    where = [Placement(s, b, 48) for s, b in zip(shapes, boxes, strict=True)]
    made = DeviceInput(CT, CpuLane()).prepare(pictures, where, [None] * 4).rows
    for picture, place, row in zip(pictures, where, made, strict=True):
        told = torch.as_tensor(prepare_ct(picture.values[None], CT, CPU, [place])[0])
        torch.testing.assert_close(row, told, rtol=0, atol=1e-5)


def test_what_has_no_table_is_put_in_its_place() -> None:
    first, last = stored(1, (64, 64)), stored(2, (64, 64))
    image = ModalityImage(stored(3, (64, 64)).values, ())
    whole = Placement.whole((64, 64), 48)
    row = np.asarray(prepare_ct(image.values[None], CT, CPU, [whole])[0])
    pictures: list[Picture] = [first, image, last]
    prepared = DeviceInput(CT, CpuLane()).prepare(pictures, [whole] * 3, [None, row, None])
    told = prepare_ct(np.stack([first.values, image.values, last.values]), CT, CPU, [whole] * 3)
    torch.testing.assert_close(prepared.rows, torch.as_tensor(told), rtol=0, atol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("intensity", ["percentiles", "full_range"])
def test_films_of_different_shapes_are_spread_one_by_one(turned: bool, intensity: str) -> None:
    spec = InputSpec(
        "radiograph",
        40,
        intensity=intensity,
        value_range=(-1.0, 1.0),
        copies=3,  # type: ignore[arg-type]
    )
    pictures = [stored(n, (90, 70), np.uint16, turned) for n in range(3)]
    boxes = [(0, 0, 90, 70), (10, 0, 80, 70), (0, 0, 90, 70)]
    where = [Placement((90, 70), box, 40) for box in boxes]
    prepared = DeviceInput(spec, CpuLane()).prepare(pictures, where, [None] * 3)
    assert prepared.contrast is not None
    assert prepared.contrast.tolist() == [True] * 3
    for picture, place, row in zip(pictures, where, prepared.rows, strict=True):
        values, full = picture.values, picture.full_range
        assert full is not None
        if turned:  # as `prepare_radiograph` would of a chest
            total = picture.lowest + picture.highest if intensity == "percentiles" else sum(full)
            values = np.float32(total) - values
        told = prepare_radiograph(values, spec, CPU, place, full)[0]
        torch.testing.assert_close(row, torch.as_tensor(told), rtol=0, atol=1e-5)


def test_a_film_of_one_grey_is_black_and_known_to_be_flat() -> None:
    spec = InputSpec("radiograph", 40)
    one = StoredPicture(np.full((50, 50), 7, np.uint8), 7, np.ones(1, np.float32), 1.0, 1.0, ())
    where = [Placement.whole((50, 50), 40)]
    prepared = DeviceInput(spec, CpuLane()).prepare([one], where, [None])
    assert prepared.contrast is not None
    assert not prepared.contrast.any()
    assert not prepared.rows.any()


Copies = list[tuple[torch.Tensor, torch.Tensor]]


class LateLane(CpuLane):
    """Copies as late as a stream may: when somebody waits for a mark made after it."""

    def __init__(self) -> None:
        self._begun: list[Copies] = [[]]
        self.taken = 0

    def memory(self, size: int) -> torch.Tensor:
        self.taken += 1
        return torch.zeros(size, dtype=torch.uint8)

    def upload(self, memory: torch.Tensor) -> torch.Tensor:
        there = torch.full_like(memory, 255)
        self._begun[-1].append((there, memory))
        return there

    def mark(self) -> Mark:
        self._begun.append([])
        return _Late(self._begun[:-1])


class _Late:
    def __init__(self, before: list[Copies]) -> None:
        self._before = before

    def wait(self) -> None:
        for copies in self._before:
            while copies:
                there, memory = copies.pop(0)
                there.copy_(memory)

    def follow(self, tensor: torch.Tensor) -> None:
        self.wait()


def test_memory_is_not_written_to_before_its_copy_has_ended() -> None:
    lane = LateLane()
    staging = Staging(lane)
    arrays = [np.full((5, 3), n, np.int16) for n in range(7)]
    sent = [staging.upload([one, one.astype(np.float32)]) for one in arrays]
    lane.mark().wait()
    for one, (whole, floats) in zip(arrays, sent, strict=True):
        np.testing.assert_array_equal(whole.numpy(), one)
        np.testing.assert_array_equal(floats.numpy(), one.astype(np.float32))
    assert lane.taken == 2  # in turns, and pinned once


def test_memory_grows_and_unsigned_cells_keep_their_bits() -> None:
    staging = Staging(CpuLane())
    for length in (3, 5000, 10):
        cells = np.linspace(0, 65_535, length).astype(np.uint16)
        (there,) = staging.upload([cells])
        np.testing.assert_array_equal(there.numpy().view(np.uint16), cells)
