"""Two-dimensional bundles of the Model Zoo: they see what MONAI's own transforms show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zoo_bundles
from hypothesis import given, settings
from hypothesis import strategies as st
from monai import transforms
from monai.data import MetaTensor

from inference.bundle import Bundle
from inference.catalogue import open_catalogue
from inference.errors import BundleError
from inference.input_spec import InputSpec
from inference.model import load_reader
from inference.preprocess import place_ct
from inference.radiograph_reader import RadiographReader
from inference.reading import SourceImage
from inference.settings import InferenceSettings, ModelSettings
from inference.tensors import prepare_ct, prepare_radiograph
from inference.zoo_planes import kind_of, plane_keys

CPU = torch.device("cpu")
Sources = Callable[[Iterable[Path]], list[SourceImage]]
DENSE = {"value": "129716005", "scheme": "SCT", "meaning": "Extremely dense"}
LABEL = {"name": "D", "code": DENSE}


def one(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": "image", **arguments}


LOADED = [one("LoadImaged"), one("EnsureChannelFirstd")]
RESIZED = one("Resized", spatial_size=[64, 64])


def density(path: Path, steps: list[dict[str, Any]], **image: Any) -> Path:
    """Write a bundle in the form of ``breast_density_classification``, its network small."""
    from monai.networks.nets import DenseNet121

    network = {**zoo_bundles.DENSENET, "spatial_dims": 2, "in_channels": 3, "out_channels": 4}
    config = {
        "network_def": {"_target_": "DenseNet121", **network},
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
            ],
        },
    }
    metadata = zoo_bundles.metadata(
        "Density", {"0": "A", "1": "B", "2": "C", "3": "D"}, "labels", [1, 4]
    )
    metadata["network_data_format"]["inputs"]["image"] |= {
        "modality": "Mammogram", "spatial_shape": [64, 64], "num_channels": 3, **image,
    }  # fmt: skip
    torch.manual_seed(1)
    return zoo_bundles.write_files(path, config, metadata, DenseNet121(**network).state_dict())


def served(path: Path, **section: Any) -> Bundle:
    model = ModelSettings.model_validate({"name": "plane", "path": path, **section})
    return open_catalogue(InferenceSettings(shipped=False), (model,))["plane"]


def by_monai(values: np.ndarray, steps: list[dict[str, Any]]) -> torch.Tensor:
    """Return what MONAI's transforms make of an image as its readers give it: columns first."""
    image = MetaTensor(torch.from_numpy(np.ascontiguousarray(values.T, dtype=np.float32))[None])
    made = {"image": image}
    for step in steps:
        arguments = {k: v for k, v in step.items() if k != "_target_"}
        made = getattr(transforms, step["_target_"])(**arguments)(made)
    return made["image"].as_tensor()


def ours(values: np.ndarray, steps: list[dict[str, Any]]) -> torch.Tensor:
    """Return the same as the network has it: transposed once more, if it says so."""
    keys = plane_keys([*LOADED, *steps], "image", ())
    spec = InputSpec.from_dict({"kind": "ct_slices", **keys})
    assert InputSpec.from_dict(spec.to_dict()) == spec
    made = prepare_ct(values[None], spec, CPU)[0]
    film = prepare_radiograph(
        values, InputSpec.from_dict({"kind": "radiograph", **keys}), CPU
    )[0]  # fmt: skip
    assert torch.equal(film, made)
    assert spec.plane is not None
    return made.transpose(-1, -2) if spec.plane.transposed else made


INTENSITIES = st.sampled_from(
    [
        one("ScaleIntensityd"),
        one("ScaleIntensityd", minv=-1.0, maxv=1.0),
        one("ScaleIntensityRanged", a_min=-50, a_max=150, b_min=0.0, b_max=1.0, clip=True),
        one("ScaleIntensityRanged", a_min=0, a_max=80, b_min=-1.0, b_max=1.0, clip=False),
        one("ScaleIntensityRangePercentilesd", lower=2, upper=97, b_min=0.0, b_max=1.0, clip=True),
        one("NormalizeIntensityd"),
        one("NormalizeIntensityd", nonzero=True, channel_wise=True),
        one("NormalizeIntensityd", subtrahend=20.0, divisor=60.0),
    ]
)
FITTINGS = st.sampled_from(
    [
        one("Resized", spatial_size=[48, 48]),
        one("Resized", spatial_size=[48, 48], mode="bilinear"),
        one("ResizeWithPadOrCropd", spatial_size=[48, 48]),
        one("ResizeWithPadOrCropd", spatial_size=(37, 37)),
    ]
)


