"""Phantoms in the layouts of the public data sets, and the table of four million rows."""

from __future__ import annotations

import csv
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from inference.image_file import open_image
from inference.pixels import hounsfield_values
from inference.training.layouts import count_labels, read_labels
from inference.training.phantoms.layouts import SUBTYPES, write_rsna, write_siim


@pytest.fixture(scope="module")
def rsna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rsna")
    write_rsna(folder, count=10, seed=1, size=64, slices=6, test=1)
    return folder


def test_the_siim_layout(tmp_path: Path) -> None:
    table = write_siim(tmp_path / "a", 4, seed=1, size=64)
    lines = table.read_text().splitlines()
    assert lines[0] == "file,label"
    assert lines[2] == "train/Pneumothorax/000001.dcm,Pneumothorax"
    images = read_labels(table, tmp_path / "a", ["Pneumothorax"])
    assert images.labels.ravel().tolist() == [0, 1, 0, 1]
    assert len({dcmread(one.path).PatientID for one in images}) == 4
    write_siim(tmp_path / "same", 4, seed=1, size=64)
    write_siim(tmp_path / "other", 4, seed=2, size=64)
    first, same, other = (
        (tmp_path / name / "train/Pneumothorax/000001.dcm").read_bytes()
        for name in ("a", "same", "other")
    )
    assert first == same != other


def test_the_rsna_layout(rsna: Path) -> None:
    with (rsna / "stage_1_train.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["ID", "Label"]
    assert len(rows) == 10 * 6 * 6
    assert [row["ID"].rpartition("_")[2] for row in rows[:6]] == list(SUBTYPES)
    images = read_labels(rsna / "stage_1_train.csv", rsna, SUBTYPES)
    assert len(images) == 60
    counts = count_labels(images.labels, SUBTYPES)
    assert all(positive for positive, _ in counts.values()), counts
    assert (images.labels[:, -1] == images.labels[:, :-1].max(axis=1)).all()
    with (rsna / "stage_1_sample_submission.csv").open(newline="") as lines:
        asked = {row["ID"].rpartition("_")[0] for row in csv.DictReader(lines)}
    assert asked == {path.stem for path in (rsna / "stage_1_test_images").iterdir()}


def test_some_series_are_stored_wrapped_and_are_repaired(rsna: Path) -> None:
    images = read_labels(rsna / "stage_1_train.csv", rsna, SUBTYPES)
    repaired = {}
    for one in images:
        dataset = open_image(one.path)
        value = hounsfield_values(dataset)
        assert -1024 <= value.values.min() < -900 < 0 < value.values.max() < 3072
        found = "unsigned_12_bit_repaired" in value.notes
        repaired.setdefault(str(dataset.SeriesInstanceUID), set()).add(found)
    assert sorted(map(sorted, repaired.values())) == [[False]] * 8 + [[True]] * 2


def table_of(path: Path, images: int) -> None:
    labels = np.random.default_rng(1).integers(0, 2, (images, 6))
    with path.open("w") as file:
        file.write("ID,Label\n")
        for number, row in enumerate(labels):
            file.writelines(
                f"ID_{number:09x}_{name},{value}\n"
                for name, value in zip(SUBTYPES, row, strict=True)
            )


def test_the_pivot_keeps_a_name_and_six_bytes_of_each_image(tmp_path: Path) -> None:
    table_of(tmp_path / "labels.csv", 5000)
    (tmp_path / "ID_000000007.dcm").touch()
    tracemalloc.start()
    images = read_labels(tmp_path / "labels.csv", tmp_path, SUBTYPES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(images), images.missing) == (1, 4999)
    assert images.path(0).name == "ID_000000007.dcm"
    assert peak < 5000 * 500


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_million_rows_take_seconds_and_little_memory(tmp_path: Path) -> None:
    table_of(tmp_path / "labels.csv", 674_258)
    (tmp_path / "ID_000000007.dcm").touch()
    program = (
        "import resource, sys, time\n"
        "from pathlib import Path\n"
        "from inference.training.layouts import read_labels\n"
        "from inference.training.phantoms.layouts import SUBTYPES\n"
        "folder, began = Path(sys.argv[1]), time.process_time()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "images = read_labels(folder / 'labels.csv', folder, SUBTYPES)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(images.missing, (after - before) / 1024, time.process_time() - began)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2],
    ).stdout.split()  # fmt: skip
    missing, mebibytes, seconds = int(told[0]), float(told[1]), float(told[2])
    assert missing == 674_257
    assert mebibytes < 400
    assert seconds < 60
