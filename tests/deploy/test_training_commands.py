"""``preread phantoms`` and ``preread train``: the tutorials as commands."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest
from pydicom import dcmread
from rich.console import Console
from rich.progress import Progress
from typer.main import get_command
from typer.testing import CliRunner

from deploy.cli import app
from deploy.cli.serving import require_own_images, sections
from deploy.cli.training_report import TrainingReport
from deploy.errors import DeployError
from deploy.receiving import usable_rules
from deploy.settings import load
from inference.bundle import open_bundle
from inference.catalogue import open_catalogue
from inference.errors import InferenceError
from inference.model import load_reader
from inference.reading import Scope, SourceImage
from inference.training.recipes import RECIPES, TrainSettings
from scp.rules import decide

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> str:
    """Run a command here; its errors are raised as they are."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def siim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siim")
    said = run("phantoms", "siim", folder, "--count", 16, "--size", 64)
    assert "16 radiographs" in said
    return folder


def training(folder: Path, out: Path, *more: object) -> Sequence[object]:
    small = ["--start", "random", "--network", "densenet", "--size", 32, "--batch", 8]
    files = ["--data", folder, "--labels", folder / "labels.csv", "--out", out]
    return ["train", "pneumothorax", *files, *small, "--workers", 1, "--device", "cpu", *more]


def test_a_training_tells_and_keeps_how_it_goes(siim: Path, tmp_path: Path) -> None:
    said = run(*training(siim, tmp_path / "b", "--epochs", 2, "--learning-rate", "auto"))
    lines = said.splitlines()
    assert any("Pneumothorax" in line and "50.0%" in line for line in lines)
    assert any(line.startswith("learning rate: steepest") for line in lines)
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 2
    assert all(word in epochs[0] for word in ("loss", "validation", "accuracy", "AUC"))
    assert "\x1b" not in said
    run_folder = tmp_path / "b.run"
    for name in ("labels.png", "learning_rate.png", "losses.png", "split.csv", "metrics.jsonl"):
        assert (run_folder / name).stat().st_size
    assert "under each label the number of patients with it, not of images" in lines
    assert not any("groups" in line for line in lines)
    (ended,) = [line for line in lines if line.startswith("all 2 epochs were trained; the weights")]
    assert f": {ended}." in open_bundle(tmp_path / "b").card
    with (run_folder / "metrics.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(row["validation_loss"] and row["accuracy_pneumothorax"] for row in rows)
    assert open_bundle(tmp_path / "b").spec.size == 32
    with pytest.raises(InferenceError, match="epochs 2, now 3"):
        run(*training(siim, tmp_path / "b", "--epochs", 3, "--learning-rate", "auto"))


def test_the_help_states_what_holds_if_an_option_is_left_out() -> None:
    options = {one.name: one for one in get_command(app).commands["train"].params}
    stated = set()
    first, second = RECIPES["pneumothorax"], RECIPES["hemorrhage"]
    for field in fields(TrainSettings):
        help_text = getattr(options.get(field.name), "help", None)
        if help_text is None or field.name in ("network", "sequence", "balanced", "amp", "device"):
            continue
        of_files = field.name != "phantoms"
        one, two = (getattr(r.files if of_files else r.settings, field.name)
                    for r in (first, second))  # fmt: skip
        told = [f"{value:g}" if isinstance(value, float | int) else value for value in (one, two)]
        assert f"({'; '.join(dict.fromkeys(told))})" in help_text, field.name
        stated.add(field.name)
    assert len(stated) == 17


def test_on_a_terminal_a_bar_moves() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    with Progress("{task.description} {task.completed}/{task.total}", console=console) as bar:
        report = TrainingReport(console, bar)
        report.reading_headers(64, 128)
        for step in (1, 2, 3):
            report.step(1, step, 10)
        bar.refresh()
    assert "epoch 1 3/10" in shown.getvalue()


def test_the_finder_suggests_twice_and_trains_nothing(siim: Path, tmp_path: Path) -> None:
    said = run(*training(siim, tmp_path / "b", "--find-lr", "--run", tmp_path / "r"))
    assert "steepest" in said and "minimum/10" in said
    assert (tmp_path / "r" / "learning_rate.png").is_file()
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "r" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        (["--learning-rate", "quick"], DeployError, "neither a number above 0 nor auto"),
        (["--epoch-share", "2"], InferenceError, "epoch_share must be above 0"),
        (["--network", "vgg"], InferenceError, "no network 'vgg' for pneumothorax"),
        (["--sequence"], InferenceError, "reads single images: there is no --sequence"),
        (["--resume"], InferenceError, "no checkpoint to go on from"),
        (["--start", "nowhere"], InferenceError, "no weights to start from at nowhere"),
        (["--name", "my model"], InferenceError, "--name 'my model' cannot name a model"),
        (["--version", "new"], InferenceError, "--version 'new' is no version such as"),
        (["--manufacturer", "a\\b"], InferenceError, "--manufacturer .* no backslash"),
    ],
)
def test_what_cannot_be_done_is_said(
    siim: Path, tmp_path: Path, more: list[str], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        run(*training(siim, tmp_path / "b", *more))
    assert not list(tmp_path.iterdir())


def test_a_table_that_is_not_there_leaves_nothing_behind(siim: Path, tmp_path: Path) -> None:
    for more in ([], ["--find-lr"]):
        files = ["--data", siim, "--labels", tmp_path / "no.csv", "--out", tmp_path / "b"]
        with pytest.raises(InferenceError, match=r"no\.csv"):
            run("train", "pneumothorax", *files, "--start", "random", "--workers", 1, *more)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("reader", "name", "rule"),
    [
        ("pneumothorax", "hemorrhage", "head-ct"),
        ("pneumothorax", "hemorrhage-own", "head-ct-own"),
        ("hemorrhage", "pneumothorax", "chest-frontal"),
        ("hemorrhage", "pneumothorax-own", "chest-frontal-own"),
        ("hemorrhage", "chest-findings", "chest-findings"),
    ],
)
def test_no_model_takes_a_name_that_gets_other_images(
    tmp_path: Path, reader: str, name: str, rule: str
) -> None:
    with pytest.raises(DeployError, match=f"--name {name} is taken: the built-in rule {rule} "):
        run("train", reader, "--out", tmp_path / "b", "--name", name)
    assert not list(tmp_path.iterdir())


