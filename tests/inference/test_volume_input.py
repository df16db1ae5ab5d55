"""From slices to a volume and back: geometry, resampling and intensity."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import INSIDE, Painted, dice, rotation

from inference.errors import NotAnalysableError
from inference.intensity import apply
from inference.intensity_spec import Intensity
from inference.measure import pixel_ml
from inference.volume import Stack
from inference.volume_grid import Geometry, axes_of, geometry_of, weights
from inference.volume_input import Volume, prepare_volume, seen, slice_of
from inference.volume_spec import VolumeSpec

CPU = torch.device("cpu")
AXIAL = Painted(np.eye(3), tuple(3.0 * n for n in range(24)))
SPEC = VolumeSpec("RAS", (2.0, 2.0, 2.0))


def prepared(
    painted: Painted, spec: VolumeSpec, order: list[int] | None = None
) -> tuple[Volume, Geometry, Stack, list[int]]:
    stack, numbers = painted.stack(order)
    geometry = geometry_of(stack)
    slices = (painted.pixels(numbers[n]) for n in geometry.opening)
    return prepare_volume(slices, geometry, spec, CPU), geometry, stack, numbers


turns = st.builds(
    lambda quarter, tilt: rotation(tilt) @ rotation(quarter),
    st.tuples(*[st.sampled_from([0.0, 90.0, 180.0, 270.0])] * 3),
    st.tuples(*[st.floats(-25.0, 25.0)] * 3),
)
stacks = st.builds(
    lambda turn, apart, shear: Painted(turn, tuple(np.cumsum([0.0, *apart]).tolist()), shear),
    turns,
    st.lists(st.floats(1.5, 4.0), min_size=20, max_size=30),
    st.sampled_from([0.0, 0.36, -0.27]),
)
orientations = st.sampled_from(
    [
        "".join(letters)
        for axes in itertools.permutations(["RL", "AP", "SI"])
        for letters in itertools.product(*axes)
    ]
)


@settings(max_examples=25, deadline=None)
@given(stacks, orientations, st.randoms(use_true_random=False))
def test_what_lies_in_a_volume_lies_where_it_was_in_its_slices(
    painted: Painted, orientation: str, random: object
) -> None:
    order = list(range(len(painted.along)))
    random.shuffle(order)  # type: ignore[attr-defined]
    spec = replace(SPEC, orientation=orientation)
    volume, geometry, stack, numbers = prepared(painted, spec, order)
    maps = volume.tensor[0] / INSIDE
    found = np.stack(
        [slice_of(maps, volume.axes, geometry, n)[0] >= 0.5 for n in range(len(numbers))]
    )
    truth = np.stack([painted.inside(n) for n in numbers])
    assert dice(found, truth) > 0.98
    ml = pixel_ml(stack)
    assert ml is not None
    assert (found.sum(axis=(1, 2)) * ml).sum() == pytest.approx(painted.ml, rel=0.03)


@settings(max_examples=20, deadline=None)
@given(turns, orientations)
def test_an_axis_grows_to_where_its_letter_says(turn: np.ndarray, orientation: str) -> None:
    stack, _ = Painted(turn, tuple(2.0 * n for n in range(8))).stack()
    geometry = geometry_of(stack)
    axes = axes_of(geometry, VolumeSpec(orientation))
    assert sorted(axis.source for axis in axes) == [0, 1, 2]
    towards = {"L": [1, 0, 0], "P": [0, 1, 0], "S": [0, 0, 1]}
    towards |= {a: [-v for v in towards[b]] for a, b in ("RL", "AP", "IS")}
    total = sum(
        np.sign(axis.step) * geometry.directions[axis.source] @ towards[letter]
        for axis, letter in zip(axes, orientation, strict=True)
    )
    # Nearest to what was asked for: no other order and no other turn lies nearer.
    assert total > 3 * np.cos(np.radians(55.0))


def test_the_volume_is_that_of_monai() -> None:
    """Spacing on the same voxels, where neither smooths; their axes are RAS as they are."""
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    random = np.random.default_rng(5)
    painted = Painted(rotation((8.0, -5.0, 184.0)), tuple(3.0 * n for n in range(9)))
    stack, _ = painted.stack()
    geometry = geometry_of(stack)
    values = random.normal(0.0, 100.0, (9, *painted.shape)).astype(np.float32)
    # Affine of (column, row, slice) to right-anterior-superior, as nibabel has it.
    flip = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    steps = np.stack(
        [
            geometry.directions[2] * painted.spacing[1],
            geometry.directions[1] * painted.spacing[0],
            geometry.directions[0] * 3.0,
        ],
        axis=1,
    )
    origin = np.array(stack.slices[0].position)
    affine[:3, :3], affine[:3, 3] = flip @ steps, flip @ origin
    image = MetaTensor(torch.from_numpy(values.transpose(2, 1, 0).copy())[None], affine=affine)
    theirs = Spacing((1.0, 1.2, 2.0), mode="bilinear")(image)
    spec = VolumeSpec("RAS", (1.0, 1.2, 2.0), antialias=False)
    ours = prepare_volume(iter(values), geometry, spec, CPU)
    assert ours.tensor.shape[1:] == theirs.shape
    assert torch.allclose(ours.tensor[0], theirs.as_tensor().float(), atol=0.05)


def test_finer_detail_than_the_new_spacing_is_smoothed_away() -> None:
    stripes = Painted(np.eye(3), tuple(1.0 * n for n in range(8)), spacing=(1.0, 1.0))
    stack, _ = stripes.stack()
    geometry = geometry_of(stack)
    values = np.zeros((8, *stripes.shape), dtype=np.float32)
    values[:, ::2] = 100.0
    rough = VolumeSpec("RAS", (4.0, 4.0, 4.0), antialias=False)
    smooth = replace(rough, antialias=True)
    aliased = prepare_volume(iter(values), geometry, rough, CPU).tensor
    assert float(aliased[..., 2:12, :].max()) == 0.0  # every fourth row is a dark one
    even = prepare_volume(iter(values), geometry, smooth, CPU).tensor
    assert float(even[..., 2:12, :].mean()) == pytest.approx(50.0, abs=1.0)


@given(
    st.lists(st.floats(0.3, 8.0), min_size=1, max_size=15),
    st.floats(0.3, 12.0),
    st.lists(st.floats(-10.0, 80.0), min_size=1, max_size=10),
)
def test_interpolation_keeps_what_is_even(apart: list[float], step: float, at: list[float]) -> None:
    samples = np.cumsum([0.0, *apart])
    matrix = weights(np.array(at), samples, step)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(len(at)))
    assert (matrix >= 0.0).all()
    linear = weights(np.array(at), samples)
    assert linear @ samples == pytest.approx(np.clip(at, samples[0], samples[-1]))


@pytest.mark.parametrize("size", [(30, 40, 20), (50, 60, 48)])
@pytest.mark.parametrize("fit", ["stretch", "center"])
def test_a_size_changes_no_place(fit: str, size: tuple[int, int, int]) -> None:
    spec = VolumeSpec("LPS", (2.0, 2.0, 2.0), size=size, fit=fit)  # type: ignore[arg-type]
    volume, geometry, _, numbers = prepared(AXIAL, spec)
    assert tuple(volume.tensor.shape[2:]) == size
    maps = volume.tensor[0] / INSIDE
    middle = len(numbers) // 2
    found = slice_of(maps, volume.axes, geometry, middle)[0] >= 0.5
    assert dice(found, AXIAL.inside(middle)) > 0.88


@pytest.mark.parametrize(("resize", "mode"), [("linear", "trilinear"), ("area", "area")])
def test_a_stretched_size_is_that_of_monai(resize: str, mode: str) -> None:
    from monai.transforms import Resize

    spec = VolumeSpec("LPS", None, size=(40, 30, 30), resize=resize)  # type: ignore[arg-type]
    volume, _, _, numbers = prepared(AXIAL, spec)
    values = np.stack([AXIAL.pixels(n) for n in numbers]).transpose(2, 1, 0).copy()
    theirs = Resize((40, 30, 30), mode=mode)(torch.from_numpy(values)[None])
    assert torch.allclose(volume.tensor[0], torch.as_tensor(theirs), atol=1e-3)


def test_the_foreground_is_cropped_and_stays_where_it_is() -> None:
    spec = replace(SPEC, crop_foreground=True)
    volume, geometry, *_ = prepared(AXIAL, spec)
    whole, *_ = prepared(AXIAL, SPEC)
    assert volume.tensor.numel() < whole.tensor.numel() / 3
    maps = volume.tensor[0] / INSIDE
    for n in (2, 8, 12):
        cropped = slice_of(maps, volume.axes, geometry, n)
        full = slice_of(whole.tensor[0] / INSIDE, whole.axes, geometry, n)
        assert dice(cropped[0] >= 0.5, full[0] >= 0.5) > 0.97 if full.max() > 0.5 else True
    assert slice_of(maps, volume.axes, geometry, 0).max() == 0.0


def test_voxels_beside_the_slices_of_a_tilted_gantry_are_not_seen() -> None:
    tilted = replace(AXIAL, shear=0.4)
    volume, geometry, _, _ = prepared(tilted, SPEC)
    inside = seen(volume.axes, geometry)
    assert inside is not None
    assert inside.shape == volume.tensor.shape[2:]
    assert 0.5 < inside.float().mean() < 0.9
    straight, straight_geometry, _, _ = prepared(AXIAL, SPEC)
    assert seen(straight.axes, straight_geometry) is None


def test_steps_of_intensity_are_those_of_monai() -> None:
    from monai import transforms

    values = torch.from_numpy(np.random.default_rng(1).normal(0, 200, (1, 9, 8, 7))).float()
    values[values.abs() < 20] = 0.0
    pairs = [
        (
            Intensity("range", (-57, 164)),
            transforms.ScaleIntensityRange(-57, 164, 0.0, 1.0, clip=True),
        ),
        (
            Intensity("range", (-100, 240), (-1.0, 1.0), clip=False),
            transforms.ScaleIntensityRange(-100, 240, -1.0, 1.0, clip=False),
        ),
        (Intensity("minmax", target=(-1.0, 1.0)), transforms.ScaleIntensity(-1.0, 1.0)),
        (Intensity("standardize"), transforms.NormalizeIntensity()),
        (Intensity("standardize", nonzero=True), transforms.NormalizeIntensity(nonzero=True)),
        (
            Intensity("standardize", mean=10.0, deviation=4.0),
            transforms.NormalizeIntensity(10.0, 4.0),
        ),
        (
            Intensity("percentiles", (1.0, 99.0)),
            transforms.ScaleIntensityRangePercentiles(1.0, 99.0, 0.0, 1.0, clip=True),
        ),
    ]
    for ours, theirs in pairs:
        assert torch.allclose(
            apply(values, [ours]), torch.as_tensor(theirs(values)).float(), atol=2e-4
        ), ours


def test_slices_that_are_no_volume_are_refused() -> None:
    slices = AXIAL.slices()

    def refusal(changed: list[object]) -> str:
        from inference.volume import arrange

        with pytest.raises(NotAnalysableError) as error:
            geometry_of(arrange(changed))  # type: ignore[arg-type]
        assert error.value.code == "no_geometry"
        return error.value.reason

    assert "not known" in refusal([replace(one, position=None) for one in slices])
    assert "not known" in refusal([replace(slices[0], pixel_spacing=None), *slices[1:]])
    assert "one place" in refusal([replace(one, position=(0.0, 0.0, 0.0)) for one in slices])
    turned = replace(slices[3], orientation=(0.0, 1.0, 0.0, -1.0, 0.0, 0.0))
    assert "turned in their plane" in refusal([*slices[:3], turned, *slices[4:]])
    coarse = replace(slices[3], pixel_spacing=(1.5, 1.5))
    assert "differ in pixel spacing" in refusal([*slices[:3], coarse, *slices[4:]])


def test_slices_at_one_place_are_all_given_their_part() -> None:
    doubled = replace(AXIAL, along=tuple(3.0 * (n // 2) for n in range(40)))
    volume, geometry, _, numbers = prepared(doubled, SPEC)
    assert len(geometry.opening) == 20
    maps = volume.tensor[0] / INSIDE
    found = [slice_of(maps, volume.axes, geometry, n)[0] >= 0.5 for n in range(len(numbers))]
    assert (found[20] == found[21]).all()
    assert dice(found[20], doubled.inside(numbers[20])) > 0.9


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"orientation": "RAR"}, "one letter each"),
        ({"spacing": [1, 2]}, "not three numbers"),
        ({"spacing": 0.001}, "outside 0.05 to 50"),
        ({"roi": [96, 96, 2.5]}, "not three whole numbers"),
        ({"roi": 2000}, "outside 4 to 1024"),
        ({"overlap": 1}, "overlap of 1.0"),
        ({"blend": "linear"}, "blend 'linear' is not one of constant, gaussian"),
        ({"size": 32, "crop_foreground": True}, "exclude each other"),
        ({"intensity": [{"kind": "log"}]}, "'log' is not one of"),
        ({"intensity": [{"kind": "range"}]}, "do not go together"),
        ({"intensity": [{"kind": "range", "source": [5, 1]}]}, "does not ascend"),
        ({"intensity": [{"kind": "minmax", "clip": True}]}, "unknown keys in intensity minmax"),
        ({"window": 3}, "unknown keys in an input: window"),
        ({"antialias": 1}, "antialias is 1, not true or false"),
    ],
)
def test_a_wrong_specification_is_refused_by_name(raw: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VolumeSpec.from_dict(raw)


def test_a_specification_survives_its_json_form() -> None:
    spec = VolumeSpec(
        "LPS", (1.0, 1.5, 2.0), (32, 48, 64), "center", "area",
        (Intensity("range", (-57.0, 164.0)), Intensity("standardize", nonzero=True)),
        "last", False, False, 3, (32, 32, 32), 0.5, "gaussian", (0.1, 0.125, 0.2), "replicate",
    )  # fmt: skip
    assert VolumeSpec.from_dict(spec.to_dict()) == spec
    assert VolumeSpec.from_dict(VolumeSpec().to_dict()) == VolumeSpec()
