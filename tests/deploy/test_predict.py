"""``preread predict``: probabilities of files, by image and by series, and the submission."""

from __future__ import annotations

import csv
import io
import json
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from tiny_layouts import SUBTYPES, chest_reader, head_reader, rsna_layout, siim_layout
from typer.testing import CliRunner, Result

from deploy.cli import app
from deploy.cli.predict import _image_row
from deploy.errors import DeployError
from inference.bundle import open_bundle
from inference.errors import InferenceError
from inference.evaluation.images import ImageResult
from inference.evaluation.submission import ORDER, write_submission
from inference.model import load_reader
from inference.reading import Scope, SourceImage
from inference.training.phantoms.files import write_head_series


@pytest.fixture(scope="module")
def siim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siim")
    siim_layout(folder, 4)
    chest_reader(folder / "bundle")
    return folder


@pytest.fixture(scope="module")
def rsna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rsna")
    rsna_layout(folder, 2)
    head_reader(folder / "bundle")
    return folder


def predict(*arguments: object, status: int = 0) -> Result:
    done = CliRunner().invoke(app, ["predict", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def node_says(bundle: Path, path: Path) -> float:
    header = dcmread(path)
    image = SourceImage(0, header.SOPInstanceUID, header.SOPClassUID, "", path)
    (finding,) = load_reader(open_bundle(bundle), "cpu").read([image]).findings
    return finding.probability


def test_an_image_has_the_probability_that_the_node_gives_it(siim: Path) -> None:
    rows = json.loads(predict(siim / "bundle", siim / "train", "--format", "json").stdout)
    assert [Path(row["file"]).name for row in rows] == [f"{n:06d}.dcm" for n in (0, 2, 1, 3)]
    for row in rows:
        expected = node_says(siim / "bundle", Path(row["file"]))
        assert row["pneumothorax"] == pytest.approx(expected, abs=1e-6)
        assert row["sop_instance_uid"] == dcmread(row["file"]).SOPInstanceUID
        assert row["error"] is None


def test_a_name_in_the_place_of_a_uid_is_not_shown() -> None:
    result = ImageResult(Path("x.dcm"), None, "undecodable", "Doe^Jane")
    assert _image_row(result, [])["sop_instance_uid"] == "?"
    assert _image_row(replace(result, sop_instance_uid="1.2.3"), [])["sop_instance_uid"] == "1.2.3"


def test_the_batch_does_not_matter(siim: Path) -> None:
    expected = read_csv(predict(siim / "bundle", siim / "train", "--format", "csv").stdout)
    for size in (1, 3):
        rows = read_csv(
            predict(siim / "bundle", siim / "train", "--format", "csv", "--batch", size).stdout
        )
        for row, other in zip(rows, expected, strict=True):
            assert float(row["pneumothorax"]) == pytest.approx(
                float(other["pneumothorax"]), abs=1e-5
            )


def test_test_time_augmentation_is_deterministic_and_max_is_no_less_than_mean(siim: Path) -> None:
    def of(*options: object) -> list[float]:
        text = predict(siim / "bundle", siim / "train", "--format", "csv", *options).stdout
        return [float(row["pneumothorax"]) for row in read_csv(text)]

    mean, most = of("--tta", "mean"), of("--tta", "max")
    assert of("--tta", "mean", "--batch", 1) == pytest.approx(mean, abs=1e-5)
    assert of("--tta", "mean", "--seed", 2) != mean
    plain = of()
    assert all(a >= b - 1e-6 for a, b in zip(most, mean, strict=True))
    assert all(a >= b - 1e-6 for a, b in zip(most, plain, strict=True))
    assert mean != plain


def test_a_series_has_the_probabilities_that_the_node_gives_it(rsna: Path, tmp_path: Path) -> None:
    paths = write_head_series(tmp_path / "a", 5, "subdural", slices=6, size=64)
    write_head_series(tmp_path / "b", 6, slices=2, size=64)
    text = predict(rsna / "bundle", tmp_path, "--by", "series", "--format", "json", status=1).stdout
    whole, fragment = json.loads(text)
    images = [
        SourceImage(n, h.SOPInstanceUID, h.SOPClassUID, "", p)
        for n, (p, h) in enumerate((p, dcmread(p)) for p in paths)
    ]
    reading = load_reader(open_bundle(rsna / "bundle"), "cpu").read(images)
    for finding in reading.findings:
        if finding.scope is Scope.SERIES:
            assert whole[finding.label.name] == pytest.approx(finding.probability, abs=1e-5)
    assert (whole["images"], whole["used"], whole["error"]) == (6, 6, None)
    assert fragment["error"].startswith("too_few_slices")
    assert fragment["any"] is None


def test_pictures_are_read_and_what_was_assumed_is_said(
    siim: Path, rsna: Path, tmp_path: Path
) -> None:
    """An 8-bit picture of a slice under the brain window reads nearly as the slice does."""
    (slice_path,) = sorted(rsna.glob("dcm/ID_1001.dcm"))
    dataset = dcmread(slice_path)
    hu = dataset.pixel_array.astype(float) + float(dataset.RescaleIntercept)
    greys = np.rint(np.clip((hu - 0) / 80, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(greys).save(tmp_path / "slice.png")
    films = dcmread(siim / "train/Pneumothorax/000001.dcm").pixel_array
    Image.fromarray((films >> 4).astype(np.uint8)).save(tmp_path / "film.jpg", quality=98)
    Image.fromarray(films).save(tmp_path / "film16.png")

    (row,) = json.loads(predict(rsna / "bundle", tmp_path / "slice.png", "--format", "json").stdout)
    assert row["notes"] == ["picture_taken_as_window_brain_40/80"]
    assert row["sop_instance_uid"] is None
    other = json.loads(
        predict(
            rsna / "bundle", tmp_path / "slice.png", "--window", "600/2800", "--format", "json"
        ).stdout
    )[0]
    assert other["notes"] == ["picture_taken_as_window_600/2800"]
    assert other["any"] != row["any"]

    rows = json.loads(
        predict(
            siim / "bundle", tmp_path / "film.jpg", tmp_path / "film16.png", "--format", "json"
        ).stdout
    )
    expected = node_says(siim / "bundle", siim / "train/Pneumothorax/000001.dcm")
    assert rows[1]["pneumothorax"] == pytest.approx(expected, abs=1e-6)
    assert rows[0]["pneumothorax"] == pytest.approx(expected, abs=0.02)
    assert rows[0]["notes"] == ["picture_greys"]


def test_what_cannot_be_read_is_a_row_and_a_status(siim: Path, rsna: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (tmp_path / "notes.txt").write_text("passed over")
    (tmp_path / "ct.dcm").write_bytes((rsna / "dcm/ID_0001.dcm").read_bytes())
    text = predict(siim / "bundle", tmp_path, "--format", "csv", status=1).stdout
    errors = {Path(row["file"]).name: row["error"] for row in read_csv(text)}
    assert set(errors) == {"broken.dcm", "broken.png", "ct.dcm"}
    assert errors["broken.dcm"].startswith("undecodable")
    assert errors["broken.png"].startswith("undecodable")
    assert errors["ct.dcm"].startswith("wrong_modality")
    open_gate = predict(siim / "bundle", tmp_path / "ct.dcm", "--no-gate", "--format", "csv").stdout
    assert read_csv(open_gate)[0]["error"] == ""
    with pytest.raises(DeployError, match="does not exist"):
        predict(siim / "bundle", tmp_path / "nothing")
    with pytest.raises(DeployError, match=r"is no bundle: it has no configs/metadata\.json"):
        predict(siim / "train", tmp_path)
    with pytest.raises(DeployError, match="no image files"):
        predict(siim / "bundle", _empty(tmp_path))
    with pytest.raises(DeployError, match="is no window"):
        predict(siim / "bundle", tmp_path, "--window", "wide")


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_a_table_is_aligned_and_a_file_appears_whole(siim: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.txt"
    assert predict(siim / "bundle", siim / "train", "--out", out).stdout == ""
    lines = out.read_text().splitlines()
    assert lines[0].split() == ["file", "sop_instance_uid", "pneumothorax"]
    assert len({line.index("2.25.") for line in lines[1:]}) == 1
    assert list(tmp_path.iterdir()) == [out]


def test_a_submission_has_a_row_for_each_image_and_label(rsna: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    folder.mkdir()
    for path in sorted(rsna.glob("dcm/*.dcm")):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "ID_broken.dcm").write_bytes(b"no image")
    out = tmp_path / "submission.csv"
    done = predict(rsna / "bundle", folder, "--submission", out, status=1)
    assert "30 rows for 5 images" in done.stdout
    assert "ID_broken.dcm: undecodable" in done.stderr
    assert "its rows say 0.5" in done.stderr
    rows = read_csv(out.read_text())
    images = ["ID_0001", "ID_0002", "ID_1001", "ID_1002", "ID_broken"]
    assert [row["ID"] for row in rows] == [f"{i}_{name}" for i in images for name in ORDER]
    assert {row["Label"] for row in rows[-6:]} == {"0.5"}
    text = predict(rsna / "bundle", folder / "ID_1001.dcm", "--format", "csv").stdout
    (single,) = read_csv(text)
    of_one = {row["ID"].rpartition("_")[2]: float(row["Label"]) for row in rows[12:18]}
    assert of_one == pytest.approx({name: float(single[name]) for name in SUBTYPES}, abs=1e-5)
    with pytest.raises(DeployError, match="a file of its own"):
        predict(rsna / "bundle", folder, "--submission", out, "--by", "series")


def test_the_prior_of_the_training_stands_for_what_was_not_read(tmp_path: Path) -> None:
    bundle = head_reader(tmp_path / "bundle")
    metadata = bundle.path / "configs" / "metadata.json"
    stated = json.loads(metadata.read_text())
    metadata.write_text(json.dumps({**stated, "prevalence": {"any": 0.14, "epidural": 0.004}}))
    (tmp_path / "ID_1.dcm").write_bytes(b"")
    out = tmp_path / "submission.csv"
    done = predict(bundle.path, tmp_path / "ID_1.dcm", "--submission", out, status=1)
    assert "how frequent each label was in training" in done.stderr
    rows = {row["ID"]: row["Label"] for row in read_csv(out.read_text())}
    assert rows["ID_1_any"] == "0.14"
    assert rows["ID_1_epidural"] == "0.004"
    assert rows["ID_1_subdural"] == "0.5"
    metadata.write_text(json.dumps(stated))
    run = tmp_path / "bundle.run"
    run.mkdir()
    (run / "labels.csv").write_text("label,positive,negative\nany,1,3\n")
    predict(bundle.path, tmp_path / "ID_1.dcm", "--submission", out, status=1)
    assert "ID_1_any,0.25\n" in out.read_text()
    (run / "labels.csv").write_text("label,positive,negative\nany,0,0\n")
    with pytest.raises(InferenceError, match="makes no sense"):
        predict(bundle.path, tmp_path / "ID_1.dcm", "--submission", out)


def test_a_label_that_the_reader_could_not_learn_has_its_rows_all_the_same(tmp_path: Path) -> None:
    """The contest takes no file without the six rows of each image."""
    bundle = head_reader(tmp_path / "bundle")
    section = bundle.path / "configs" / "preread.json"
    served = json.loads(section.read_text())
    kept = [{**one, "output": n} for n, one in enumerate(served["labels"]) if n != 5]
    section.write_text(json.dumps({**served, "labels": kept}))
    metadata = bundle.path / "configs" / "metadata.json"
    shares = {"any": 0.25, "subdural": 0.02}
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "prevalence": shares}))
    (image,) = write_head_series(tmp_path / "head", 1, slices=1, size=64)
    out = tmp_path / "submission.csv"
    done = predict(bundle.path, image, "--submission", out)
    assert "6 rows for 1 image" in done.stdout
    assert "the model does not read subdural" in done.stderr
    rows = {row["ID"].rpartition("_")[2]: row["Label"] for row in read_csv(out.read_text())}
    assert tuple(rows) == ORDER
    assert rows["subdural"] == "0.02" and rows["any"] != "0.25"


def test_a_model_is_taken_by_its_name(siim: Path, tmp_path: Path) -> None:
    config = tmp_path / "preread.toml"
    name = open_bundle(siim / "bundle").name
    config.write_text(f"""[[model]]
name = "{name}"
path = "{siim / "bundle"}"
suitability = {{ min_rows = 1000 }}
""")
    image = siim / "train" / "Pneumothorax" / "000001.dcm"
    options = ["--config", config, "--format", "csv"]
    (by_folder,) = read_csv(predict(siim / "bundle", image, *options).stdout)
    (by_name,) = read_csv(predict(name, image, *options, "--no-gate").stdout)
    assert by_name["pneumothorax"] == by_folder["pneumothorax"]
    # As the node offers it, with the criteria of the settings.
    (refused,) = read_csv(predict(name, image, *options, status=1).stdout)
    assert "less than the 1000" in refused["error"]
    (shipped,) = read_csv(predict("pneumothorax", image, *options, "--no-gate").stdout)
    assert 0.0 < float(shipped["pneumothorax"]) < 1.0 != by_name["pneumothorax"]
    with pytest.raises(DeployError, match=f"there are: {name}, hemorrhage, pneumothorax"):
        predict("pneumonia", image, *options)


def many_results(count: int) -> Iterator[ImageResult]:
    """What a network of constant answers would give for so many images, some of them broken."""
    scores = np.linspace(0.001, 0.6, 6)
    for number in range(count):
        path = Path(f"/data/stage_1_test_images/ID_{number:09x}.dcm")
        yield (
            ImageResult(path, None, "undecodable")
            if number % 1000 == 7
            else ImageResult(path, scores)
        )


def test_the_whole_test_set_is_written_in_little_memory(tmp_path: Path) -> None:
    """78,545 images are 471,270 rows; what is kept is an ID for each, to find a second one."""
    out = tmp_path / "submission.csv"
    started = time.process_time()
    done = write_submission(out, many_results(78_545), SUBTYPES, {})
    seconds = time.process_time() - started
    assert (done.images, done.rows, len(done.unread)) == (78_545, 471_270, 79)
    with out.open() as lines:
        assert next(lines) == "ID,Label\n"
        rows = sum(1 for _ in lines)
    assert rows == 471_270
    assert seconds < 15
    # Of fewer images, because it slows them down; other tests have no part in this.
    tracemalloc.start()
    try:
        write_submission(out, many_results(5_000), SUBTYPES, {})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most / 5_000 < 300  # bytes an image


def test_an_interrupted_submission_leaves_the_file_of_before(tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    out.write_text("of before")

    def interrupted() -> Iterator[ImageResult]:
        yield from many_results(10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_submission(out, interrupted(), SUBTYPES, {})
    assert out.read_text() == "of before"
    assert list(tmp_path.iterdir()) == [out]


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    results = [ImageResult(Path(folder) / "ID_1.dcm", np.zeros(6)) for folder in ("a", "b")]
    with pytest.raises(InferenceError, match=r"b/ID_1\.dcm: another file has the ID"):
        write_submission(tmp_path / "x.csv", results, SUBTYPES, {})
    assert not list(tmp_path.iterdir())