def test_names_that_get_the_readers_own_images_are_free() -> None:
    for reader in RECIPES:
        for name in (reader, f"{reader}-own", "ward-7"):
            require_own_images(name, reader)


@pytest.mark.parametrize("odd", ["\x7f", '"', "\\", "\n", "ä", "\U0001f9e0"])
def test_any_path_is_the_same_in_the_settings(odd: str) -> None:
    path = Path(f"/a/b{odd}c")
    (model, demonstration) = tomllib.loads("\n".join(sections(odd, path, "pneumothorax")))["model"]
    assert model == {"name": odd, "path": str(path)}
    assert demonstration == {"name": "pneumothorax", "enabled": False}


def test_what_it_prints_serves_the_model_beside_nothing_else(siim: Path, tmp_path: Path) -> None:
    """The sections are the whole settings: the model is offered, routed to, and told apart."""
    said = run(*training(siim, tmp_path / "own", "--epochs", 1))
    assert "warning: 16 of 16 images of the data will be refused by the node" in said
    assert "fewer than 256 pixels" in said and "set min_rows under [model.suitability]" in said
    config = tmp_path / "preread.toml"
    config.write_text(said[said.index("[[model]]") :])
    found = load(config)
    bundles = open_catalogue(found.inference, found.model)
    assert list(bundles) == ["hemorrhage", "pneumothorax-own"]
    identity = bundles["pneumothorax-own"].identity
    assert (identity.version, identity.manufacturer) == ("1.0.0", "not stated")
    facts = {"Modality": ["DX"], "BodyPartExamined": ["CHEST"], "ViewPosition": ["PA"]}
    routes = decide(facts, usable_rules(found, bundles)).routes
    assert [route.model for route in routes] == ["pneumothorax-own"]


def test_a_model_gets_the_name_that_it_is_given(siim: Path, tmp_path: Path) -> None:
    named = ["--name", "ward-7", "--version", "2.0.0", "--authors", "A", "--authors", "B"]
    named += ["--manufacturer", "St. Elsewhere"]
    said = run(*training(siim, tmp_path / "own", "--epochs", 1, *named))
    assert "No built-in rule gives images to ward-7: add a [[rule]] for it." in said
    bundle = open_bundle(tmp_path / "own")
    told = bundle.identity
    assert (told.name, told.version, told.manufacturer) == ("ward-7", "2.0.0", "St. Elsewhere")
    assert "Authors: A, B." in bundle.card
    # Under the name of the one that ships it takes its place: there is nothing to switch off.
    named[1] = "pneumothorax"
    said = run(*training(siim, tmp_path / "own", "--epochs", 1, *named))
    assert said.count("[[model]]") == 1 and "No built-in rule" not in said


def test_labels_that_nobody_could_learn_are_told(tmp_path: Path) -> None:
    run("phantoms", "siim", tmp_path, "--count", 8, "--size", 64)
    table = tmp_path / "labels.csv"
    table.write_text(table.read_text().replace(",Pneumothorax\n", ",No Pneumothorax\n"))
    with pytest.raises(InferenceError, match=r"pneumothorax: no positive image"):
        run(*training(tmp_path, tmp_path / "b"))
    shown = io.StringIO()
    console = Console(file=shown, width=60)
    with Progress(console=console, disable=True) as bar:
        TrainingReport(console, bar).unlearnt({"epidural": "no positive image"})
    assert "warning: epidural is neither learnt nor served: the training part has" in (
        shown.getvalue()
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_hemorrhage_tutorial_from_files_to_a_reader(tmp_path: Path) -> None:
    """In processes of its own, as a person runs it: decoding by two, the result in a pipe."""
    data, out = tmp_path / "data", tmp_path / "bundle"
    run("phantoms", "rsna", data, "--count", 14, "--size", 128, "--slices", 8, "--test", 1)
    arguments = ["--data", data, "--labels", data / "stage_1_train.csv", "--out", out, "--sequence"]
    arguments += ["--size", 32, "--epochs", 2, "--head-epochs", 1, "--batch", 16]
    arguments += ["--start", "random", "--epoch-share", 1, "--workers", 2]
    told = subprocess.run(
        [sys.executable, "-m", "deploy", "train", "hemorrhage", *map(str, arguments)],
        check=True, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).stdout  # fmt: skip
    assert told.count("\nepoch ") == 2
    bundle = open_bundle(out)
    assert "warning: no head over the slices was trained: it takes at least 5 patients" in told
    assert bundle.sequence is None
    assert "- No head over the slices was trained" in bundle.card
    headers = [(path, dcmread(path, stop_before_pixels=True))
               for path in (data / "stage_1_test_images").iterdir()]  # fmt: skip
    images = [
        SourceImage(n, h.SOPInstanceUID, h.SOPClassUID, h.file_meta.TransferSyntaxUID, path)
        for n, (path, h) in enumerate(headers)
    ]
    reading = load_reader(bundle, "cpu").read(images)
    told = [one.label.name for one in reading.findings if one.scope is Scope.SERIES]
    assert told == [label.name for label in bundle.labels] and "any" in told
