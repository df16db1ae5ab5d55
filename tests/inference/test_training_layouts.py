"""The two public layouts of labelled files, made here from phantoms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from inference.errors import InferenceError
from inference.evaluation.labelled import labelled_files
from inference.training.headers import read_headers
from inference.training.layouts import LabelledImages, read_labels
from inference.training.phantoms.files import write_chest, write_head_series
from inference.training.prepared import prepare_file
from inference.training.processes import Pool
from inference.training.recipes import HEMORRHAGE, PNEUMOTHORAX
from inference.training.split import split
from inference.training.train import TrainSettings, train

TINY = TrainSettings(epochs=1, batch=4, workers=1, size=32)
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
    assert files.path(1) == siim / "train/Pneumothorax/000001.dcm"
    assert files.missing == 1


def test_rsna_rows_become_files_with_six_labels(rsna: Path) -> None:
    files = read_labels(rsna / "stage_1_train.csv", rsna, SUBTYPES)
    assert len(files) == 8
    assert files.labels[2:4].tolist() == [[1, 1, 0, 0, 0, 0]] * 2
    assert files.labels[0].tolist() == [0] * 6


def test_images_may_lie_one_folder_deeper(rsna: Path, tmp_path: Path) -> None:
    deeper = tmp_path / "stage_1_train_images"
    deeper.mkdir()
    for path in rsna.glob("ID_*.dcm"):
        (deeper / path.name).symlink_to(path)
    files = read_labels(rsna / "stage_1_train.csv", tmp_path, SUBTYPES)
    assert len(files) == 8
    assert files.path(0).parent == deeper


def test_rows_that_stand_twice_must_agree(tmp_path: Path) -> None:
    rows = [f"ID_1_{name},0" for name in SUBTYPES]
    (tmp_path / "ID_1.dcm").touch()
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["ID,Label", *rows, *rows]))
    assert len(read_labels(table, tmp_path, SUBTYPES)) == 1
    table.write_text("\n".join(["ID,Label", *rows, "ID_1_any,1"]))
    with pytest.raises(InferenceError, match="ID_1_any stands there twice"):
        read_labels(table, tmp_path, SUBTYPES)


def test_a_folder_that_is_not_there_is_told_and_a_path_that_was_looked_for(
    siim: Path, rsna: Path, tmp_path: Path
) -> None:
    with pytest.raises(InferenceError, match="nope does not exist"):
        read_labels(siim / "labels.csv", tmp_path / "nope", ["Pneumothorax"])
    with pytest.raises(InferenceError, match=r"labels\.csv is no folder"):
        read_labels(siim / "labels.csv", siim / "labels.csv", ["Pneumothorax"])
    looked_for = siim / "train" / "train/No Pneumothorax/000000.dcm"
    with pytest.raises(InferenceError, match=f"{looked_for}, for example, is not there$"):
        read_labels(siim / "labels.csv", siim / "train", ["Pneumothorax"])
    with pytest.raises(InferenceError, match=r"ID_0.*\.dcm, for example, is .* directly below$"):
        read_labels(rsna / "stage_1_train.csv", tmp_path, SUBTYPES)


def test_a_table_of_the_other_layout_is_told(siim: Path, rsna: Path) -> None:
    with pytest.raises(InferenceError, match=r"ID,Label of the RSNA 2019.*expected.*file,label"):
        read_labels(rsna / "stage_1_train.csv", rsna, ["Pneumothorax"])
    with pytest.raises(InferenceError, match=r"ID,Label of the RSNA 2019.*expected.*file,label"):
        labelled_files(rsna / "stage_1_train.csv", rsna, ["pneumothorax"])
    with pytest.raises(InferenceError, match=r"file,label of the SIIM.*expected.*ID,Label"):
        read_labels(siim / "labels.csv", siim, SUBTYPES)


def test_headers_are_read_once_and_again_when_a_file_changes(rsna: Path, tmp_path: Path) -> None:
    for path in rsna.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    files, cache = (
        read_labels(tmp_path / "stage_1_train.csv", tmp_path, SUBTYPES),
        tmp_path / "h.npz",
    )
    read: list[int] = []
    with Pool(1) as pool:
        first = read_headers(files, cache, pool, lambda done, total: read.append(done))
        again = read_headers(files, cache, pool, lambda done, total: read.append(done))
        assert read == [8]
        assert again.digest == first.digest
        files.path(0).write_bytes(files.path(2).read_bytes())
        changed = read_headers(files, cache, pool)
    assert first.patients.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert first.positions[1] - first.positions[0] == pytest.approx(5.0)
    assert changed.patients[0] == changed.patients[2]


def test_a_file_without_a_patient_is_of_the_patient_of_its_study(tmp_path: Path) -> None:
    told = [
        ("A", "1"),
        ("", "1"),
        ("", "2"),
        ("B", "3"),
        ("", "2"),
        ("A", "4"),
        ("", "4"),
        ("", ""),
    ]
    for number, (patient, study) in enumerate(reversed(told)):
        header = Dataset()
        header.PatientID, header.StudyInstanceUID = patient, study
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, f"1.2.{number}"
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.save_as(tmp_path / f"{len(told) - 1 - number}.dcm", enforce_file_format=True)
    table = tmp_path / "labels.csv"
    for order in (range(8), (1, 0, *range(2, 8))):
        table.write_text("\n".join(["file,label", *(f"{n}.dcm,No" for n in order)]))
        files = read_labels(table, tmp_path, ["Pneumothorax"])
        with Pool(1) as pool:
            patients = read_headers(files, tmp_path / "h.npz", pool).patients
        assert patients.tolist() == [0, 0, 1, 2, 1, 0, 0, 3]


def test_no_patient_is_named_in_the_run_folder(rsna: Path, tmp_path: Path) -> None:
    labels = rsna / "stage_1_train.csv"
    train("hemorrhage", tmp_path / "b", data=rsna, labels=labels, run=tmp_path, settings=TINY)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"PHANTOM-HEAD" not in kept


def test_a_split_keeps_patients_apart(rsna: Path, tmp_path: Path) -> None:
    files = read_labels(rsna / "stage_1_train.csv", rsna, SUBTYPES)
    with Pool(1) as pool:
        patients = read_headers(files, tmp_path / "headers.npz", pool).patients
    parts = split(patients, files.labels, {"test": 0.25, "validation": 0.25}, 3, stratified=True)
    assert sorted(len(rows) for rows in parts.values()) == [2, 2, 4]
    assert len(np.unique(np.concatenate([np.unique(patients[r]) for r in parts.values()]))) == 4


def test_training_takes_the_siim_layout(siim: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    trained = train("pneumothorax", out, data=siim, labels=siim / "labels.csv", settings=TINY)
    assert trained.origin == "files"
    card = (out / "docs" / "README.md").read_text()
    assert "phantom" not in card
    assert "--data DIR --labels CSV" in card


def test_training_takes_the_rsna_layout(rsna: Path, tmp_path: Path) -> None:
    labels = rsna / "stage_1_train.csv"
    trained = train("hemorrhage", tmp_path / "b", data=rsna, labels=labels, settings=TINY)
    assert sum(trained.counts) == 8
    assert list(trained.figures) == ["any", "epidural"]  # no other bleed is in the data
    assert trained.by_series
    card = (tmp_path / "b" / "docs" / "README.md").read_text()
    assert "Whole series of the test part" in card
    assert "| training | 2 | 4 |" in card


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("a,b\n1,2\n", "known are file,label"),
        ("ID,Label\nID_1_any,1\n", "ID_1 has no row for epidural"),
        ("ID,Label\nID_1_any,maybe\n", "has no label 0 or 1"),
        ("file,label\nnot/there.dcm,any\n", "names no file that is in"),
    ],
)
def test_a_wrong_table_is_named_on_one_line(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(table)
    with pytest.raises(InferenceError, match=said) as caught:
        read_labels(path, tmp_path, SUBTYPES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x.dcm", "a/../../x.dcm", "{folder}/a.dcm", "a\0.dcm", ".."])
@pytest.mark.parametrize("read", [read_labels, labelled_files])
def test_a_name_that_leaves_the_folder_is_refused(
    tmp_path: Path, name: str, read: Callable[[Path, Path, list[str]], object]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for file in (folder / "a.dcm", tmp_path / "x.dcm"):
        file.touch()
    wanted, table = name.format(folder=folder), tmp_path / "labels.csv"
    table.write_text(f"file,label\na.dcm,No\n{wanted},Pneumothorax\n")
    with pytest.raises(InferenceError) as caught:
        read(table, folder, ["Pneumothorax"])
    assert str(table) in str(caught.value)
    assert repr(wanted) in str(caught.value)
    table.write_text("\n".join(["ID,Label", *(f"{wanted}/ID_1_{name},0" for name in SUBTYPES)]))
    with pytest.raises(InferenceError, match="is no file below the folder of the data"):
        read(table, folder, SUBTYPES)


def test_one_file_is_one_image_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "sub" / "folder.dcm").mkdir(parents=True)
    for file in ("a.dcm", "sub/ID_1.dcm"):
        (tmp_path / file).touch()
    table = tmp_path / "labels.csv"
    rows = ["file,label", "a.dcm,No", "./a.dcm,No", "sub/folder.dcm,No", "sub/./ID_1.dcm,No"]
    table.write_text("\n".join(rows))
    files = read_labels(table, tmp_path, ["Pneumothorax"])
    assert [files.path(n) for n in range(2)] == [tmp_path / "a.dcm", tmp_path / "sub" / "ID_1.dcm"]
    assert (len(files), files.missing) == (2, 1)
    table.write_text("\n".join([*rows, ".//a.dcm,Pneumothorax"]))
    with pytest.raises(InferenceError, match=r"a\.dcm stands there twice, with different labels"):
        read_labels(table, tmp_path, ["Pneumothorax"])
    twice = [f"{one}_{name},0" for one in ("ID_1", "sub/ID_1") for name in SUBTYPES]
    table.write_text("\n".join(["ID,Label", *twice]))
    with pytest.raises(InferenceError, match=r"sub/ID_1\.dcm stands there by two names"):
        read_labels(table, tmp_path, SUBTYPES)


def test_files_without_labels_and_unreadable_files_are_refused(siim: Path, tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="needs their labels"):
        train("pneumothorax", tmp_path, data=siim, settings=TINY)
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    table = tmp_path / "labels.csv"
    table.write_text("file,label\nbroken.dcm,Pneumothorax\n")
    files: LabelledImages = read_labels(table, tmp_path, ["Pneumothorax"])
    with pytest.raises(InferenceError, match="no DICOM file"):
        prepare_file(files.path(0), PNEUMOTHORAX.spec)
