"""Slices in space: order, spacing, tilt, gaps, localizers, enhanced images."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from inference.image_file import open_image
from inference.reading import SourceImage
from inference.volume import Slice, Stack, arrange, slices_of

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)

Sources = Callable[[Iterable[Path]], list[SourceImage]]


def image(number: int) -> SourceImage:
    return SourceImage(number, f"1.2.{number}", "1.2.3", "1.2.840.10008.1.2.1", Path("none"))


def axial(number: int, z: float | None, **changes: Any) -> Slice:
    values = {
        "image": image(number),
        "frame": 0,
        "rows": 512,
        "columns": 512,
        "instance_number": number,
        "position": None if z is None else (-100.0, -100.0, z),
        "orientation": AXIAL,
        "location": None,
        "thickness": 5.0,
        "gantry_tilt": None,
        "localizer": False,
    }
    return Slice(**{**values, **changes})


@given(
    positions=st.lists(st.floats(-900, 900), min_size=1, max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_the_order_of_arrival_changes_nothing(positions: list[float], seed: int) -> None:
    slices = [axial(number, z) for number, z in enumerate(positions)]
    shuffled = random.Random(seed).sample(slices, len(slices))
    expected, stack = arrange(slices), arrange(shuffled)
    assert stack.slices == expected.slices
    assert stack.facts == expected.facts
    assert len(stack.slices) == len(positions)
    assert (np.diff(stack.positions_mm) >= -1e-3).all()


@given(tilt=st.floats(-30, 30), spacing=st.floats(0.5, 10), count=st.integers(3, 30))
@settings(deadline=None)
def test_tilt_and_spacing_are_measured(tilt: float, spacing: float, count: int) -> None:
    angle = np.radians(tilt)
    orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(-np.sin(angle)))
    table = spacing / np.cos(angle)  # the table moves along z, the planes are apart by less
    stack = arrange(
        [axial(number, number * table, orientation=orientation) for number in range(count)]
    )
    assert stack.facts["spacing_mm"] == pytest.approx(spacing, abs=2e-3)
    assert stack.facts["plane_tilt_degrees"] == pytest.approx(abs(tilt), abs=0.02)
    assert stack.facts["shear_degrees"] == pytest.approx(abs(tilt), abs=0.02)
    assert stack.facts["spacing_even"]
    assert stack.gaps(1.6) == []


@given(missing=st.integers(2, 17), run=st.integers(1, 2))
@settings(deadline=None)
def test_missing_slices_are_gaps(missing: int, run: int) -> None:
    kept = [n for n in range(20) if not missing <= n < missing + run]
    stack = arrange([axial(number, number * 5.0) for number in kept])
    if missing + run < 20:
        assert stack.gaps(1.6) == [((missing - 1) * 5.0, (missing + run) * 5.0)]


def test_a_change_of_spacing_is_no_gap() -> None:
    positions = [*range(0, 40, 4), *range(40, 110, 8)]
    stack = arrange([axial(number, float(z)) for number, z in enumerate(positions)])
    assert stack.gaps(1.6) == []
    assert not stack.facts["spacing_even"]
    assert (stack.facts["spacing_min_mm"], stack.facts["spacing_max_mm"]) == (4.0, 8.0)


SPACING = st.sampled_from([0.5, 0.625, 1.25, 4.0, 5.0, 7.0])


def at(distances: Iterable[float]) -> Stack:
    return arrange([axial(n, float(z)) for n, z in enumerate(np.cumsum([0.0, *distances]))])


@given(
    spacing=SPACING,
    factor=st.floats(1.2, 4.0),
    below=st.integers(3, 20),
    above=st.integers(3, 20),
    between=st.none() | st.floats(0.1, 9.0),
)
@settings(deadline=None)
def test_one_change_of_spacing_is_even(
    spacing: float, factor: float, below: int, above: int, between: float | None
) -> None:
    change = [] if between is None else [between]
    stack = at([spacing] * below + change + [spacing * factor] * above)
    assert stack.uneven(0.05) == []


@given(spacing=SPACING, jitter=st.lists(st.floats(-0.02, 0.02), min_size=1, max_size=40))
@settings(deadline=None)
def test_small_differences_are_even_within_the_accepted_share(
    spacing: float, jitter: list[float]
) -> None:
    assert at([spacing * (1 + share) for share in jitter]).uneven(0.05) == []


@given(
    spacing=SPACING,
    before=st.integers(3, 20),
    after=st.integers(3, 20),
    factor=st.sampled_from([0.5, 1.3, 2.0, 3.0]),
)
@settings(deadline=None)
def test_one_distance_among_equal_ones_is_uneven(
    spacing: float, before: int, after: int, factor: float
) -> None:
    ((low, high),) = at([spacing] * before + [spacing * factor] + [spacing] * after).uneven(0.05)
    assert low == pytest.approx(spacing * before)
    assert high - low == pytest.approx(spacing * factor)


@given(distances=st.lists(st.floats(0.1, 10), min_size=1, max_size=20))
@settings(deadline=None)
def test_upside_down_the_same_distances_are_uneven(distances: list[float]) -> None:
    there, back = at(distances).uneven(0.1), at(distances[::-1]).uneven(0.1)
    assert len(there) == len(back)


def test_distances_that_take_turns_are_uneven() -> None:
    assert len(at([5, 6] * 6).uneven(0.05)) == 12
    assert at([5, 6] * 6).uneven(0.2) == []


def test_a_flipped_plane_is_still_ordered_from_the_feet_up() -> None:
    flipped = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    stack = arrange([axial(n, -5.0 * n, orientation=flipped) for n in range(4)])
    assert [one.instance_number for one in stack.slices] == [3, 2, 1, 0]


def test_slices_at_one_position_are_all_read_and_counted() -> None:
    slices = [axial(number, 5.0 * (number // 2)) for number in range(8)]
    stack = arrange(slices)
    assert [one.instance_number for one in stack.slices] == list(range(8))
    assert stack.facts["duplicate_positions"] == 4
    assert stack.facts["spacing_mm"] == 5.0


def test_localizers_and_other_planes_are_set_aside() -> None:
    slices = [axial(number, 5.0 * number) for number in range(5)]
    stack = arrange(
        [
            axial(8, 0.0, orientation=CORONAL, localizer=True),
            axial(9, 0.0, orientation=CORONAL),
            axial(10, 50.0, rows=256),
            *slices,
        ]
    )
    assert [one.instance_number for one in stack.slices] == list(range(5))
    assert stack.set_aside == {
        "1.2.8": "localizer",
        "1.2.9": "other_geometry",
        "1.2.10": "other_geometry",
    }
    assert arrange([axial(1, 0.0, localizer=True)]).slices == ()


def test_without_positions_the_location_and_then_the_number_decide() -> None:
    located = [axial(n, None, location=-4.0 * n) for n in range(3)]
    stack = arrange(located)
    assert stack.facts["ordered_by"] == "slice_location"
    assert [one.instance_number for one in stack.slices] == [2, 1, 0]
    numbered = arrange([axial(n, None, orientation=None, thickness=2.5) for n in (2, 0, 1)])
    assert numbered.facts["ordered_by"] == "instance_number"
    assert numbered.positions_mm.tolist() == [0.0, 2.5, 5.0]
    assert numbered.normal is None


def test_one_slice_without_a_position_is_not_left_out() -> None:
    stack = arrange([axial(0, 10.0), axial(1, None), axial(2, 0.0)])
    assert [one.instance_number for one in stack.slices] == [0, 1, 2]
    assert stack.facts["ordered_by"] == "instance_number"


def test_attributes_that_are_no_numbers_are_absent() -> None:
    dataset = Dataset()
    dataset.Rows = dataset.Columns = 4
    dataset.ImageType = "LOCALIZER"
    (one,) = slices_of(image(1), dataset)
    assert one.localizer
    assert (one.position, one.orientation, one.thickness, one.normal) == (None, None, None, None)


def test_a_header_full_of_nonsense_is_still_a_slice(write_image: Callable[..., Path]) -> None:
    path = write_image(
        np.zeros((8, 8), dtype=np.int16), InstanceNumber="7", SliceThickness="5", SliceLocation="12"
    )
    content = path.read_bytes()
    for tag, value in ((b"\x20\x00\x13\x00IS", b"7 "), (b"\x18\x00\x50\x00DS", b"5 ")):
        assert tag + b"\x02\x00" + value in content
        content = content.replace(tag + b"\x02\x00" + value, tag + b"\x02\x00x?")
    path.write_bytes(content)
    (one,) = slices_of(image(1), open_image(path))
    assert (one.instance_number, one.thickness, one.location) == (0, None, 12.0)


@given(value=st.sampled_from([7, 1.5, [2.0, 3.0], None]))
def test_a_type_of_any_kind_is_no_localizer(value: Any) -> None:
    dataset = Dataset()
    dataset.Rows = dataset.Columns = 4
    dataset.add_new("ImageType", "FD", value)
    (one,) = slices_of(image(1), dataset)
    assert not one.localizer


def test_frames_of_an_enhanced_image_become_slices(
    sample: Callable[[str], Path], sources: Sources
) -> None:
    path = sample("eCT_Supplemental.dcm")
    stack = arrange(slices_of(sources([path])[0], open_image(path)))
    assert sorted(one.frame for one in stack.slices) == [0, 1]
    assert stack.facts["ordered_by"] == "position"
    assert stack.facts["slices"] == 2
    assert stack.slices[0].thickness is not None


def test_a_real_series_with_tilt_and_uneven_spacing(shared_data: Path, sources: Sources) -> None:
    images = sources(sorted((shared_data / "head_ct_ge").glob("*.dcm")))
    slices = [one for image in images for one in slices_of(image, open_image(image.path))]
    stack = arrange(random.Random(1).sample(slices, len(slices)))
    assert [one.instance_number for one in stack.slices] == list(range(1, 29))
    assert stack.facts == {
        "slices": 28,
        "ordered_by": "position",
        "duplicate_positions": 0,
        "spacing_mm": 4.002,
        "spacing_min_mm": 1.081,
        "spacing_max_mm": 6.999,
        "spacing_even": False,
        "gantry_tilt_degrees": 18.5,
        "plane_tilt_degrees": 18.5,
        "shear_degrees": 18.5,
    }
    assert stack.gaps(1.6) == []
    # 4 mm at the skull base, then 7 mm; where they meet, slices are 1 mm apart.
    assert stack.uneven(0.05) == []
