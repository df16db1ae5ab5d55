"""The two public layouts of labelled files, made here from phantoms."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.errors import InferenceError
from inference.training.layouts import file_samples, read_labels
from inference.training.phantoms.files import write_chest, write_head_series
from inference.training.recipes import HEMORRHAGE, PNEUMOTHORAX
from inference.training.samples import Samples
from inference.training.train import TrainSettings, train

TINY = TrainSettings(epochs=1, batch=4, workers=1)
SUBTYPES = [label.source for label in HEMORRHAGE.labels]


@pytest.fixture(scope="module")
def siim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siim")
    rows = ["file,label"]
    for number in range(8):
        label = "Pneumothorax" if number % 2 else "No Pneumothorax"
        path = write_chest(folder / "train" / label, number, number % 2 == 1, size=256)
        path.rename(path.with_name(f"{number:06d}.dcm"))
        rows.append(f"train/{label}/{number:06d}.dcm,{label}")
    (folder / "labels.csv").write_text("\n".join([*rows, "train/No Pneumothorax/x.dcm,y"]) + "\n")
    return folder


@pytest.fixture(scope="module")
def rsna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rsna")
    rows = ["ID,Label"]
    for number in range(4):
        bleed = "epidural" if number % 2 else None
        for path in write_head_series(folder, number, bleed, slices=2, size=128):
            image = f"ID_{number}{path.stem}"
            path.rename(folder / f"{image}.dcm")
            found = {"any", bleed}
            rows += [f"{image}_{name},{int(bool(bleed) and name in found)}" for name in SUBTYPES]
    (folder / "stage_1_train.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_siim_rows_become_files_with_one_label(siim: Path) -> None:
    files = read_labels(siim / "labels.csv", siim, ["Pneumothorax"])
    assert [entry.labels for entry in files] == [(0.0,), (1.0,)] * 4
    assert files[1].path == siim / "train/Pneumothorax/000001.dcm"


def test_rsna_rows_become_files_with_six_labels(rsna: Path) -> None:
    files = read_labels(rsna / "stage_1_train.csv", rsna, SUBTYPES)
    assert len(files) == 8
    assert [entry.labels for entry in files[2:4]] == [(1.0, 1.0, 0.0, 0.0, 0.0, 0.0)] * 2
    assert files[0].labels == (0.0,) * 6


def test_a_split_keeps_patients_apart(rsna: Path) -> None:
    files = read_labels(rsna / "stage_1_train.csv", rsna, SUBTYPES)
    samples = Samples.of(file_samples(files, HEMORRHAGE.spec))
    training, validation = samples.split(0.3, seed=3)
    assert len(training) + len(validation) == 8
    assert not set(training.groups) & set(validation.groups)
    again = samples.split(0.3, seed=3)[1]
    assert list(again.groups) == list(validation.groups)


def test_training_takes_the_siim_layout(siim: Path, tmp_path: Path) -> None:
    trained = train("pneumothorax", tmp_path, data=siim, labels=siim / "labels.csv", settings=TINY)
    assert trained.origin == "files"
    card = (tmp_path / "docs" / "README.md").read_text()
    assert "phantom" not in card
    assert "--data DIR --labels CSV" in card


def test_training_takes_the_rsna_layout(rsna: Path, tmp_path: Path) -> None:
    labels = rsna / "stage_1_train.csv"
    trained = train("hemorrhage", tmp_path, data=rsna, labels=labels, settings=TINY)
    assert sum(trained.counts[:2]) == 8
    assert list(trained.figures) == SUBTYPES


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("a,b\n1,2\n", "known are file,label"),
        ("ID,Label\nID_1_any,1\n", "ID_1 has no row for epidural"),
        ("ID,Label\nID_1_any,maybe\n", "has no label 0 or 1"),
        ("file,label\nnot/there.dcm,Pneumothorax\n", "names no file that is in"),
    ],
)
def test_a_wrong_table_is_named_on_one_line(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(table)
    with pytest.raises(InferenceError, match=said) as caught:
        read_labels(path, tmp_path, SUBTYPES)
    assert "\n" not in str(caught.value)


def test_files_without_labels_and_unreadable_files_are_refused(siim: Path, tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="needs their labels"):
        train("pneumothorax", tmp_path, data=siim, settings=TINY)
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    table = tmp_path / "labels.csv"
    table.write_text("file,label\nbroken.dcm,Pneumothorax\n")
    files = read_labels(table, tmp_path, ["Pneumothorax"])
    with pytest.raises(InferenceError, match=r"broken\.dcm"):
        list(file_samples(files, PNEUMOTHORAX.spec))
