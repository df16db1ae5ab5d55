"""Bundles on disk: written, opened, refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.catalogue import open_catalogue
from inference.criteria import Criteria
from inference.errors import BundleError
from inference.network import load_network
from inference.reading import Thresholds
from inference.settings import (
    InferenceSettings,
    ModelSettings,
    SuitabilitySettings,
    ThresholdSettings,
    shipped_bundles,
)

CPU = torch.device("cpu")


@pytest.fixture
def copied(ct_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ct_bundle.path, tmp_path / "copied"))


def edit(path: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    file = path / "configs" / f"{name}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_bundle_says_what_was_written(ct_bundle: Bundle) -> None:
    assert (ct_bundle.name, ct_bundle.version) == ("hemorrhage", "0.0.1")
    assert ct_bundle.labels[0].name == ct_bundle.primary == "any"
    assert ct_bundle.labels[0].site is not None
    assert len(ct_bundle.identity.weights_sha256) == len(ct_bundle.configuration_digest) == 64
    assert ct_bundle.card == "# For tests\n"


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("version", "\uff11.\uff10"), ("version", "1" * 65), ("version", "1\n"),
        ("name", "a\\b"), ("name", " "), ("manufacturer", "Großklinik"),
    ],
)  # fmt: skip
def test_what_no_report_can_state_is_refused_at_the_start(
    copied: Path, what: str, told: str
) -> None:
    edit(copied, "metadata", lambda metadata: metadata.update({what: told}))
    with pytest.raises(BundleError, match=f"the model's {what} .* 1 to 64 printable ASCII"):
        open_bundle(copied)
    edit(copied, "metadata", lambda metadata: metadata.update({what: "v2, of ours"}))
    assert open_bundle(copied).identity


def test_what_changes_results_changes_the_digest(ct_bundle: Bundle, copied: Path) -> None:
    assert open_bundle(copied).configuration_digest == ct_bundle.configuration_digest
    edit(copied, "metadata", lambda metadata: metadata.update(description="Other words"))
    assert open_bundle(copied).configuration_digest == ct_bundle.configuration_digest
    edit(copied, "preread", lambda preread: preread.update(pooling={"reach_mm": 3}))
    assert open_bundle(copied).configuration_digest != ct_bundle.configuration_digest


def test_other_thresholds_are_another_configuration(ct_bundle: Bundle) -> None:
    changed = ct_bundle.with_thresholds({"any": Thresholds(0.3, 0.6)})
    assert changed.labels[0].thresholds == Thresholds(0.3, 0.6)
    assert changed.labels[1:] == ct_bundle.labels[1:]
    assert changed.configuration_digest != ct_bundle.configuration_digest
    with pytest.raises(BundleError, match="no label anyy; its labels: any, epidural"):
        ct_bundle.with_thresholds({"anyy": Thresholds(0.3, 0.6)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("input"), "input is missing"),
        (lambda p: p.update(labels=[]), "labels is empty"),
        (lambda p: p.update(lables=[]), "unknown keys: lables"),
        (lambda p: p.update(schema=2), "schema 2 is not known"),
        (lambda p: p.update(primary="stroke"), "primary 'stroke' is not one of the labels"),
        (lambda p: p.update(activation="relu"), "activation 'relu' is not one of"),
        (lambda p: p["labels"][0].update(output=1), "share an output or a name"),
        (lambda p: p["labels"][0].pop("code"), "code is missing"),
        (lambda p: p["labels"][0].update(thresholds={"low": 0.9, "high": 0.1}), "0.9"),
        (lambda p: p["input"].update(kind="tomosynthesis"), "unknown kind of reader"),
        (lambda p: p["input"].update(windows=[{"center": 1, "width": 0}]), "width above"),
    ],
)
def test_a_wrong_preread_section_is_refused_by_name(
    copied: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(copied, "preread", change)
    with pytest.raises(BundleError, match=message) as refusal:
        open_bundle(copied)
    assert "preread.json" in str(refusal.value)


def test_a_missing_file_is_named(copied: Path) -> None:
    (copied / "models" / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"models holds neither model\.safetensors nor model\.pt"):
        open_bundle(copied)
    (copied / "configs" / "metadata.json").write_text("{")
    with pytest.raises(BundleError, match=r"metadata\.json is not JSON"):
        open_bundle(copied)
    with pytest.raises(BundleError, match=r"metadata\.json cannot be read"):
        open_bundle(copied.parent)


@pytest.mark.parametrize(
    "definition",
    [
        {"_target_": "os.system", "command": "true"},
        {"_target_": "subprocess.run", "args": ["true"]},
        {"_target_": "torch.nn.modules.module.torch.hub.load"},
        {"_target_": "monai.networks.nets.torch.load"},
        {"_target_": "torch.nn.functional.relu"},
        {"_target_": "torch.nn.Linear", "in_features": "$__import__('os').getpid()"},
        {"_target_": "torch.nn.Linear", "in_features": "@somewhere"},
        {"_target_": "torch.nn.Linear", "_mode_": "debug", "in_features": 1, "out_features": 1},
        {"_target_": "torch.nn.ReLU", "inplace": {"_target_": "builtins.exec"}},
        {"_target_": "monai.networks.nets.EfficientNetBN", "pretrained": True},
        {"_target_": "monai.networks.nets.Classifier", "no_such_argument": 1},
    ],
)
def test_a_bundle_cannot_run_code(copied: Path, definition: dict[str, Any]) -> None:
    edit(copied, "inference", lambda inference: inference.update(network_def=definition))
    with pytest.raises(BundleError, match="network_def cannot be built"):
        load_network(open_bundle(copied), CPU)


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        (
            {"_target_": "monai.networks.nets.HoVerNet", "pretrained_url": "http://127.0.0.1:9/w"},
            "pretrained_url",
        ),
        (
            {
                "_target_": "torch.nn.Sequential",
                "args": [{"_target_": "monai.networks.nets.HoVerNet", "model_url": "file:///w"}],
            },
            "model_url",
        ),
        ({"_target_": "monai.networks.nets.TorchVisionFCModel", "weights": "DEFAULT"}, "weights"),
        ({"_target_": "monai.networks.nets.Transchex"}, "path_or_repo_id"),
    ],
)
def test_a_bundle_cannot_fetch(copied: Path, definition: dict[str, Any], name: str) -> None:
    edit(copied, "inference", lambda inference: inference.update(network_def=definition))
    with pytest.raises(BundleError, match=rf"network_def cannot be built: .*{name}"):
        load_network(open_bundle(copied), CPU)


@pytest.mark.parametrize("target", ["nets.EfficientNetBN", "blocks.text_embedding.TextEncoder"])
def test_a_network_that_fetches_by_default_is_told_not_to(
    copied: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetch)
    monkeypatch.setattr("torch.utils.model_zoo.load_url", fetch)
    arguments = {
        "nets.EfficientNetBN": {"model_name": "efficientnet-b0", "num_classes": 6},
        "blocks.text_embedding.TextEncoder": {"out_channels": 6},
    }[target]
    definition = {"_target_": f"monai.networks.{target}", **arguments}
    edit(copied, "inference", lambda inference: inference.update(network_def=definition))
    with pytest.raises(BundleError, match="does not fit the network"):
        load_network(open_bundle(copied), CPU)


def test_pickled_code_in_weights_is_refused(copied: Path) -> None:
    (copied / "models" / "model.safetensors").unlink()
    torch.save({"weight": print}, copied / "models" / "model.pt")
    with pytest.raises(BundleError, match="holds more than weights"):
        load_network(open_bundle(copied), CPU)


def test_weights_of_another_network_are_refused(copied: Path) -> None:
    edit(copied, "inference", lambda i: i["network_def"].update(classes=5))
    with pytest.raises(BundleError, match="does not fit the network"):
        load_network(open_bundle(copied), CPU)


def test_weights_of_both_kinds_load_alike(ct_bundle: Bundle, copied: Path) -> None:
    network = load_network(ct_bundle, CPU)
    assert not network.training
    (copied / "models" / "model.safetensors").unlink()
    torch.save(network.state_dict(), copied / "models" / "model.pt")
    other = load_network(open_bundle(copied), CPU)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert not one.requires_grad


def test_half_precision_is_storage_only(ct_bundle: Bundle, tmp_path: Path) -> None:
    network = load_network(ct_bundle, CPU)
    preread = json.loads((ct_bundle.path / "configs" / "preread.json").read_text())
    write_bundle(
        tmp_path / "half",
        name="half",
        version="1",
        network_def=ct_bundle.network_def,
        state_dict=network.state_dict(),
        preread=preread,
        metadata={},
        card="",
        half=True,
    )
    half = open_bundle(tmp_path / "half")
    assert half.weights_path.stat().st_size < ct_bundle.weights_path.stat().st_size
    for one, two in zip(network.parameters(), load_network(half, CPU).parameters(), strict=True):
        assert two.dtype is torch.float32
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-6)


def test_opening_a_bundle_does_not_import_torch() -> None:
    light = "inference.catalogue, inference.bundle_writing"
    program = f"import sys, {light}; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)


def test_the_catalogue_has_added_and_changed_models(
    ct_bundle: Bundle, chest_bundle: Bundle
) -> None:
    settings = InferenceSettings(shipped=False, bundles=(ct_bundle.path, chest_bundle.path))
    assert list(open_catalogue(settings)) == ["hemorrhage", "pneumothorax"]
    models = (
        ModelSettings(name="pneumothorax", enabled=False),
        ModelSettings(name="hemorrhage", thresholds={"any": ThresholdSettings(low=0, high=1)}),
    )
    (only,) = open_catalogue(settings, models).values()
    assert only.labels[0].thresholds == Thresholds(0, 1)


def test_the_settings_change_criteria_of_an_added_and_of_a_shipped_model(
    ct_bundle: Bundle,
) -> None:
    strict = ModelSettings.model_validate(
        {
            "name": "hemorrhage",
            "suitability": {"contrast": "without", "refused_kernels": ["*70*"]},
        }
    )
    added = InferenceSettings(shipped=False, bundles=(ct_bundle.path,))
    for before, settings in (
        (ct_bundle, added),
        (open_catalogue(InferenceSettings())["hemorrhage"], InferenceSettings()),
    ):
        after = open_catalogue(settings, (strict,))["hemorrhage"]
        assert after.suitability == replace(
            before.suitability, contrast="without", refused_kernels=("*70*",)
        )
        assert after.configuration_digest != before.configuration_digest
        assert after.labels == before.labels
        same = open_catalogue(settings, (ModelSettings(name="hemorrhage"),))["hemorrhage"]
        assert same.configuration_digest == before.configuration_digest


def test_every_criterion_can_be_set_and_an_unknown_one_is_named() -> None:
    assert list(SuitabilitySettings.model_fields) == [one.name for one in fields(Criteria)]
    assert SuitabilitySettings().changes == {}
    emptied = SuitabilitySettings.model_validate({"body_parts": []})
    assert emptied.changes == {"body_parts": ()}
    with pytest.raises(ValidationError, match="kernel_refused"):
        ModelSettings.model_validate({"name": "m", "suitability": {"kernel_refused": ["x"]}})


def test_an_impossible_criterion_is_an_error_that_names_the_model(ct_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="model hemorrhage: contrast 'maybe'"):
        ct_bundle.with_suitability({"contrast": "maybe"})


def test_a_model_that_is_not_there_or_named_twice_is_an_error(ct_bundle: Bundle) -> None:
    settings = InferenceSettings(shipped=False, bundles=(ct_bundle.path,))
    with pytest.raises(BundleError, match="no such model ships"):
        open_catalogue(settings, (ModelSettings(name="stroke"),))
    with pytest.raises(BundleError, match="is named hemorrhage"):
        open_catalogue(settings, (ModelSettings(name="stroke", path=ct_bundle.path),))
    with pytest.raises(BundleError, match="both named hemorrhage"):
        open_catalogue(InferenceSettings(shipped=False, bundles=(ct_bundle.path,) * 2))


@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.name)
def test_a_shipped_bundle_is_complete(path: Path) -> None:
    bundle = open_bundle(path)
    assert bundle.name == path.name
    assert bundle.weights_path.stat().st_size < 25_000_000
    assert "demonstration" in bundle.card
    load_network(bundle, CPU)


def _written_again(bundle: Bundle, path: Path, **changed: Any) -> None:
    preread = json.loads((bundle.path / "configs" / "preread.json").read_text())
    given = {
        "name": "again",
        "version": "2",
        "network_def": bundle.network_def,
        "state_dict": load_network(bundle, CPU).state_dict(),
        "preread": preread,
        "metadata": {},
        "card": "# Again\n",
    }
    write_bundle(path, **{**given, **changed})


def _content(folder: Path) -> dict[str, bytes]:
    files = (one for one in folder.rglob("*") if one.is_file())
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in files}


def test_what_cannot_be_written_leaves_the_bundle_of_before(
    ct_bundle: Bundle, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _content(copied.parent)

    def full(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("inference.bundle_writing.save_file", full)
        with pytest.raises(OSError, match="disk is full"):
            _written_again(ct_bundle, copied)
        with pytest.raises(OSError, match="disk is full"):
            _written_again(ct_bundle, copied.with_name("new"))
    with pytest.raises(
        BundleError, match=rf"{copied}/configs/preread.json: .*unknown keys: lables"
    ):
        preread = json.loads((copied / "configs" / "preread.json").read_text())
        _written_again(ct_bundle, copied, preread={**preread, "lables": []})
    assert _content(copied.parent) == before
    assert [one.name for one in copied.parent.iterdir()] == ["copied"]
    assert open_bundle(copied).identity == ct_bundle.identity


def test_killed_while_it_is_written_the_bundle_of_before_opens(
    ct_bundle: Bundle, copied: Path
) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; import inference.bundle_writing as b\n"
        "b.save_file = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "b.write_bundle(Path(sys.argv[1]), name='n', version='2', network_def={}, state_dict={},"
        " preread={}, metadata={}, card='')"
    )
    done = subprocess.run([sys.executable, "-c", script, str(copied)], check=False, timeout=240)
    assert done.returncode == -signal.SIGKILL
    opened = open_bundle(copied)
    assert opened.identity == ct_bundle.identity
    assert opened.configuration_digest == ct_bundle.configuration_digest


def test_written_again_it_keeps_what_else_is_in_the_folder_and_a_link_to_it(
    ct_bundle: Bundle, copied: Path
) -> None:
    (copied / "LICENSE").write_text("of the weights")
    (copied / "models" / "sequence.safetensors").write_bytes(b"of the bundle before")
    link = copied.with_name("link")
    link.symlink_to(copied, target_is_directory=True)
    _written_again(ct_bundle, link)
    assert link.is_symlink()
    opened = open_bundle(copied)
    assert (opened.name, opened.version, opened.card) == ("again", "2", "# Again\n")
    assert (copied / "LICENSE").read_text() == "of the weights"
    assert not (copied / "models" / "sequence.safetensors").exists()
    assert sorted(one.name for one in copied.parent.iterdir()) == ["copied", "link"]
