"""Bundles of MONAI's Model Zoo: what they say, what the settings say, what is refused and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
import zoo_bundles
from hypothesis import given
from hypothesis import strategies as st

from inference import codes
from inference.bundle import Bundle, open_bundle
from inference.bundle_files import stated
from inference.catalogue import open_catalogue
from inference.errors import BundleError
from inference.evaluation.labelled import chosen_labels
from inference.intensity_spec import Intensity
from inference.model import load_reader
from inference.network import load_network
from inference.reading import Code, Thresholds
from inference.settings import InferenceSettings, ModelSettings
from inference.volume_spec import VolumeSpec
from inference.zoo_config import Configuration

CPU = torch.device("cpu")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def spleen(tmp_path: Path) -> Path:
    return zoo_bundles.write_spleen(tmp_path / "spleen_ct_segmentation")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return zoo_bundles.write_classifier(tmp_path / "nodules")


def edit(path: Path, change: Change, name: str = "inference") -> None:
    file = path / "configs" / f"{name}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def transforms(content: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content["preprocessing"]["transforms"]
    return found


def served(path: Path, name: str = "spleen", **section: Any) -> Bundle:
    """Open a bundle by a [[model]] section alone."""
    model = ModelSettings.model_validate({"name": name, "path": path, **section})
    return open_catalogue(InferenceSettings(shipped=False), (model,))[name]


def test_a_segmentation_is_served_by_its_path_alone(spleen: Path) -> None:
    bundle = served(spleen)
    assert (bundle.name, bundle.version) == ("spleen", "0.5.3")
    assert bundle.identity.manufacturer == "Equipe MONAI"
    (output,) = bundle.outputs
    assert (output.index, output.label.name) == (1, "spleen")
    assert output.label.code == Code("78961009", "SCT", "Spleen")
    assert output.label.anatomy
    assert output.label.thresholds == Thresholds(0.5, 0.5)
    assert bundle.masks and bundle.exclusive
    assert bundle.activation == "softmax"
    assert bundle.suitability.modalities == ("CT",)
    assert bundle.suitability.max_gap == 1.9
    assert bundle.spec.volume == VolumeSpec(
        "RAS",
        (3.0, 3.0, 3.0),
        intensity=(Intensity("range", (-57.0, 164.0), (0.0, 1.0), clip=True),),
        antialias=False,
        roi=(32, 32, 32),
        overlap=0.5,
    )
    network = load_network(bundle, CPU)
    assert sum(p.numel() for p in network.parameters()) > 1000


def test_a_classification_of_volumes_is_served_by_its_path_alone(classifier: Path) -> None:
    bundle = served(classifier, "nodules")
    assert [(o.index, o.label.name) for o in bundle.outputs] == [(0, "nodule"), (1, "pneumothorax")]
    assert bundle.labels[1].code == codes.PNEUMOTHORAX
    assert not bundle.masks and not bundle.labels[0].anatomy
    assert bundle.activation == "sigmoid"
    volume = bundle.spec.volume
    assert volume is not None
    assert (volume.orientation, volume.spacing, volume.size) == ("LPS", None, (32, 40, 32))
    load_network(bundle, CPU)


def test_a_folder_among_the_bundles_goes_by_its_name(spleen: Path) -> None:
    settings = InferenceSettings(shipped=False, bundles=(spleen,))
    assert list(open_catalogue(settings)) == ["spleen_ct_segmentation"]
    changed = ModelSettings.model_validate(
        {"name": "spleen_ct_segmentation", "label": [{"name": "spleen", "min_volume_ml": 5}]}
    )
    (bundle,) = open_catalogue(settings, (changed,)).values()
    assert bundle.outputs[0].min_volume_ml == 5.0
    assert bundle.outputs[0].index == 1


def test_what_says_nothing_of_the_input_need_not_be_understood(spleen: Path) -> None:
    """Forms that other bundles of the zoo have: choices, keys by reference, devices, types."""
    before = served(spleen).spec.volume

    def change(content: dict[str, Any]) -> None:
        content["displayable_configs"] = {"highres": False, "sw_overlap": 0.5}
        content["image_key"] = "image"
        content["pixdim"] = "$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]"
        for one in transforms(content):
            one["keys"] = "@image_key"
        transforms(content)[0]["reader"] = "$monai.data.ITKReader"
        transforms(content)[3]["pixdim"] = "@pixdim"
        transforms(content)[5] |= {"device": "@device", "dtype": "$torch.float32"}
        content["inferer"] |= {
            "overlap": "@displayable_configs#sw_overlap",
            "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        }

    edit(spleen, change)
    assert served(spleen).spec.volume == before


def test_yaml_says_the_same(spleen: Path) -> None:
    before = served(spleen)
    file = spleen / "configs" / "inference.json"
    file.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(file.read_text())))
    file.unlink()
    assert served(spleen).configuration_digest == before.configuration_digest


def test_the_settings_come_before_the_bundle(spleen: Path) -> None:
    bundle = served(
        spleen,
        input={"overlap": 0.25, "blend": "gaussian", "spacing": [2, 2, 2]},
        label=[
            {
                "name": "Spleen",
                "code": {"value": "1", "scheme": "99X", "meaning": "Ours"},
                "site": {"value": "78961009", "meaning": "Spleen"},
                "thresholds": {"low": 0.2, "high": 0.7},
            }
        ],
        exclusive=False,
        manufacturer="Somebody",
        pooling={"key_slices": 5},
    )
    assert bundle.spec.volume is not None
    assert bundle.spec.volume.roi == (32, 32, 32)
    assert (bundle.spec.volume.overlap, bundle.spec.volume.blend) == (0.25, "gaussian")
    assert bundle.spec.volume.spacing == (2.0, 2.0, 2.0)
    (label,) = bundle.labels
    assert (label.code.meaning, label.anatomy) == ("Ours", False)
    assert label.site == Code("78961009", "SCT", "Spleen")
    assert label.thresholds == Thresholds(0.2, 0.7)
    assert not bundle.exclusive
    assert bundle.identity.manufacturer == "Somebody"
    assert bundle.pooling.key_slices == 5
    assert bundle.configuration_digest != served(spleen).configuration_digest


def test_a_kind_in_the_settings_says_all_of_the_input(spleen: Path) -> None:
    edit(spleen, lambda c: transforms(c).append({"_target_": "SharpenToned", "keys": "image"}))
    bundle = served(
        spleen,
        input={
            "kind": "ct_volume",
            "spacing": 2,
            "intensity": [{"kind": "range", "source": [-57, 164]}],
        },
    )
    assert bundle.spec.volume == VolumeSpec(
        spacing=(2.0, 2.0, 2.0),
        intensity=(Intensity("range", (-57.0, 164.0)),),
        roi=(32, 32, 32),
        overlap=0.5,
    )


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        ("radiograph", {"size": 64, "polarity": "chest", "channels": 3}),
        ("ct_slices", {"size": 64, "windows": [{"center": c, "width": 80} for c in (0, 40, 80)]}),
    ],
)
def test_a_network_of_images_is_told_by_the_settings_what_it_is_shown(
    kind: str, section: dict[str, Any], tmp_path: Path, write_image: Any, sources: Any
) -> None:
    config = {
        "network_def": {
            "_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 3, "out_channels": 4,
            "init_features": 8, "growth_rate": 4, "block_config": [2, 2], "pretrained": True,
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Resized", "keys": "image", "spatial_size": [64, 64]}],
        },
    }  # fmt: skip
    given = {k: v for k, v in config["network_def"].items() if k not in ("_target_", "pretrained")}
    torch.manual_seed(1)
    from monai.networks.nets import DenseNet121

    metadata = zoo_bundles.metadata(
        "Density", {"0": "A", "1": "B", "2": "C", "3": "D"}, "labels", [1, 4]
    )
    metadata["network_data_format"]["inputs"]["image"] |= {
        "modality": "Ultrasound", "spatial_shape": [64, 64],
    }  # fmt: skip
    path = zoo_bundles.write_files(
        tmp_path / "density", config, metadata, DenseNet121(**given).state_dict()
    )
    with pytest.raises(BundleError, match=r"2-D and reads ULTRASOUND: say by \[model.input\]"):
        served(path, "density")
    dense = {"value": "129716005", "scheme": "SCT", "meaning": "Extremely dense"}
    with pytest.raises(BundleError, match=r"label a \(output 0\) has no code"):
        served(path, "density", input={"kind": kind, **section})
    bundle = served(
        path,
        "density",
        input={"kind": kind, **section},
        label=[{"name": "D", "code": dense}],
        activation="softmax",
        primary="D",
        thresholds={"D": {"low": 0.3, "high": 0.6}},
    )
    # Stored small, and meant by whoever writes it as in the section.
    assert bundle.labels[0].thresholds == Thresholds(0.3, 0.6)
    assert bundle.primary == "d"
    assert chosen_labels(["d"], ["D=4"]) == ((0,), ("4",))
    assert bundle.spec.kind == kind
    assert [(o.index, o.label.name) for o in bundle.outputs] == [(3, "d")]
    pixels = np.arange(80 * 70, dtype=np.int16).reshape(80, 70) % 300
    modality = "DX" if kind == "radiograph" else "CT"
    images = sources([write_image(pixels, Modality=modality)])
    reading = load_reader(bundle, "cpu").read(images)
    assert {finding.label.name for finding in reading.findings} == {"d"}


def test_labels_are_meant_whatever_their_case(ct_bundle: Bundle) -> None:
    said = {"masks": ["Subdural", "ANY"], "primary": "Epidural"}
    _, told = stated(ct_bundle.path, said, None)
    assert told.preread["masks"] == ["subdural", "any"]
    assert told.preread["primary"] == "epidural"
    half = Thresholds(0.4, 0.5)
    changed = ct_bundle.with_thresholds({"SUBDURAL": half})
    assert next(one for one in changed.labels if one.name == "subdural").thresholds == half
    with pytest.raises(BundleError, match="name a label twice"):
        ct_bundle.with_thresholds({"SUBDURAL": half, "subdural": half})
    with pytest.raises(BundleError, match="has no label tumour; its labels: any"):
        ct_bundle.with_thresholds({"tumour": half})


def without_code(content: dict[str, Any]) -> None:
    outputs = content["network_data_format"]["outputs"]["pred"]
    outputs["channel_def"] = {"0": "background", "1": "Splenic lesion"}


def test_a_label_that_nobody_has_a_code_for_is_asked_for_by_its_key(spleen: Path) -> None:
    edit(spleen, without_code, "metadata")
    with pytest.raises(
        BundleError, match=r'splenic_lesion \(output 1\) has no code.*\[\[model.label\]\] name = "s'
    ):
        served(spleen)
    code = {"value": "1", "scheme": "99X", "meaning": "Splenic lesion"}
    bundle = served(spleen, label=[{"name": "splenic_lesion", "code": code}])
    assert bundle.outputs[0].index == 1
    # The same of a folder of inference.bundles.
    model = ModelSettings.model_validate(
        {"name": spleen.name, "label": [{"name": "splenic_lesion", "code": code}]}
    )
    (same,) = open_catalogue(InferenceSettings(shipped=False, bundles=(spleen,)), (model,)).values()
    assert same.labels == bundle.labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: transforms(c).append({"_target_": "SharpenToned", "keys": "image"}),
            r"SharpenToned is none that this node knows; say by \[model.input\].*ignore = \[",
        ),
        (
            lambda c: transforms(c)[3].update(mode="nearest"),
            r"Spacingd cannot be taken over: its mode is 'nearest'",
        ),
        (
            lambda c: transforms(c)[3].update(max_pixdim=[3, 3, 3]),
            r"Spacingd has max_pixdim, which no key",
        ),
        (
            lambda c: transforms(c)[3].update(pixdim="$numpy.ones(3)"),
            r"preprocessing#transforms#3#pixdim is the expression '\$numpy.ones\(3\)', which is not"
            r" run",
        ),
        (
            lambda c: transforms(c)[3].update(pixdim="@nothing#here"),
            r"pixdim refers to @nothing#here, which is not there",
        ),
        (
            lambda c: transforms(c).insert(2, {"_target_": "CropForegroundd", "keys": "image"}),
            r"crops the foreground before",
        ),
        (
            lambda c: c["network_def"].update(act="$__import__('os').getpid()"),
            r"network_def#act is the expression .* is more than arithmetic",
        ),
        (
            lambda c: c["network_def"].update(norm="%other.json#norm"),
            r"network_def#norm is '%other.json#norm', a part of another file",
        ),
        (
            lambda c: c.update(spatial_dims="@spatial_dims"),
            r"spatial_dims refers to itself",
        ),
        (
            lambda c: c["inferer"].update(_target_="SliceInferer"),
            r"inferer SliceInferer is none that this node knows",
        ),
        (
            lambda c: c["postprocessing"]["transforms"].append(
                {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"}
            ),
            r"KeepLargestConnectedComponentd is not done.*ignore = \[\"KeepLargest",
        ),
        (lambda c: c["inferer"].update(cval="$-1"), r"its cval -1, this node with 0.*\[\"cval\"\]"),
        (
            lambda c: transforms(c)[2].update(labels=[["R", "L"], ["P", "A"], ["I", "S"]]),
            r"Orientationd cannot be taken over: its labels are \[\['R', 'L'\]",
        ),
        (
            lambda c: transforms(c).append(
                {"_target_": "CropForegroundd", "keys": "image", "source_key": "body"}
            ),
            r"CropForegroundd cannot be taken over: its source_key is 'body', not 'image'",
        ),
        (lambda c: c.update(network_def={}), r"network_def with a _target_ is missing"),
        (
            lambda c: c["inferer"].update(roi_size=[96, 96, 2]),
            r"a roi of \[96, 96, 2\] voxels is outside",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused_by_its_name(
    spleen: Path, change: Change, message: str
) -> None:
    edit(spleen, change)
    with pytest.raises(BundleError, match=message) as refusal:
        served(spleen)
    assert "inference.json" in str(refusal.value)


def test_the_standard_deviation_of_blended_windows_is_taken_over(spleen: Path) -> None:
    usual = served(spleen).configuration_digest
    edit(spleen, lambda c: c["inferer"].update(mode="gaussian", sigma_scale="$1 / 4"))
    volume = served(spleen).spec.volume
    assert volume is not None
    assert (volume.blend, volume.blend_sigma) == ("gaussian", (0.25, 0.25, 0.25))
    edit(spleen, lambda c: c["inferer"].update(sigma_scale=[0.25, 0.25, 0.5]))
    volume = served(spleen).spec.volume
    assert volume is not None and volume.blend_sigma == (0.25, 0.25, 0.5)
    stated = served(spleen, input={"blend_sigma": 0.125})
    assert stated.spec.volume is not None and stated.spec.volume.blend_sigma == (0.125,) * 3
    # What MONAI does without the argument is what was served before there was one.
    edit(spleen, lambda c: c["inferer"].update(mode="constant", sigma_scale=0.125))
    assert served(spleen).configuration_digest == usual
    edit(spleen, lambda c: c["inferer"].update(sigma_scale=0))
    with pytest.raises(BundleError, match=r"blend_sigma of \[0.0, 0.0, 0.0\] is outside"):
        served(spleen)


def test_a_network_that_is_shown_coordinates_is_refused(spleen: Path) -> None:
    edit(spleen, lambda c: c["inferer"].update(with_coord=False))
    served(spleen)
    edit(spleen, lambda c: c["inferer"].update(with_coord=True))
    with pytest.raises(BundleError, match="shows its network coordinates"):
        served(spleen)


def test_what_is_ignored_knowingly_is_left_out(spleen: Path) -> None:
    before = served(spleen)
    edit(spleen, lambda c: transforms(c).append({"_target_": "SharpenToned", "keys": "image"}))
    edit(
        spleen,
        lambda c: c["postprocessing"]["transforms"].append({"_target_": "FillHolesd"}),
    )
    bundle = served(spleen, ignore=["SharpenToned", "FillHolesd"])
    assert bundle.configuration_digest == before.configuration_digest


@pytest.mark.parametrize(
    ("order", "place"),
    [
        (["Spacing", "Range"], "spaced"),
        (["Range", "Spacing"], "first"),
        (["Range", "Standardize", "Size"], "spaced"),
        (["Spacing", "Range", "Size"], "spaced"),
        (["Size", "Standardize"], "last"),
        (["Range", "Spacing", "Standardize"], None),
        (["Size", "Spacing", "Range"], None),
    ],
)
def test_the_order_of_steps_is_kept_or_refused(
    order: list[str], place: str | None, spleen: Path
) -> None:
    known = {
        "Spacing": {"_target_": "monai.transforms.Spacingd", "keys": "image", "pixdim": 2},
        "Range": {"_target_": "ScaleIntensityRangeD", "keys": "image", "a_min": 0, "a_max": 100},
        "Standardize": {"_target_": "NormalizeIntensityd", "keys": ["image"], "nonzero": True},
        "Size": {"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": [64, 64, 64]},
    }

    def change(content: dict[str, Any]) -> None:
        oriented = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
        steps = [oriented, *(known[name] for name in order)]
        content["preprocessing"]["transforms"] = steps

    edit(spleen, change)
    if place is None:
        with pytest.raises(BundleError, match=r"say by \[model.input\] in which order"):
            served(spleen)
        return
    volume = served(spleen).spec.volume
    assert volume is not None
    assert volume.intensity_at == place
    assert all(not step.clip for step in volume.intensity if step.kind == "range")


def replaced(path: Path, *steps: dict[str, Any]) -> None:
    given = [{"keys": "image", **step} for step in steps]
    edit(path, lambda content: content["preprocessing"].update(transforms=given))


ORIENTED = {"_target_": "Orientationd", "axcodes": "LPS"}


def test_a_volume_that_nobody_orients_is_refused_or_taken_knowingly(spleen: Path) -> None:
    replaced(spleen, {"_target_": "Spacingd", "pixdim": 2})
    with pytest.raises(BundleError, match="no Orientationd, so nobody knows"):
        served(spleen)
    volume = served(spleen, ignore=["Orientationd"]).spec.volume
    assert volume is not None
    assert volume.orientation == "RAS"


def test_sides_of_axes_that_are_turned_afterwards_are_refused(spleen: Path) -> None:
    replaced(spleen, {"_target_": "Spacingd", "pixdim": [1, 1, 4]}, ORIENTED)
    with pytest.raises(BundleError, match=r"after spacing \[1, 1, 4\], which is of other axes"):
        served(spleen)
    replaced(spleen, {"_target_": "Spacingd", "pixdim": [2, 2, 2]}, ORIENTED)
    volume = served(spleen).spec.volume
    assert volume is not None
    assert (volume.orientation, volume.spacing) == ("LPS", (2.0, 2.0, 2.0))


@pytest.mark.parametrize("keys", [["image", "label"], ["label", "image"]])
@pytest.mark.parametrize("image", ["bilinear", "nearest"])
def test_of_a_value_for_each_key_that_of_the_image_counts(
    spleen: Path, keys: list[str], image: str
) -> None:
    other = {"bilinear": "nearest", "nearest": "bilinear"}[image]
    mode = [image if key == "image" else other for key in keys]
    replaced(spleen, ORIENTED, {"_target_": "Spacingd", "keys": keys, "pixdim": 2, "mode": mode})
    if image == "bilinear":
        assert served(spleen).spec.volume is not None
        return
    with pytest.raises(BundleError, match="its mode is 'nearest', not 'bilinear'"):
        served(spleen)


def test_half_a_range_is_refused(spleen: Path) -> None:
    half = {"_target_": "ScaleIntensityRanged", "a_min": 0, "a_max": 100, "b_min": -1.0}
    replaced(spleen, ORIENTED, half)
    with pytest.raises(BundleError, match="it has b_min and no b_max"):
        served(spleen)


def test_resized_without_a_mode_takes_the_mean_as_monai_does(classifier: Path) -> None:
    edit(classifier, lambda c: transforms(c)[4].pop("mode"))
    volume = served(classifier, "nodules").spec.volume
    assert volume is not None
    assert volume.resize == "area"


def test_masks_of_a_volume_are_all_or_none(spleen: Path) -> None:
    with pytest.raises(BundleError, match="true or false, not a list"):
        served(spleen, masks=["spleen"])
    assert not served(spleen, masks=False).masks


def test_torchscript_is_not_run(spleen: Path) -> None:
    (spleen / "models" / "model.pt").rename(spleen / "models" / "model.ts")
    with pytest.raises(BundleError, match=r"model\.ts is TorchScript, which is code and is not"):
        served(spleen)


def test_a_folder_that_is_no_bundle_is_named(spleen: Path) -> None:
    (spleen / "configs" / "inference.json").unlink()
    with pytest.raises(BundleError, match=r"neither preread.json nor inference.json nor inference"):
        served(spleen)
    (spleen / "configs" / "inference.yaml").write_text("a: [")
    with pytest.raises(BundleError, match=r"inference.yaml is not YAML"):
        served(spleen)


def after(content: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content["postprocessing"]["transforms"]
    return found


def sigmoid_instead(content: dict[str, Any]) -> None:
    content |= {"use_softmax": False, "many": 1}
    after(content)[0] |= {"softmax": "@use_softmax", "sigmoid": "$not @use_softmax"}
    after(content)[2] |= {"argmax": "$@many > 1", "threshold": "$0.25 * 2"}


def disabled_instead(content: dict[str, Any]) -> None:
    content["off"] = True
    after(content)[0] |= {"_disabled_": "@off", "softmax": "$nothing()"}
    after(content)[2] |= {"_disabled_": "true"}
    after(content).append({"_target_": "Activationsd", "sigmoid": True, "_disabled_": "false"})
    after(content).append({"_target_": "FillHolesd", "keys": "pred", "_disabled_": True})


@pytest.mark.parametrize("change", [sigmoid_instead, disabled_instead])
def test_postprocessing_is_worked_out(spleen: Path, change: Change) -> None:
    edit(spleen, change)
    bundle = served(spleen)
    assert (bundle.activation, bundle.exclusive) == ("sigmoid", False)


@pytest.mark.parametrize("threshold", [0.3, 0, [0.9], "$1 / 3", True])
def test_a_threshold_of_the_bundle_is_not_dropped(spleen: Path, threshold: object) -> None:
    edit(spleen, lambda c: after(c)[2].update(argmax=False, threshold=threshold))
    with pytest.raises(BundleError, match=r"AsDiscreted has the threshold .*\[\[model.label\]\]"):
        served(spleen)
    assert not served(spleen, ignore=["AsDiscreted"]).exclusive


def test_arguments_that_say_what_is_done_anyway_are_taken(spleen: Path) -> None:
    before = served(spleen)
    edit(spleen, lambda c: c["inferer"].update(cval=0.0))
    edit(spleen, lambda c: transforms(c)[2].update(labels=[["L", "R"], ["P", "A"], ["I", "S"]]))
    assert served(spleen).configuration_digest == before.configuration_digest
    edit(spleen, lambda c: c["inferer"].update(cval=-1))
    served(spleen, ignore=["cval"])
    crop = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
    edit(spleen, lambda c: transforms(c).append(crop))
    volume = served(spleen, ignore=["cval"]).spec.volume
    assert volume is not None
    assert volume.crop_foreground


def test_preprocessing_that_is_disabled_is_left_out(spleen: Path) -> None:
    before = served(spleen)
    off = {"_target_": "SharpenToned", "keys": "image", "a": "$f()", "_disabled_": "$1 == 1"}
    edit(spleen, lambda c: transforms(c).append(off))
    edit(spleen, lambda c: transforms(c)[2].update(_disabled_="False"))
    assert served(spleen).configuration_digest == before.configuration_digest


@pytest.mark.parametrize("wrap", ["model", "state_dict", "module"])
def test_weights_of_a_checkpoint_are_found(spleen: Path, wrap: str) -> None:
    file = spleen / "models" / "model.pt"
    plain = torch.load(file, weights_only=True)
    wrapped = {wrap: plain, "epoch": 3}
    if wrap == "module":
        wrapped = {f"module.{key}": value for key, value in plain.items()}
    torch.save(wrapped, file)
    network = load_network(served(spleen), CPU)
    for name, value in network.state_dict().items():
        assert torch.equal(value, plain[name].to(value.dtype)), name


def test_a_short_name_leads_to_networks_of_monai_alone(spleen: Path) -> None:
    edit(spleen, lambda c: c["network_def"].update(_target_="exec"))
    with pytest.raises(BundleError, match=r"monai.networks.nets.exec is no module"):
        load_network(served(spleen), CPU)


def test_a_preread_section_and_the_settings_agree(ct_bundle: Bundle) -> None:
    same = open_bundle(ct_bundle.path, {})
    assert same == ct_bundle
    changed = served(ct_bundle.path, "hemorrhage", pooling={"reach_mm": 3}, primary="subdural")
    assert changed.pooling.reach_mm == 3.0
    assert changed.pooling.key_slices == ct_bundle.pooling.key_slices
    assert changed.primary == "subdural"
    assert changed.spec == ct_bundle.spec
    some = served(ct_bundle.path, "hemorrhage", masks=["any", "subdural"])
    assert some.mapped == ("any", "subdural")
    larger = served(ct_bundle.path, "hemorrhage", input={"size": 64})
    assert larger.spec.size == 64
    assert larger.spec.windows == ct_bundle.spec.windows


@pytest.mark.parametrize("refers", ["@a{}", "$[@a{}, @a{}]", "$@a{} + @a{}"])
def test_references_that_multiply_are_refused(refers: str, spleen: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for level in range(10):
            content[f"a{level}"] = [refers.replace("{}", str(level + 1))] * 10
        content["a10"] = [1]
        content["network_def"]["channels"] = "@a0"

    edit(spleen, change)
    with pytest.raises(BundleError, match="more than 100000 values"):
        served(spleen)


def test_yaml_that_multiplies_is_refused(spleen: Path) -> None:
    levels = "\n".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10) if n else '1'}]" for n in range(10)
    )
    file = spleen / "configs" / "inference.json"
    content = yaml.safe_dump(json.loads(file.read_text()))
    file.unlink()
    yaml_file = file.with_suffix(".yaml")
    for place in ("strides:", "_target_: Activationsd"):
        changed = content.replace(place, f"{place.split(':')[0]}: *a9\n      #", 1)
        assert changed != content
        yaml_file.write_text(f"{levels}\n{changed}")
        with pytest.raises(BundleError):
            served(spleen)


@pytest.mark.parametrize("name", ["inference.json", "metadata.json", "inference.yaml"])
def test_what_is_nested_without_end_is_refused(spleen: Path, name: str) -> None:
    deep = "[" * 20_000 + "]" * 20_000
    configs = spleen / "configs"
    if name.endswith("yaml"):
        (configs / "inference.json").unlink()
        deep = "[" * 2_000 + "]" * 2_000
    (configs / name).write_text(f'{{"network_def": {deep}}}')
    with pytest.raises(BundleError, match=name):
        served(spleen)


@pytest.mark.parametrize(
    "value",
    [
        "2020-01-01",
        "!!binary aGFsbG8=",
        "!!set {a, b}",
        "{1: a, b: c}",
        "!!timestamp x",
        "!!int ''",
    ],
)
def test_values_that_json_has_not_are_refused(spleen: Path, value: str) -> None:
    file = spleen / "configs" / "inference.json"
    content = yaml.safe_dump(json.loads(file.read_text()))
    file.unlink()
    changed = content.replace("norm: batch", f"norm: {value}")
    assert changed != content
    file.with_suffix(".yaml").write_text(changed)
    with pytest.raises(BundleError, match=r"inference\.yaml"):
        load_network(served(spleen), CPU)


def plain(text: str, **known: Any) -> Any:
    return Configuration({**known, "asked": text}).get("asked")


@given(st.integers(-1000, 1000), st.integers(1, 1000))
def test_arithmetic_is_worked_out(a: int, b: int) -> None:
    assert plain("$@a + 2 * @b // 3 - -1", a=a, b=b) == a + 2 * b // 3 + 1
    assert plain("$[@a / @b, @c#d#1]", a=a, b=b, c={"d": [0, "x"]}) == [a / b, "x"]
    assert plain("$@b if @a > 0 else [0]", a=a, b=b) == (b if a > 0 else [0])
    assert plain("$@c::d[0]", c={"d": [a]}) == a


@given(st.text(max_size=40))
def test_no_expression_does_more_than_fail(text: str) -> None:
    try:
        made = plain("$" + text, a=1)
    except ValueError as error:
        assert "asked" in str(error)
    else:
        assert made is None or isinstance(made, (bool, int, float, str, list))


@pytest.mark.parametrize(
    "text",
    [
        "$__import__('os')",
        "$(1).__class__",
        "$[x for x in [1]]",
        "$'a' * 1000000000",
        "$[0] * 1000000000",
        "$9 ** 9 ** 9",
        "$" + "9999999999*" * 3 + "1",
        "$lambda: 1",
        "$open('/etc/passwd')",
        "$@a",
        "$1/0",
        "$" + "1+" * 3000 + "1",
        "$" + "(" * 900 + ")" * 900,
        "$" + "-" * 1900 + "1",
        "@a b",
    ],
)
def test_what_is_no_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="asked"):
        plain(text)
