"""Series read as volumes, from files to findings, masks and volumes in ml."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zoo_bundles
from monai.inferers.inferer import SlidingWindowInferer
from painted import Painted, dice, rotation
from torch import nn

from inference.bundle import Bundle, open_bundle
from inference.engines import (
    DeviceLostError,
    Engine,
    EngineIdentity,
    EngineOutOfMemoryError,
    RawOutputs,
    Rows,
)
from inference.engines.choose import Chosen, EngineSettings
from inference.engines.engine_events import Event
from inference.engines.errors import EngineRunError
from inference.engines.ladder import Ladder
from inference.engines.volume_engine import VolumeEngine
from inference.errors import BundleError, NotAnalysableError
from inference.image_file import open_image
from inference.model import load_reader
from inference.network import load_network
from inference.pixels import hounsfield_values
from inference.poison import PoisonedVolumeError
from inference.reading import Mask, Presence, Reading, SourceImage
from inference.sliding import VolumeNetwork
from inference.volume_reader import CtVolumeReader, reached

Sources = Callable[[Iterable[Path]], list[SourceImage]]
Write = Callable[..., Path]
CODE = {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"}
BODY, LESION = -50, 150
TILTED = Painted(
    rotation((6.0, -4.0, 185.0)),
    tuple(np.cumsum([0.0] + [2.5, 3.5, 3.0, 2.0] * 6).tolist()),
    shear=0.3,
)


def bundle_of(path: Path, network: nn.Module, definition: dict[str, Any], **preread: Any) -> Bundle:
    from inference.bundle_writing import write_bundle

    write_bundle(
        path,
        name="spots",
        version="0.0.1",
        network_def=definition,
        state_dict=network.state_dict(),
        preread=preread,
        metadata={},
        card="",
    )
    return open_bundle(path)


def threshold_bundle(path: Path, bias: tuple[float, ...] = (-10.0,), **preread: Any) -> Bundle:
    """Return a bundle whose network says 'spot' where a voxel is bright; others are constant."""
    outputs = len(bias)
    network = nn.Conv3d(1, outputs, 1)
    network.weight.data = torch.zeros(outputs, 1, 1, 1, 1)
    network.weight.data[0] = 20.0
    network.bias.data = torch.tensor(bias)
    labels = [{"name": "spot", "code": CODE, "thresholds": {"low": 0.2, "high": 0.5}}]
    return bundle_of(
        path,
        network,
        {
            "_target_": "torch.nn.Conv3d",
            "in_channels": 1,
            "out_channels": outputs,
            "kernel_size": 1,
        },
        **{
            "input": {
                "kind": "ct_volume",
                "spacing": [2.0, 2.0, 2.0],
                "intensity": [{"kind": "range", "source": [BODY, LESION]}],
                "roi": [24, 24, 24],
                "blend": "gaussian",
            },
            "labels": labels,
            "masks": True,
            **preread,
        },
    )


def series(painted: Painted, write: Write, seed: int = 0, **elements: Any) -> list[Path]:
    order = list(range(len(painted.along)))
    random.Random(seed).shuffle(order)
    paths = []
    for number in order:
        pixels = np.where(painted.inside(number), LESION, BODY).astype(np.int16)
        paths.append(write(pixels, **painted.header(number), **elements))
    return paths


def overlap(masks: Iterable[Mask], reading: Reading, painted: Painted) -> float:
    """Return the dice of masks and truth over all slices of the stack."""
    by_image = {mask.sop_instance_uid: mask.pixels for mask in masks}
    numbers = painted.stack()[1]
    empty = np.zeros(painted.shape, dtype=np.bool_)
    found = np.stack([by_image.get(uid, empty) for uid in reading.used_sop_instance_uids])
    return dice(found, np.stack([painted.inside(number) for number in numbers]))


@pytest.mark.parametrize(
    "painted",
    [
        Painted(np.eye(3), tuple(3.0 * n for n in range(24))),
        TILTED,
        replace(TILTED, turn=rotation((90.0, 10.0, 0.0)), shear=0.0),
        replace(TILTED, along=tuple(1.5 * (n // 2) * 2 for n in range(50)), shear=-0.2),
    ],
    ids=["axial", "tilted", "coronal", "doubled"],
)
def test_a_painted_ellipsoid_comes_back_with_its_volume(
    painted: Painted, tmp_path: Path, write_image: Write, sources: Sources
) -> None:
    reader = load_reader(threshold_bundle(tmp_path / "bundle"), "cpu")
    assert isinstance(reader, CtVolumeReader)
    images = sources(series(painted, write_image))
    reading = reader.read(images)
    (finding,) = reading.findings
    assert finding.presence is Presence.PRESENT
    assert overlap(reading.masks, reading, painted) > 0.95
    (measured,) = reading.measurements
    assert (measured.label, measured.quantity.meaning, measured.unit.value) == (
        "spot", "Volume", "ml",
    )  # fmt: skip
    assert measured.value == pytest.approx(painted.ml, rel=0.05)
    assert [h.SOPInstanceUID for h in reading.headers] == list(reading.used_sop_instance_uids)
    # The same, whatever the order of arrival.
    again = reader.read(list(reversed(images)))
    assert again == reading
    # What a person is shown: the slices with most of it, and where.
    first = reading.illustrations[0]
    key = finding.key_sop_instance_uids
    assert key[0] == first.sop_instance_uid
    assert first.labels == ("spot",)
    assert first.saliency is None
    assert first.marked is not None
    (mask,) = (m for m in reading.masks if m.sop_instance_uid == first.sop_instance_uid)
    assert np.array_equal(first.marked, mask.pixels)
    sizes = {mask.sop_instance_uid: mask.pixels.sum() for mask in reading.masks}
    assert sizes[key[0]] == max(sizes.values())


def test_a_volume_that_nobody_has_is_no_measurement(
    tmp_path: Path, write_image: Write, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.measure.MOST_ML", 1.0)
    reader = load_reader(threshold_bundle(tmp_path / "bundle"), "cpu")
    reading = reader.read(sources(series(TILTED, write_image)))
    assert reading.findings[0].presence is Presence.PRESENT
    assert reading.masks and not reading.measurements
    assert reading.facts["volume_implausible"] == ["spot"]


def test_too_little_of_it_is_not_it(tmp_path: Path, write_image: Write, sources: Sources) -> None:
    small = replace(TILTED, radii=(5.0, 4.0, 5.0))  # 0.4 ml
    images = sources(series(small, write_image))

    def read(name: str, ml: float) -> Reading:
        label = {
            "name": "spot", "code": CODE, "thresholds": {"low": 0.2, "high": 0.5},
            "min_volume_ml": ml,
        }  # fmt: skip
        bundle = threshold_bundle(tmp_path / name, labels=[label])
        return load_reader(bundle, "cpu").read(images)

    present = read("any", 0.0)
    assert present.findings[0].presence is Presence.PRESENT
    absent = read("more", 2.0)
    assert absent.findings[0].presence is Presence.ABSENT
    assert absent.masks == absent.measurements == ()
    assert len(absent.illustrations) == 1
    assert absent.illustrations[0].labels == ()


def test_of_labels_that_exclude_each_other_the_most_probable_has_the_voxel(
    tmp_path: Path, write_image: Write, sources: Sources
) -> None:
    labels = [
        {"name": name, "code": CODE, "thresholds": {"low": 0.1, "high": 0.3}, "output": output}
        for name, output in (("spot", 0), ("never", 1))
    ]
    bundle = threshold_bundle(
        tmp_path / "bundle", (0.0, 9.9, 10.0), labels=labels, exclusive=True, activation="softmax"
    )
    painted = Painted(np.eye(3), tuple(3.0 * n for n in range(24)))
    reading = load_reader(bundle, "cpu").read(sources(series(painted, write_image)))
    spot, never = reading.findings
    assert (spot.presence, never.presence) == (Presence.PRESENT, Presence.ABSENT)
    assert never.probability == 0.0  # 0.48 in the body, where the background has 0.52
    assert overlap(reading.masks, reading, painted) > 0.95


def test_a_volume_that_is_classified_is_that_of_monai(
    tmp_path: Path, write_image: Write, sources: Sources
) -> None:
    """The zoo's classification against MONAI's own transforms on the same voxels."""
    from monai.transforms import Resize, ScaleIntensityRange

    bundle = open_bundle(zoo_bundles.write_classifier(tmp_path / "nodules"))
    painted = Painted(np.eye(3), tuple(3.0 * n for n in range(24)))
    reading = load_reader(bundle, "cpu").read(sources(series(painted, write_image)))
    values = np.stack([np.where(painted.inside(n), LESION, BODY) for n in range(24)])
    image = torch.from_numpy(values.transpose(2, 1, 0).astype(np.float32).copy())[None]
    for step in (
        ScaleIntensityRange(-100, 200, 0.0, 1.0, clip=True),
        Resize((32, 40, 32), mode="trilinear"),
    ):
        image = torch.as_tensor(step(image))
    with torch.inference_mode():
        theirs = load_network(bundle, torch.device("cpu"))(image[None]).sigmoid()[0]
    ours = [finding.probability for finding in reading.findings]
    assert ours == pytest.approx(theirs.tolist(), abs=1e-4)
    assert reading.masks == reading.measurements == ()
    assert len(reading.illustrations) == 1


def test_bone_of_a_real_tilted_head_lies_where_it_is_in_its_slices(
    tmp_path: Path, shared_data: Path, sources: Sources
) -> None:
    bundle = threshold_bundle(
        tmp_path / "bundle",
        input={
            "kind": "ct_volume",
            "spacing": [0.6, 0.6, 2.5],
            "intensity": [{"kind": "range", "source": [200, 400]}],
            "roi": [96, 96, 32],
        },
    )
    images = sources(sorted((shared_data / "head_ct_ge").glob("*.dcm")))
    reading = load_reader(bundle, "cpu").read(images)
    masks = {mask.sop_instance_uid: mask.pixels for mask in reading.masks}
    found, truth = [], []
    for image in images:
        hu = hounsfield_values(open_image(image.path)).values
        truth.append(hu >= 300)
        found.append(masks.get(image.sop_instance_uid, np.zeros(hu.shape, dtype=np.bool_)))
    assert dice(np.stack(found), np.stack(truth)) > 0.9


def test_a_unet_of_the_zoo_finds_what_it_was_taught(
    tmp_path: Path, write_image: Write, sources: Sources
) -> None:
    path = zoo_bundles.write_spleen(tmp_path / "spleen", zoo_bundles.trained_unet())
    large = replace(TILTED, radii=(24.0, 21.0, 22.0), shape=(72, 72))
    reading = load_reader(open_bundle(path), "cpu").read(sources(series(large, write_image)))
    (finding,) = reading.findings
    assert (finding.label.name, finding.presence) == ("spleen", Presence.PRESENT)
    assert overlap(reading.masks, reading, large) > 0.9
    assert reading.measurements[0].value == pytest.approx(large.ml, rel=0.1)


def test_series_that_are_no_volume_are_not_analysed(
    tmp_path: Path, write_image: Write, sources: Sources
) -> None:
    reader = load_reader(threshold_bundle(tmp_path / "bundle"), "cpu")
    few = replace(TILTED, along=(0.0, 3.0))

    def refusal(**elements: Any) -> str:
        paths = []
        for number in range(2):
            pixels = np.full(few.shape, 40 * number, dtype=np.int16)
            paths.append(write_image(pixels, **{**few.header(number), **elements}))
        with pytest.raises(NotAnalysableError) as error:
            reader.read(sources(paths))
        return str(error.value.code)

    assert refusal(PixelSpacing=[]) == "no_geometry"
    assert refusal(ImagePositionPatient=[0, 0, 0]) == "no_geometry"
    assert refusal(RescaleSlope=0) == "unsupported_pixels"


def test_a_reader_of_heads_refuses_what_is_none(
    tmp_path: Path, write_image: Write, sources: Sources
) -> None:
    bundle = threshold_bundle(tmp_path / "bundle", suitability={"anatomy": "head"})
    with pytest.raises(NotAnalysableError):
        load_reader(bundle, "cpu").read(sources(series(TILTED, write_image)))


@dataclass
class FailingVolumes:
    """An engine of volumes on a GPU that is not there; raises what it is told to."""

    inner: Engine
    fails: Callable[[int], Exception | None]
    asked: list[int] = field(default_factory=list)

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("fake", "1", "cuda:0", "float32", 4)

    def run(self, rows: Rows) -> RawOutputs:
        self.asked.append(len(rows))
        if (error := self.fails(len(rows))) is not None:
            raise error
        return replace(self.inner.run(rows), made_with=self.identity.made(len(rows)))

    def release(self) -> None:
        pass


def failing(
    bundle: Bundle, fails: Callable[[int], Exception | None]
) -> tuple[FailingVolumes, list[Event], EngineSettings]:
    events: list[Event] = []
    cpu = torch.device("cpu")
    engine = FailingVolumes(VolumeEngine(load_network(bundle, cpu), cpu), fails)

    def compose(_bundle: Bundle, _device: str, settings: EngineSettings) -> Chosen:
        return Chosen(Ladder(engine, lambda: engine.inner, settings.tell), None)

    return engine, events, EngineSettings(tell=events.append, compose=compose)


@pytest.mark.parametrize(
    ("fits", "asked", "steps", "device"),
    [
        (2, [4, 2, 2], ["smaller_batch"], "cuda:0"),
        (0, [4, 2, 1], ["smaller_batch", "smaller_batch", "spare_engine"], "cpu"),
    ],
)
def test_a_gpu_that_is_full_gets_fewer_windows_and_then_none(
    tmp_path: Path, fits: int, asked: list[int], steps: list[str], device: str
) -> None:
    bundle = threshold_bundle(tmp_path / "bundle")
    cpu = torch.device("cpu")
    tensor = torch.rand(1, 1, 30, 28, 26)
    expected = VolumeNetwork(bundle, cpu).maps(tensor).probability

    def fails(count: int) -> Exception | None:
        return EngineOutOfMemoryError("no memory") if count > fits else None

    engine, events, engines = failing(bundle, fails)
    network = VolumeNetwork(bundle, cpu, engines)
    # What four windows at once and one by one differ by is the processor's rounding.
    torch.testing.assert_close(network.maps(tensor).probability, expected, atol=1e-5, rtol=0)
    assert engine.asked[: len(asked)] == asked
    assert [str(event.step) for event in events][: len(steps)] == steps
    assert {one.device for one in network.rows_made_with} == {device}
    assert sum(1 for _ in network.rows_made_with) >= 4


def test_a_gpu_that_is_lost_leaves_the_volume_to_the_host_and_its_findings_say_so(
    tmp_path: Path, write_image: Write, sources: Sources
) -> None:
    bundle = threshold_bundle(tmp_path / "bundle")
    images = sources(series(TILTED, write_image))
    expected = load_reader(bundle, "cpu").read(images)
    _, events, engines = failing(bundle, lambda _count: DeviceLostError("the GPU is lost"))
    reading = load_reader(bundle, "cpu", engines=engines).read(images)
    assert reading.findings == expected.findings
    assert [str(event.step) for event in events] == ["device_lost"]
    made = {found.made_with.device for found in reading.findings if found.made_with}
    assert made == {"cpu"}
    assert reading.facts["made_with"][0]["engine"] == "torch"  # type: ignore[index]


def test_windows_that_fail_among_others_are_a_coded_failure(tmp_path: Path) -> None:
    bundle = threshold_bundle(tmp_path / "bundle")
    calls = iter(range(1000))

    def fails(count: int) -> Exception | None:
        return EngineRunError("a kernel fails") if count == 4 or next(calls) in (1, 2) else None

    _, _, engines = failing(bundle, fails)
    network = VolumeNetwork(bundle, torch.device("cpu"), engines)
    with pytest.raises(PoisonedVolumeError, match="a part of the volume, and nothing") as caught:
        network.maps(torch.rand(1, 1, 30, 28, 26))
    assert caught.value.code == "poisoned_input"


@pytest.mark.parametrize("sigma", [0.125, 0.4, [0.1, 0.2, 0.5]])
def test_blended_windows_are_those_of_monais_own_inferer(
    tmp_path: Path, sigma: float | list[float]
) -> None:
    torch.manual_seed(6)
    network = nn.Conv3d(1, 1, 5, padding=2)
    windows = {"roi": 16, "overlap": 0.5, "blend": "gaussian", "blend_sigma": sigma}
    labels = [{"name": "spot", "code": CODE, "thresholds": {"low": 0.2, "high": 0.5}}]
    bundle = bundle_of(
        tmp_path / "bundle",
        network,
        {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 1, "kernel_size": 5,
         "padding": 2},
        input={"kind": "ct_volume", "spacing": 2, **windows},
        labels=labels,
        masks=True,
    )  # fmt: skip
    tensor = torch.randn(1, 1, 30, 28, 26)
    ours = VolumeNetwork(bundle, torch.device("cpu")).maps(tensor).probability

    def theirs(scale: float | list[float]) -> torch.Tensor:
        inferer = SlidingWindowInferer(
            16, sw_batch_size=4, overlap=0.5, mode="gaussian", sigma_scale=scale
        )
        with torch.inference_mode():
            found = inferer(tensor, network)
        assert isinstance(found, torch.Tensor)
        return found.sigmoid()[0]

    torch.testing.assert_close(ours, theirs(sigma), atol=1e-6, rtol=0)
    # The argument makes a difference that this test would see.
    assert float((theirs(0.125) - theirs(0.4)).abs().max()) > 1e-3


def test_a_network_that_does_not_give_what_the_bundle_says_is_an_error(tmp_path: Path) -> None:
    tensor = torch.rand(1, 1, 24, 24, 24)
    maps = threshold_bundle(tmp_path / "maps", masks=False)
    with pytest.raises(BundleError, match=r"shape \(1, 1, 24, 24, 24\), not one number"):
        VolumeNetwork(maps, torch.device("cpu")).probabilities(tensor)
    labels = [{"name": "spot", "code": CODE, "thresholds": {"low": 0.2, "high": 0.5}, "output": 4}]
    few = threshold_bundle(tmp_path / "few", labels=labels)
    with pytest.raises(BundleError, match="gives 1 channels, the labels need 5"):
        VolumeNetwork(few, torch.device("cpu")).maps(tensor)


@pytest.mark.parametrize("roi", [{}, {"roi": [24, 24, 24]}])
def test_of_several_outputs_the_first_is_the_result(
    tmp_path: Path, roi: dict[str, list[int]]
) -> None:
    bundle = threshold_bundle(tmp_path / "bundle", input={"kind": "ct_volume", "spacing": 2, **roi})
    network = VolumeNetwork(bundle, torch.device("cpu"))
    tensor = torch.rand(1, 1, 24, 24, 24)
    expected = network.maps(tensor).probability
    cpu = torch.device("cpu")
    module = load_network(bundle, cpu)

    def of(outputs: Callable[[torch.Tensor], object]) -> VolumeNetwork:
        class Several(torch.nn.Module):
            def forward(self, volume: torch.Tensor) -> object:
                return outputs(volume)

        ladder = Ladder(VolumeEngine(Several(), cpu))
        engines = EngineSettings(compose=lambda *_: Chosen(ladder, None))
        return VolumeNetwork(bundle, cpu, engines)

    assert torch.allclose(of(lambda t: [module(t), module(t)]).maps(tensor).probability, expected)
    with pytest.raises(BundleError, match="gives dict, not tensors"):
        of(lambda t: {"out": module(t)}).maps(tensor)


def test_of_one_channel_none_is_the_most_probable(tmp_path: Path) -> None:
    bundle = threshold_bundle(tmp_path / "bundle", exclusive=True, activation="softmax")
    with pytest.raises(BundleError, match="gives 1 channel, and with exclusive"):
        VolumeNetwork(bundle, torch.device("cpu")).maps(torch.rand(1, 1, 24, 24, 24))


def test_the_probability_that_so_many_voxels_reach() -> None:
    values = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.3]])
    assert [round(reached(values, n), 4) for n in (1, 2, 3, 6, 99)] == [0.9, 0.7, 0.5, 0.1, 0.1]


def test_what_a_volume_adds_is_part_of_the_configuration(tmp_path: Path) -> None:
    bundle = threshold_bundle(tmp_path / "bundle")
    file = bundle.path / "configs" / "preread.json"
    digests = {bundle.configuration_digest}
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda p: p["input"].update(overlap=0.5),
        lambda p: p["input"].update(antialias=False),
        lambda p: p.update(exclusive=True),
        lambda p: p["labels"][0].update(min_volume_ml=1),
        lambda p: p["labels"][0].update(anatomy=True),
    ]
    for change in changes:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        digests.add(open_bundle(bundle.path).configuration_digest)
    assert len(digests) == len(changes) + 1