@given(
    shape=st.tuples(st.integers(9, 90), st.integers(9, 90)),
    before=st.lists(INTENSITIES, max_size=2),
    fitting=FITTINGS,
    after=st.lists(INTENSITIES, max_size=2),
    copies=st.sampled_from([0, 3]),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_any_order_of_steps_gives_what_monai_gives(
    shape: tuple[int, int],
    before: list[dict[str, Any]],
    fitting: dict[str, Any],
    after: list[dict[str, Any]],
    copies: int,
    seed: int,
) -> None:
    values = np.random.default_rng(seed).normal(30.0, 60.0, shape).round().astype(np.float32)
    steps = [*before, fitting, *after]
    if copies:
        steps.append(one("RepeatChanneld", repeats=copies))
    made, expected = ours(values, steps), by_monai(values, steps)
    assert made.shape == expected.shape
    assert torch.allclose(made, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("loading", "transposed"),
    [
        ([one("LoadImaged")], True),
        ([one("LoadImaged", reader="PILReader", reverse_indexing=True)], True),
        ([one("LoadImaged", reader="PILReader", reverse_indexing=False)], False),
        ([one("LoadImaged", reader="ITKReader", reverse_indexing=True)], False),
        ([one("LoadImaged", reader="ITKReader", reverse_indexing=False)], True),
        ([one("LoadImaged", reader="PydicomReader", swap_ij=False)], False),
        ([one("LoadImaged", swap_ij=True)], True),
        ([one("LoadImaged"), one("SqueezeDimd", dim=-1)], True),
        ([one("LoadImaged"), one("Transposed", indices=[0, 2, 1])], False),
        ([], False),
    ],
)
def test_which_axis_comes_first_is_taken_over(
    loading: list[dict[str, Any]], transposed: bool
) -> None:
    keys = plane_keys([*loading, RESIZED], "image", ())
    assert keys["plane"]["transposed"] is transposed


@pytest.mark.parametrize(
    ("reader", "arguments", "modality"),
    [("PydicomReader", {}, "MG"), ("PydicomReader", {"swap_ij": False}, "CR")],
)
def test_a_bundle_sees_a_file_as_it_sees_it_in_monai(
    reader: str,
    arguments: dict[str, Any],
    modality: str,
    tmp_path: Path,
    write_image: Any,
    sources: Sources,
) -> None:
    """From the file to the numbers of the network, on both sides, transposition and all."""
    rng = np.random.default_rng(8)
    pixels = (rng.integers(0, 900, (90, 70)) + np.arange(90)[:, None] * 30).astype(np.uint16)
    path = write_image(pixels, Modality=modality, BitsStored=12)
    kept = "X-ray" if modality == "CR" else "Mammogram"
    steps = [
        one("LoadImaged", reader=reader, image_only=True, **arguments), one("EnsureChannelFirstd"),
        one("ScaleIntensityd", minv=0.0, maxv=1.0), RESIZED,
    ]  # fmt: skip
    folder = density(tmp_path / "density", steps, modality=kept)
    bundle = served(folder, label=[LABEL])
    assert bundle.spec.kind == "radiograph"
    assert bundle.suitability.modalities == (("MG",) if modality == "MG" else ("CR", "DX"))
    assert bundle.activation == "sigmoid"
    made: Any = {"image": path}
    for step in steps:
        given_ = {k: v for k, v in step.items() if k != "_target_"}
        made = getattr(transforms, step["_target_"])(**given_)(made)
    tensor = made["image"].as_tensor().float().repeat(3, 1, 1)[None]
    reader_ = load_reader(bundle, "cpu")
    with torch.inference_mode():
        from monai.networks.nets import DenseNet121

        network = DenseNet121(
            **{**zoo_bundles.DENSENET, "spatial_dims": 2, "in_channels": 3, "out_channels": 4}
        )
        network.load_state_dict(torch.load(folder / "models" / "model.pt"))
        expected = float(network.eval()(tensor).sigmoid()[0, 3])
        turned = float(network(tensor.transpose(-1, -2)).sigmoid()[0, 3])
    (finding,) = reader_.read(sources([path])).findings
    assert finding.probability == pytest.approx(expected, abs=1e-5)
    assert abs(expected - turned) > 1e-4  # a transposed picture would have been found out


@pytest.mark.parametrize("fitting", [RESIZED, one("ResizeWithPadOrCropd", spatial_size=[64, 64])])
def test_masks_come_back_to_where_they_were_in_the_source(
    fitting: dict[str, Any],
    tmp_path: Path,
    write_image: Any,
    sources: Sources,
) -> None:
    bright = torch.nn.Conv2d(1, 1, 1)
    bright.load_state_dict(
        {"weight": torch.full((1, 1, 1, 1), 40.0), "bias": torch.full((1,), -20.0)}
    )
    shape = [64, 64]
    metadata = zoo_bundles.metadata("Spots", {"0": "spot"}, "segmentation", shape)
    metadata["network_data_format"]["inputs"]["image"] |= {"spatial_shape": shape}
    steps = [
        *LOADED, fitting,
        one("ScaleIntensityRanged", a_min=0, a_max=100, b_min=0, b_max=1, clip=True),
    ]  # fmt: skip
    config = {
        "network_def": {
            "_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1,
        },
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": shape},
        "postprocessing": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}],
    }  # fmt: skip
    folder = zoo_bundles.write_files(tmp_path / "spots", config, metadata, bright.state_dict())
    bundle = served(folder, label=[{"name": "spot", "code": DENSE}], pooling={"reach_mm": 8})
    assert bundle.spec.kind == "ct_slices" and bundle.masks
    truth = np.zeros((80, 120), dtype=bool)
    truth[20:36, 70:90] = True
    pixels = np.where(truth, 90, 5).astype(np.int16)
    paths = [
        write_image(
            pixels,
            InstanceNumber=n,
            ImagePositionPatient=[0, 0, 5.0 * n],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[0.5, 0.5],
        )
        for n in range(3)
    ]
    reading = load_reader(bundle, "cpu").read(sources(paths))
    assert len(reading.masks) == 3
    for mask in reading.masks:
        shared = (mask.pixels & truth).sum() / (mask.pixels | truth).sum()
        assert shared > 0.8
    assert reading.illustrations[0].window == "model 50/100"
    assert reading.illustrations[0].marked is not None


