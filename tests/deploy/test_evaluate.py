"""``preread evaluate``: figures of files through the very way of the node, and one page of them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from tiny_layouts import (
    SUBTYPES,
    chest_reader,
    head_reader,
    rsna_layout,
    siim_layout,
    volume_reader,
)
from typer.testing import CliRunner, Result

from deploy.cli import app
from deploy.errors import DeployError
from inference.bundle import open_bundle
from inference.errors import InferenceError
from inference.evaluation.evaluate import Scored
from inference.evaluation.evaluate import evaluate as evaluate_scored
from inference.evaluation.images import ImageResult
from inference.evaluation.report import Circumstances, figures_path, write_report
from inference.reader import Reader

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def siim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siim")
    siim_layout(folder, 12)
    chest_reader(folder / "bundle")
    return folder


@pytest.fixture(scope="module")
def rsna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rsna")
    rsna_layout(folder, 4)
    head_reader(folder / "bundle")
    return folder


@pytest.fixture(scope="module")
def page(siim: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    evaluate(siim / "bundle", siim, siim / "labels.csv", "--out", out, "--top", 3)
    return out


def evaluate(
    bundle: Path | str, data: Path, labels: Path, *options: object, status: int = 0
) -> Result:
    arguments = [bundle, "--data", data, "--labels", labels, "--resamples", 50, *options]
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def figures_beside(page: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(page.with_suffix(".json").read_text())
    return loaded


def test_the_figures_are_those_of_what_predict_says(siim: Path, page: Path) -> None:
    reference = pytest.importorskip("sklearn.metrics")
    said = CliRunner().invoke(
        app, ["predict", str(siim / "bundle"), str(siim / "train"), "--format", "csv"]
    )
    rows = list(csv.DictReader(io.StringIO(said.stdout)))
    scores = np.array([float(row["pneumothorax"]) for row in rows])
    truth = np.array(["/Pneumothorax/" in row["file"] for row in rows])
    document = figures_beside(page)
    label = document["labels"]["pneumothorax"]
    assert (document["images"], label["positives"], label["patients"]) == (12, 6, 12)
    auc = label["figures"]["auc"]
    assert auc["value"] == pytest.approx(reference.roc_auc_score(truth, scores))
    assert auc["low"] <= auc["value"] <= auc["high"]
    tn, fp, fn, tp = reference.confusion_matrix(truth, scores >= 0.5, labels=[0, 1]).ravel()
    assert label["confusion"] == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    assert label["thresholds"] == {"low": 0.3, "high": 0.5}


def test_the_page_stands_alone_and_names_nobody(siim: Path, page: Path) -> None:
    text = page.read_text()
    shown = re.sub(r"data:[a-z/+]+;base64,[A-Za-z0-9+/=]+", "", text)
    for word in ("<script", "http", "@import", "url(", "<link"):
        assert word not in shown
    assert len(re.findall(r"data:image/jpeg", text)) == 3
    assert len(re.findall(r"data:image/svg", text)) == 4
    sources = [dcmread(path) for path in siim.rglob("*.dcm")]
    both = shown + page.with_suffix(".json").read_text()
    for dataset in sources:
        for keyword in ("PatientName", "PatientID", "SOPInstanceUID", "StudyInstanceUID"):
            assert str(dataset[keyword].value) not in both
    shortened = re.findall(r"<figcaption>\.\.\.(\d{8}):", shown)
    assert len(shortened) == 3
    ends = {str(dataset.SOPInstanceUID)[-8:] for dataset in sources}
    assert set(shortened) <= ends
    assert "Cohen&#x27;s kappa" in text
    assert "All images of the table were read" in text


def test_names_of_labels_are_words_on_the_page_and_nothing_else(siim: Path, tmp_path: Path) -> None:
    """A bundle is a file of others: no name in it may be a script."""
    bad = "<script>alert(1)</script>\"'"
    bundle = open_bundle(siim / "bundle")
    (output, *_) = bundle.outputs
    outputs = [replace(output, label=replace(output.label, name=name)) for name in (bad, "other")]
    bundle = replace(bundle, name=bad, outputs=tuple(outputs))
    results = [ImageResult(Path(f"{bad}{n}"), np.full(2, n / 4)) for n in range(4)]
    truth = np.array([[False, True], [False, False], [True, True], [True, False]])
    evaluation = evaluate_scored(Scored(bundle, results, truth, (0, 1), []), resamples=5)
    said = Circumstances(bad, bad, datetime(2026, 1, 1, tzinfo=UTC), True, 5, 1, 0)
    write_report(tmp_path / "report.html", evaluation, cast(Reader, None), said)
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text
    assert "alert(1)" in text
    assert f'<a href="#{escape(bad)}">' in text and f'id="{escape(bad)}"' in text


@pytest.mark.parametrize(
    ("page", "figures"),
    [
        ("report.html", "report.json"), ("r.2.html", "r.2.json"),
        ("report", "report.figures.json"), ("r.2.HTML", "r.2.HTML.figures.json"),
        ("v1.0", "v1.0.figures.json"), ("a.json", "a.json.figures.json"),
    ],
)  # fmt: skip
def test_every_page_has_figures_of_its_own_name(page: str, figures: str) -> None:
    assert figures_path(Path("x") / page) == Path("x") / figures


def test_no_two_pages_share_their_figures() -> None:
    ends = ["", ".html", ".HTML", ".json", ".figures", ".figures.json"]
    pages = {f"report{a}{b}{c}" for a, b, c in product(ends, repeat=3)}
    assert len({figures_path(Path(page)) for page in pages}) == len(pages)


def test_the_same_files_give_the_same_figures(siim: Path, page: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.html"
    evaluate(siim / "bundle", siim, siim / "labels.csv", "--out", out, "--top", 3, "--batch", 5)
    again, first = figures_beside(out), figures_beside(page)
    a, b = (doc["labels"]["pneumothorax"]["figures"] for doc in (again, first))
    for name in a:
        assert a[name]["value"] == pytest.approx(b[name]["value"], abs=1e-5)


def test_six_labels_have_six_sections_and_one_loss(rsna: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    table = rsna / "stage_1_train.csv"
    done = evaluate(rsna / "bundle", rsna / "dcm", table, "--out", out, "--top", 1)
    document = figures_beside(out)
    assert list(document["labels"]) == list(SUBTYPES)
    assert 0.2 < document["overall"]["weighted_log_loss"]["value"] < 2
    empty = document["labels"]["subdural"]["figures"]
    assert empty["auc"] == {
        "value": None, "low": None, "high": None, "reason": "no positive images",
    }  # fmt: skip
    assert "auc          - (no positive images)" in done.stdout
    text = out.read_text()
    assert [text.count(f'<h2 id="{name}">') for name in SUBTYPES] == [1] * 6
    # Two slices of each patient: fewer independent images, and patients are what is counted.
    assert document["labels"]["any"]["patients"] == 4


def test_series_are_measured_as_the_node_reads_them(tmp_path: Path) -> None:
    table = rsna_layout(tmp_path, 4, slices=5)
    head_reader(tmp_path / "bundle")
    (tmp_path / "dcm" / "ID_0005.dcm").unlink()
    (tmp_path / "dcm" / "ID_0004.dcm").unlink()  # three slices are too few
    out = tmp_path / "report.html"
    options = ("--by", "series", "--out", out, "--top", 1)
    evaluate(tmp_path / "bundle", tmp_path / "dcm", table, *options, status=1)
    document = figures_beside(out)
    assert (document["unit"], document["images"]) == ("series", 3)
    assert document["not_read"] == {"too_few_slices": 1}
    label = document["labels"]["any"]
    assert (label["positives"], label["patients"]) == (2, 3)
    arguments = ["--by", "series", "--format", "json"]
    said = CliRunner().invoke(
        app, ["predict", str(tmp_path / "bundle"), str(tmp_path / "dcm"), *arguments]
    )
    scores = [row["any"] for row in json.loads(said.stdout) if row["any"] is not None]
    found = sum(score >= 0.5 for score in scores)
    assert label["confusion"]["tp"] + label["confusion"]["fp"] == found
    text = out.read_text()
    assert "3 series of 3 patients" in text
    assert text.count("data:image/jpeg") == 6


def test_a_reader_of_volumes_is_measured_by_series(tmp_path: Path) -> None:
    table = rsna_layout(tmp_path, 2, slices=4)
    volume_reader(tmp_path / "bundle")
    out = tmp_path / "report.html"
    evaluate(tmp_path / "bundle", tmp_path / "dcm", table, "--by", "series", "--out", out)
    document = figures_beside(out)
    assert (document["unit"], document["images"]) == ("series", 2)
    assert document["labels"]["any"]["positives"] == 1
    assert "data:image/jpeg" not in out.read_text()
    with pytest.raises(InferenceError, match="use --by series"):
        evaluate(tmp_path / "bundle", tmp_path / "dcm", table, "--out", out)
    arguments = [str(tmp_path / "bundle"), str(tmp_path / "dcm"), "--by", "series"]
    with pytest.raises(DeployError, match="reads whole volumes"):
        CliRunner().invoke(app, ["predict", *arguments, "--tta", "mean"], catch_exceptions=False)


def test_one_label_can_be_chosen_by_another_word(siim: Path, rsna: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    table = rsna / "stage_1_train.csv"
    evaluate(
        rsna / "bundle", rsna / "dcm", table, "--label", "subdural=epidural", "--out", out,
        "--top", 0,
    )  # fmt: skip
    document = figures_beside(out)
    assert list(document["labels"]) == ["subdural"]
    assert document["labels"]["subdural"]["positives"] == 4
    assert document["overall"] == {}
    with pytest.raises(InferenceError, match="has no label tumour; its labels: any"):
        evaluate(rsna / "bundle", rsna / "dcm", table, "--label", "tumour")


def test_what_cannot_be_read_is_counted_and_said(siim: Path, tmp_path: Path) -> None:
    for path in siim.glob("train/*/*.dcm"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    broken, lateral, *rest = sorted(tmp_path.iterdir())
    broken.write_bytes(b"no image")
    dataset = dcmread(lateral)
    dataset.ViewPosition = "LL"
    dataset.save_as(lateral)
    dataset = dcmread(rest[0])
    Image.fromarray((dataset.pixel_array >> 4).astype(np.uint8)).save(tmp_path / "film.png")
    names = [*(path.name for path in (broken, lateral, *rest[1:])), "film.png"]
    rows = [f"{name},{'Pneumothorax' if n % 2 else 'No'}" for n, name in enumerate(names)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["file,label", *rows]) + "\n")
    out = tmp_path / "report.html"
    done = evaluate(siim / "bundle", tmp_path, table, "--out", out, status=1)
    assert f"{broken.name}: undecodable" in done.stderr
    document = figures_beside(out)
    assert document["images"] == len(names) - 2
    assert document["not_read"] == {"undecodable": 1, "wrong_view": 1}
    assert document["pixel_notes"]["picture_greys"] == 1
    assert "2 images were not read" in out.read_text()
    open_gate = evaluate(
        siim / "bundle", tmp_path, table, "--out", out, "--no-gate", "--top", 0, status=1
    )
    assert "1 not read" in open_gate.stdout
    table.write_text(f"file,label\n{broken.name},No\n")
    with pytest.raises(InferenceError, match=r"none of 1 could be read; .*undecodable"):
        evaluate(siim / "bundle", tmp_path, table, "--out", out)


def test_the_split_of_the_training_is_kept(siim: Path, tmp_path: Path) -> None:
    files = sorted(path.relative_to(siim).as_posix() for path in siim.glob("train/*/*.dcm"))
    run = tmp_path / "run"
    run.mkdir()
    parts = ["test", "validation", "training"]
    lines = [f"{file},{parts[n % 3]}" for n, file in enumerate(files)]
    (run / "split.csv").write_text("\n".join(["file,part", *lines]) + "\n")
    out = tmp_path / "report.html"

    def measured(*options: object) -> dict[str, Any]:
        evaluate(siim / "bundle", siim, siim / "labels.csv", "--out", out, "--top", 0, *options)
        return figures_beside(out)

    of_test = measured("--run", run)
    assert (of_test["split"], of_test["images"]) == ("test", 4)
    assert "too good" not in out.read_text()
    of_validation = measured("--run", run, "--split", "validation")
    assert (of_validation["split"], of_validation["images"]) == ("validation", 4)
    assert "thresholds were chosen" in out.read_text()
    assert measured("--run", run, "--split", "all")["images"] == 12
    with pytest.raises(InferenceError, match="name the run folder of the training with --run"):
        measured("--split", "test")
    (run / "split.csv").write_text("file,part\nelsewhere.dcm,test\n")
    with pytest.raises(InferenceError, match="names none of the files"):
        measured("--run", run)


def test_a_model_is_taken_by_its_name(siim: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "preread.toml", tmp_path / "report.html"
    config.write_text(f'[[model]]\nname = "bundle"\npath = "{siim / "bundle"}"\n')
    options = ["--config", config, "--out", out, "--top", 0, "--resamples", 50]
    evaluate("bundle", siim, siim / "labels.csv", *options)
    by_name = figures_beside(out)
    evaluate(siim / "bundle", siim, siim / "labels.csv", *options)
    assert figures_beside(out)["labels"] == by_name["labels"]
    with pytest.raises(DeployError, match="neither a folder with a bundle nor a model"):
        evaluate("else", siim, siim / "labels.csv", *options)


@pytest.mark.peer
def test_the_page_is_whole_in_a_browser_on_a_phone(page: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing, and CI must have it")
        pytest.skip("chromium is missing")
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--user-data-dir={tmp_path / 'b'}", "--window-size=500,2400",
         f"--screenshot={shot}", f"file://{page}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("L"))
    # Nothing runs over the right edge, and the curves are there.
    assert (pixels[:, -4:] > 250).all()
    assert (pixels < 100).any(axis=1).mean() > 0.2
