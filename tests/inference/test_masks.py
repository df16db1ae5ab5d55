"""Bundles whose networks give maps: probabilities, masks and what is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.errors import BundleError
from inference.input_spec import InputSpec
from inference.masks import highest, masks_of
from inference.model import load_reader
from inference.placement import Placement
from inference.reading import Code, Label, Presence, Reading, Scope, SourceImage, Thresholds
from inference.windows import SOFT

Sources = Callable[[Iterable[Path]], list[SourceImage]]
Write = Callable[..., Path]
LABEL = Label("spot", Code("50960005", "SCT", "Hemorrhage"), Thresholds(0.2, 0.6))


def bundle_of(path: Path, spec: InputSpec, **preread: Any) -> Bundle:
    """Return a bundle whose network says 'spot' where a pixel is bright, 'never' nowhere."""
    arguments = {"in_channels": 1, "out_channels": 2, "kernel_size": 1}
    network = nn.Conv2d(1, 2, 1)
    network.weight.data = torch.tensor([20.0, 0.0])[:, None, None, None]
    network.bias.data = torch.tensor([-10.0, -10.0])
    code = {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"}
    thresholds = {"low": 0.2, "high": 0.6}
    write_bundle(
        path,
        name="spots",
        version="0.0.1",
        network_def={"_target_": "torch.nn.Conv2d", **arguments},
        state_dict=network.state_dict(),
        preread={
            "input": spec.to_dict(),
            "labels": [
                {"name": name, "code": code, "thresholds": thresholds} for name in ("spot", "never")
            ],
            **preread,
        },
        metadata={},
        card="",
    )
    return open_bundle(path)


@pytest.fixture
def film_bundle(tmp_path: Path) -> Bundle:
    return bundle_of(tmp_path / "film", InputSpec("radiograph", 64), masks=True)


@pytest.fixture
def slices_bundle(tmp_path: Path) -> Bundle:
    return bundle_of(
        tmp_path / "slices", InputSpec("ct_slices", 64, (SOFT,)), masks=True,
        pooling={"reach_mm": 10},
    )  # fmt: skip


def film(write_image: Write, shape: tuple[int, int], spot: tuple[slice, slice]) -> Path:
    pixels = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * 2
    pixels[spot] = 4000
    return write_image(pixels.astype(np.uint16), Modality="DX")


def overlap(mask: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def in_series(reading: Reading, name: str) -> Presence:
    return next(
        f.presence for f in reading.findings if f.label.name == name and f.scope is Scope.SERIES
    )


def test_a_mask_lies_where_the_finding_is_in_the_matrix_of_the_source(
    film_bundle: Bundle, write_image: Write, sources: Sources
) -> None:
    shape, spot = (300, 200), (slice(90, 150), slice(30, 90))
    films = sources(
        [film(write_image, shape, spot), film(write_image, shape, (slice(0), slice(0)))]
    )
    reading = load_reader(film_bundle, "cpu").read(films)
    uid = films[0].sop_instance_uid
    truth = np.zeros(shape, dtype=bool)
    truth[spot] = True
    (mask,) = (m for m in reading.masks if m.sop_instance_uid == uid)
    assert (mask.label, mask.frame) == ("spot", 0)
    assert mask.pixels.shape == shape
    assert mask.pixels.dtype == np.bool_
    assert overlap(mask.pixels, truth) > 0.85
    assert not any(m.label == "never" for m in reading.masks)
    (shown,) = (i for i in reading.illustrations if i.sop_instance_uid == uid)
    # What a person is shown is the mask itself, and nothing over it.
    assert shown.saliency is None
    assert shown.marked is not None
    assert np.array_equal(shown.marked, mask.pixels)


def test_masks_of_slices_are_kept_for_findings_of_the_series_alone(
    slices_bundle: Bundle, write_image: Write, sources: Sources
) -> None:
    def series(*bright: int, **elements: Any) -> Reading:
        paths = []
        for number in range(12):
            pixels = np.full((80, 100), -150, dtype=np.int16)
            if number in bright:
                pixels[20:40, 50:80] = 200
            paths.append(
                write_image(
                    pixels,
                    ImagePositionPatient=[0, 0, 2.5 * number],
                    ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                    InstanceNumber=number,
                    **elements,
                )
            )
        return load_reader(slices_bundle, "cpu").read(sources(paths))

    many = series(4, 5, 6, 7, 8)
    assert in_series(many, "spot") is Presence.PRESENT
    assert [m.sop_instance_uid for m in many.masks] == list(many.used_sop_instance_uids[4:9])
    truth = np.zeros((80, 100), dtype=bool)
    truth[20:40, 50:80] = True
    assert all(overlap(m.pixels, truth) > 0.85 for m in many.masks)
    # Without a pixel spacing nobody knows how large it is.
    assert many.measurements == ()
    (measured,) = series(4, 5, 6, 7, 8, PixelSpacing=[0.5, 0.8]).measurements
    pixels = sum(int(mask.pixels.sum()) for mask in many.masks)
    assert (measured.label, measured.unit.value) == ("spot", "ml")
    assert measured.value == pytest.approx(pixels * 0.5 * 0.8 * 2.5 / 1000.0)
    # One slice that its neighbours do not show is smoothed away, and so has no mask.
    lone = series(5)
    assert in_series(lone, "spot") is not Presence.PRESENT
    assert lone.masks == ()


def test_what_lies_on_the_padding_counts_for_nothing() -> None:
    maps = np.zeros((1, 1, 64, 64), dtype=np.float32)
    maps[0, 0, :, :10] = 1.0
    maps[0, 0, 30, 30] = 0.4
    assert highest(maps, [Placement.whole((300, 200), 64)])[0, 0] == pytest.approx(0.4)
    assert list(masks_of(maps, [Placement.whole((300, 200), 64)], [("1.2", 0)], [LABEL])) == []


@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (3000, 2000), (40, 30)])
def test_a_present_label_has_a_mask_be_it_one_pixel(shape: tuple[int, int]) -> None:
    maps = np.zeros((1, 1, 64, 64), dtype=np.float32)
    maps[0, 0, 33, 30] = 0.61
    (mask,) = masks_of(maps, [Placement.whole(shape, 64)], [("1.2", 0)], [LABEL])
    assert mask.pixels.any()
    row, column = (at.mean() + 0.5 for at in mask.pixels.nonzero())
    scale = max(shape) / 64
    left = (64 - round(shape[1] / scale)) // 2
    assert row == pytest.approx(33.5 * scale, abs=scale)
    assert column == pytest.approx((30.5 - left) * scale, abs=scale)


def test_masks_are_part_of_the_configuration(tmp_path: Path) -> None:
    spec = InputSpec("radiograph", 64)
    without = bundle_of(tmp_path / "without", spec)
    with_masks = bundle_of(tmp_path / "with", spec, masks=True)
    said_no = bundle_of(tmp_path / "no", spec, masks=False)
    assert with_masks.masks
    assert without.configuration_digest == said_no.configuration_digest
    assert without.configuration_digest != with_masks.configuration_digest
    preread = tmp_path / "with" / "configs" / "preread.json"
    preread.write_text(json.dumps({**json.loads(preread.read_text()), "masks": "yes"}))
    with pytest.raises(BundleError, match="masks is 'yes', not true, false or a list"):
        open_bundle(tmp_path / "with")


def test_a_network_that_does_not_give_what_the_bundle_says_is_an_error(
    chest_bundle: Bundle, tmp_path: Path, write_image: Write, sources: Sources
) -> None:
    images = sources([film(write_image, (100, 100), (slice(0, 9), slice(0, 9)))])
    maps = bundle_of(tmp_path / "maps", InputSpec("radiograph", 64))
    with pytest.raises(BundleError, match='if it gives maps, set "masks": true'):
        load_reader(maps, "cpu").read(images)
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    for path in chest_bundle.path.rglob("*"):
        if path.is_file():
            target = numbers / path.relative_to(chest_bundle.path)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    preread = numbers / "configs" / "preread.json"
    preread.write_text(json.dumps({**json.loads(preread.read_text()), "masks": True}))
    with pytest.raises(BundleError, match='not a map for each label as "masks"'):
        load_reader(open_bundle(numbers), "cpu").read(images)