def test_where_a_network_looked_is_turned_back(
    tmp_path: Path, write_image: Any, sources: Sources
) -> None:
    turned = density(tmp_path / "turned", [*LOADED, one("ScaleIntensityd"), RESIZED])
    upright = density(tmp_path / "upright", [one("ScaleIntensityd"), RESIZED])
    pixels = np.random.default_rng(2).integers(0, 4000, (64, 64)).astype(np.uint16)
    upper = np.triu(np.ones((64, 64), dtype=np.uint16)) * pixels
    path = write_image(upper, Modality="MG", BitsStored=12)
    flipped = write_image(np.ascontiguousarray(upper.T), Modality="MG", BitsStored=12)
    section = {"label": [{**LABEL, "thresholds": {"low": 0.0, "high": 0.0}}]}

    def looked(folder: Path, at: Path) -> np.ndarray:
        reader = load_reader(served(folder, **section), "cpu")
        assert isinstance(reader, RadiographReader)
        (shown,) = reader.read(sources([at])).illustrations
        assert shown.saliency is not None
        return shown.saliency

    np.testing.assert_allclose(looked(turned, path), looked(upright, flipped).T, atol=1e-3)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([RESIZED, one("Spacingd", pixdim=[1, 1])], "preprocessing Spacingd is none"),
        ([one("Orientationd", axcodes="RA"), RESIZED], "preprocessing Orientationd is none"),
        ([one("Flipd", spatial_axis=0), RESIZED], "preprocessing Flipd is none"),
        ([one("HistogramNormalized"), RESIZED], "preprocessing HistogramNormalized is none"),
        ([one("CropForegroundd"), RESIZED], "preprocessing CropForegroundd is none"),
        ([one("ScaleIntensityd")], "preprocessing gives images of any size"),
        ([one("Resized", spatial_size=[64, 48])], "images of .64, 48., and this node squares"),
        ([one("Resized", spatial_size=[64, -1])], "images of .64, -1., and this node squares"),
        ([RESIZED, RESIZED], "preprocessing Resized cannot be taken over: size is set by two"),
        ([one("Resized", spatial_size=64, mode="nearest")], "its mode is 'nearest'"),
        ([one("Transposed", indices=[2, 0, 1]), RESIZED], "Transposed cannot .*its indices"),
        ([one("SqueezeDimd", dim=0), RESIZED], "SqueezeDimd cannot .*its dim is 0"),
        (
            [one("NormalizeIntensityd", subtrahend=[0.4, 0.5, 0.4], divisor=[1, 1, 1]), RESIZED],
            "not a number",
        ),
    ],
)
def test_what_no_step_says_is_refused_by_its_name(
    steps: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=message):
        served(density(tmp_path / "density", [*LOADED, *steps]), label=[LABEL])


def test_what_is_ignored_knowingly_is_left_out(tmp_path: Path) -> None:
    path = density(tmp_path / "density", [*LOADED, one("Flipd", spatial_axis=0), RESIZED])
    assert served(path, label=[LABEL], ignore=["Flipd"]).spec.size == 64


def test_channels_that_differ_and_windows_that_slide_are_refused(tmp_path: Path) -> None:
    coloured = {"0": "red", "1": "green", "2": "blue"}
    path = density(tmp_path / "red", [*LOADED, RESIZED], channel_def=coloured)
    with pytest.raises(BundleError, match=r"3 channels \(red, green, blue\)"):
        served(path, label=[LABEL])
    repeated = [*LOADED, RESIZED, one("RepeatChanneld", repeats=3)]
    path = density(tmp_path / "repeated", repeated, channel_def=coloured)
    assert served(path, label=[LABEL]).spec.copies == 3
    path = density(tmp_path / "mr", [*LOADED, RESIZED], modality="MR")
    with pytest.raises(BundleError, match="2-D and reads MR: say by"):
        served(path, label=[LABEL])
    path = density(tmp_path / "slides", [*LOADED, RESIZED])
    file = path / "configs" / "inference.json"
    file.write_text(
        file.read_text().replace(
            '"SimpleInferer"', '"SlidingWindowInferer", "roi_size": [32, 32]'
        )
    )  # fmt: skip
    with pytest.raises(BundleError, match=r"SlidingWindowInferer slides a window of \[32, 32\]"):
        served(path, label=[LABEL])


def test_a_plane_excludes_what_else_makes_an_input(tmp_path: Path) -> None:
    path = density(tmp_path / "density", [*LOADED, RESIZED])
    bundle = served(path, label=[LABEL], input={"polarity": "chest"})
    assert bundle.spec.polarity == "chest" and bundle.spec.plane is not None
    with pytest.raises(BundleError, match="plane excludes windows, crop"):
        served(path, label=[LABEL], input={"crop": "lungs"})
    raw = {"kind": "ct_slices", "size": 64, "plane": {"steps": [{"kind": "minmax"}]}}
    with pytest.raises(ValueError, match="steps need one of linear, area, center"):
        InputSpec.from_dict(raw)
    with pytest.raises(ValueError, match="unknown keys in area: clip"):
        InputSpec.from_dict({**raw, "plane": {"steps": [{"kind": "area", "clip": True}]}})


def test_the_kinds_of_modalities() -> None:
    assert kind_of("CT") == ("ct_slices", ("CT",))
    assert kind_of("X-RAY IMAGE") == kind_of("CR") == ("radiograph", ("CR", "DX"))
    assert kind_of("") is kind_of("RGB") is kind_of("MRI") is None


def test_a_picture_that_is_cut_and_padded_is_placed_where_monai_places_it() -> None:
    keys = plane_keys([*LOADED, one("ResizeWithPadOrCropd", spatial_size=[40, 40])], "image", ())
    spec = InputSpec.from_dict({"kind": "ct_slices", **keys})
    (place,) = place_ct(np.zeros((1, 51, 21), dtype=np.float32), spec, CPU)
    assert place.box == (5, 0, 45, 21)
    assert place.inside == (slice(0, 40), slice(9, 30))
