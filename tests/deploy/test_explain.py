"""``preread explain``: of stored analyses, and of files; and the page that shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from PIL import Image
from pooled_bundle import write
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)
from stored_files import store
from typer.testing import CliRunner

from db import FileStore, create_engine
from db.explanations import meanings, of_analysis
from db.ingest import Ingest
from db.migrate import upgrade
from deploy import settings
from deploy.cli import app
from deploy.errors import DeployError
from inference.analyst import Analyst
from inference.analyst_settings import AnalystSettings
from inference.bundle import Bundle
from inference.catalogue import open_catalogue
from inference.errors import BundleError, InferenceError
from inference.input_spec import InputSpec
from inference.jobs import prepare
from inference.model import load_reader
from inference.objects import DeviceIdentity
from inference.requests import request_analysis_of
from inference.windows import BRAIN

ANALYST = AnalystSettings("w", "cpu", DeviceIdentity("A", "P", "P", "0.1", "1"), lambda _k, _a: ())
# Where the bright square is: rows and columns of 128.
SQUARE = (slice(16, 48), slice(72, 112))


@dataclass(frozen=True)
class Node:
    """A node that has read something."""

    config: Path
    engine: sa.Engine
    files: FileStore
    analysis: str
    images: tuple[str, ...]
    study: str

    def explain(self, *arguments: object) -> str:
        return run("explain", *arguments, "--config", self.config, "--device", "cpu")

    def kept(self) -> dict[str, Any]:
        """Return the first map of each method: that of the image which shows the finding best."""
        with self.engine.connect() as connection:
            every = of_analysis(connection, self.analysis)
        return {one.method: one for one in reversed(every)}

    def report(self) -> str:
        with self.engine.connect() as connection:
            query = "SELECT sop_instance_uid FROM result_object WHERE kind = 'sr'"
            return str(connection.execute(sa.text(query)).scalar_one())


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def image(pixels: np.ndarray, study: str, series: str, **elements: Any) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientID = "P"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.add_new("PixelData", "OW", pixels.tobytes())
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def film(study: str, series: str) -> Dataset:
    pixels = np.random.default_rng(1).integers(0, 1000, (128, 128)).astype(np.uint16)
    pixels[SQUARE] += 3000
    return image(
        pixels, study, series, SOPClassUID=DigitalXRayImageStorageForPresentation, Modality="DX",
        ImagerPixelSpacing=[2.0, 2.0],
    )  # fmt: skip


def head(study: str, series: str) -> list[Dataset]:
    """Return six slices; the fourth is bright in a place."""
    slices = []
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 20, (128, 128)).astype(np.int16)
        if number == 3:
            pixels[SQUARE] += 70
        slices.append(
            image(
                pixels, study, series, SOPClassUID=CTImageStorage, Modality="CT",
                InstanceNumber=number + 1, ImagePositionPatient=[0, 0, 5.0 * number],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[0.5, 0.5],
            )
        )  # fmt: skip
    return slices


def node(folder: Path, bundle: Bundle, images: list[Dataset]) -> Node:
    data = folder / "data"
    engine = create_engine(f"sqlite:///{data / 'preread.sqlite'}")
    files = FileStore(data)
    files.prepare()
    upgrade(engine)
    prepare(engine)
    ingest = Ingest(engine)
    for dataset in images:
        path = folder / "image.dcm"
        dataset.save_as(path, enforce_file_format=True)
        store(ingest, files, dataset.SOPInstanceUID, path.read_bytes())
    with engine.connect() as connection:
        ids = tuple(connection.execute(sa.text("SELECT id FROM instance ORDER BY id")).scalars())
    first = images[0]
    request = request_analysis_of(
        bundle, study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=first.SeriesInstanceUID, instance_ids=ids, instance_digest="d",
        priority="routine", shadow=False, trace_id="t" * 32, received_at=datetime.now(UTC),
    )  # fmt: skip
    from db.results import request_analysis

    with engine.begin() as connection:
        request_analysis(connection, request)
    reader = load_reader(bundle, "cpu")
    Analyst(engine, files, {bundle.name: bundle}, lambda _bundle: reader, ANALYST).analyse(
        request.id
    )
    config = folder / "preread.toml"
    config.write_text(
        f'data_dir = "{data}"\n[inference]\nshipped = false\n'
        f'[[model]]\nname = "{bundle.name}"\npath = "{bundle.path}"\n'
    )
    uids = tuple(str(one.SOPInstanceUID) for one in images)
    return Node(config, engine, files, request.id, uids, str(first.StudyInstanceUID))


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Node:
    folder = tmp_path_factory.mktemp("chest")
    bundle = write(folder / "bundle", InputSpec("radiograph", 64), above=0.5)
    return node(folder, bundle, [film(generate_uid(), generate_uid())])


@pytest.fixture(scope="module")
def skull(tmp_path_factory: pytest.TempPathFactory) -> Node:
    folder = tmp_path_factory.mktemp("skull")
    spec = InputSpec("ct_slices", 64, (BRAIN,))
    bundle = write(folder / "bundle", spec, above=0.5, labels=("bright",))
    return node(folder, bundle, head(generate_uid(), generate_uid()))


def test_an_analysis_keeps_the_map_of_its_own_pass(chest: Node) -> None:
    (uid,) = chest.images
    kept = chest.kept()["class-activation"]
    assert (kept.label, kept.sop_instance_uid, kept.frame) == ("bright", uid, 0)
    assert (kept.map_rows, kept.map_columns) == (16, 16)
    assert (kept.cell_height_mm, kept.cell_width_mm) == (16.0, 16.0)
    with chest.engine.connect() as connection:
        facts = connection.execute(sa.text("SELECT facts FROM analysis")).scalar_one()
        path = connection.execute(
            sa.text("SELECT path FROM result_object WHERE kind = 'sc'")
        ).scalar_one()
    assert '"method": "class-activation", "rows": 16' in facts
    capture = pydicom.dcmread(chest.files.absolute(path))
    assert "class activation map, 16 x 16 cells of 16 mm" in capture.DerivationDescription


@pytest.mark.parametrize("how", ["gradients", "occlusion"])
def test_another_method_is_stored_beside_it_and_drawn(
    chest: Node, tmp_path: Path, how: str
) -> None:
    out = tmp_path / "x.png"
    said = chest.explain(chest.analysis[:8], "--method", how, "--out", out)
    assert f"stored with analysis {chest.analysis[:12]}" in said
    kept = chest.kept()[how]
    assert f"{kept.map_columns} x {kept.map_rows} cells of 16 mm" in said
    with Image.open(out) as picture:
        pixels = np.asarray(picture).astype(int)
    orange = pixels[..., 0] - pixels[..., 2] > 40
    rows, columns = np.nonzero(orange[100:-80])
    assert 0.5 < columns.mean() / pixels.shape[1] < 0.95  # the square is at the upper right
    assert rows.mean() < 0.55 * len(orange[100:-80])


@pytest.mark.parametrize("named", ["study", "image", "report", "analysis"])
def test_it_is_found_by_the_end_of_any_uid(chest: Node, named: str) -> None:
    uid = {
        "study": chest.study,
        "image": chest.images[0],
        "report": chest.report(),
        "analysis": chest.analysis,
    }[named]
    said = chest.explain(uid if named == "analysis" else f"...{uid[-12:]}")
    assert f"bright in ...{chest.images[0][-12:]}, frame 1" in said
    assert "class activation map" in said


def test_integrated_gradients_are_stored_or_say_what_is_missing(chest: Node) -> None:
    try:
        import captum.attr  # noqa: F401
    except ImportError:
        with pytest.raises(InferenceError, match=r"\.\[explain\]"):
            chest.explain(chest.analysis, "--method", "integrated-gradients")
        return
    said = chest.explain(chest.analysis, "--method", "integrated-gradients", "--steps", 20)
    assert re.search(r"from black to the image \+\d+\.\d+ log-odds; the sum", said)
    assert chest.kept()["integrated-gradients"].map_rows == 32


def test_of_a_series_the_key_slice_is_explained_or_the_one_that_is_named(skull: Node) -> None:
    kept = skull.kept()["class-activation"]
    assert kept.sop_instance_uid == skull.images[3]
    assert '"window": "brain 40/80"' in kept.placement
    said = skull.explain(skull.study, "--method", "occlusion", "--stride", 8)
    assert skull.images[3][-12:] in said
    other = skull.explain(skull.images[1])
    assert f"bright in ...{skull.images[1][-12:]}, frame 1" in other
    assert "no place speaks for it enough" in other


def test_the_page_switches_maps_without_a_script_and_fetches_nothing(
    skull: Node, tmp_path: Path
) -> None:
    skull.explain(skull.study, "--method", "gradients")
    page = tmp_path / "x.html"
    run("show", skull.report(), "--out", page, "--config", skull.config)
    text = page.read_text()
    assert "A map is no segmentation" in text
    with skull.engine.connect() as connection:
        meaning = meanings(connection, skull.analysis)["bright"]
    assert meaning != "bright"
    assert f">{meaning}: class activation map, 16 x 16 cells of 4 mm</label>" in text
    assert f">{meaning}: gradients of feature maps, 16 x 16 cells of 4 mm</label>" in text
    assert f"<td>{meaning}</td>" in text, "as the table of findings has it"
    assert "bright:" not in text
    assert "window brain 40/80" in text
    assert "at 15.0 mm" in text
    assert text.count('type="radio"') >= 3
    assert text.count(" checked>") == text.count("<figure")
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "http" not in text
    plain = tmp_path / "plain.html"
    with skull.engine.connect() as connection:
        stored = connection.execute(
            sa.text("SELECT path FROM result_object WHERE kind = 'sr'")
        ).scalar_one()
    run("show", skull.files.absolute(stored), "--out", plain, "--config", skull.config)
    assert "Where the model looked" not in plain.read_text()  # a file alone has no maps


def test_the_page_does_without_an_image_that_is_gone(chest: Node, tmp_path: Path) -> None:
    with chest.engine.begin() as connection:
        connection.execute(sa.text("UPDATE instance SET missing_at = received_at"))
    try:
        run("show", chest.report(), "--out", tmp_path / "x.html", "--config", chest.config)
    finally:
        with chest.engine.begin() as connection:
            connection.execute(sa.text("UPDATE instance SET missing_at = NULL"))
    text = (tmp_path / "x.html").read_text()
    assert "The image itself cannot be shown." in text
    assert "class activation map, 16 x 16 cells of 16 mm" in text


def test_a_file_is_explained_without_a_node(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", InputSpec("radiograph", 64), above=0.5)
    path, out = tmp_path / "film.dcm", tmp_path / "x.png"
    film("1.2", "1.3").save_as(path, enforce_file_format=True)
    said = run("explain", path, "--model", bundle.path, "--out", out, "--method", "occlusion")
    assert "occlusion, 16 x 16 cells of 16 mm" in said
    assert "stored" not in said
    first = out.read_bytes()
    run("explain", path, "--model", bundle.path, "--out", out, "--method", "occlusion")
    assert out.read_bytes() == first
    png = tmp_path / "film.png"
    Image.fromarray((film("1.2", "1.3").pixel_array >> 4).astype(np.uint8)).save(png)
    assert "cells of 8 pixels" in run("explain", png, "--model", bundle.path, "--out", out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("4711",), "no file, and no image, result object, series or study"),
        (("ffffffffffff",), "no file, and no analysis, study"),
        (("{analysis}", "--label", "nothing"), "no finding nothing; its findings: bright, dark"),
        (("{analysis}", "--model", "other"), "was not read by other; analyses: "),
        (("{analysis}", "--out", "x.jpg"), "the picture is a PNG"),
        (("{analysis}", "--frame", "2"), "there is no frame 2; the image has 1"),
        (("",), "nothing is named: give the UID of a study, series, result object or image"),
        (("{config}",), "for a file say which model"),
        (("{analysis}", "--method", "occlusion", "--patch", "9", "--stride", "4"), "8 or 12"),
        (
            ("{analysis}", "--method", "gradients", "--patch", "16"),
            "--method gradients has no --patch: it goes with --method occlusion",
        ),
        (("{analysis}", "--stride", "8"), "the way of the analysis has no --stride"),
        (
            ("{analysis}", "--method", "occlusion", "--steps", "50"),
            "--method occlusion has no --steps: it goes with --method integrated-gradients",
        ),
        (
            ("{analysis}", "--method", "class-activation", "--baseline", "0"),
            "it goes with --method occlusion or --method integrated-gradients",
        ),
    ],
)
def test_what_cannot_be_explained_is_said(
    chest: Node, arguments: tuple[str, ...], said: str
) -> None:
    filled = [one.format(analysis=chest.analysis, config=chest.config) for one in arguments]
    with pytest.raises((DeployError, InferenceError), match=said):
        chest.explain(*filled)


def test_a_method_that_is_none_is_told_without_words_of_a_library() -> None:
    done = CliRunner().invoke(app, ["explain", "x", "--method", "own-map"])
    said = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2
    assert "Invalid value for '--method': 'own-map' is not one of 'class-activation'," in said


def test_where_nothing_is_found_the_most_probable_slice_is_named(tmp_path: Path) -> None:
    spec = InputSpec("ct_slices", 64, (BRAIN,))
    bundle = write(tmp_path / "bundle", spec, above=0.9, labels=("bright",))
    dark = [one for one in head(generate_uid(), generate_uid()) if one.InstanceNumber != 4]
    there = node(tmp_path, bundle, dark)
    with pytest.raises(DeployError, match="is Absent and has no key image") as raised:
        there.explain(there.study)
    with there.engine.connect() as connection:
        query = "SELECT sop_instance_uid, probability FROM v_findings WHERE scope = 'image'"
        known = {
            row.sop_instance_uid: row.probability for row in connection.execute(sa.text(query))
        }
    named = str(raised.value).rpartition(" ")[2]
    assert known[named] == max(known.values())
    assert "stored with analysis" in there.explain(named)


def test_a_model_that_changed_explains_nothing(chest: Node, tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", InputSpec("radiograph", 64), above=0.4)
    weights = bundle.weights_path
    weights.write_bytes(weights.read_bytes().replace(b"\x00\x00\x70\x42", b"\x00\x00\x80\x42"))
    config = tmp_path / "preread.toml"
    text = chest.config.read_text()
    config.write_text(re.sub(r'path = ".*"', f'path = "{bundle.path}"', text))
    with pytest.raises(DeployError, match="no longer installed as it was"):
        run("explain", chest.analysis, "--config", config)


def test_a_model_that_is_shown_something_else_by_now_explains_nothing(
    chest: Node, tmp_path: Path
) -> None:
    bundle = write(tmp_path / "bundle", InputSpec("radiograph", 32), above=0.5)
    config = tmp_path / "preread.toml"
    text = chest.config.read_text()
    config.write_text(re.sub(r'path = ".*"', f'path = "{bundle.path}"', text))
    before = chest.kept()
    with pytest.raises(DeployError, match="no longer installed as it was"):
        run("explain", chest.analysis, "--config", config)
    assert chest.kept().keys() == before.keys()
    assert all(chest.kept()[method] == one for method, one in before.items())


@pytest.mark.parametrize("how", ["none", "gradients", "occlusion", "class-activation"])
def test_the_site_says_what_pictures_show(tmp_path: Path, how: str) -> None:
    bundle = write(tmp_path / "bundle", InputSpec("radiograph", 64), above=0.5)
    config = tmp_path / "preread.toml"
    config.write_text(
        f'data_dir = "{tmp_path}"\n[inference]\nshipped = false\n[[model]]\nname = "bright"\n'
        f'path = "{bundle.path}"\nexplanation = "{how}"\n'
    )
    loaded = settings.load(config)
    chosen = open_catalogue(loaded.inference, loaded.model)["bright"]
    assert chosen.explanation == how
    # What is found does not change, so what was read before stays read.
    assert chosen.configuration_digest == bundle.configuration_digest
    there = node(tmp_path, chosen, [film(generate_uid(), generate_uid())])
    assert set(there.kept()) == (set() if how == "none" else {how})


def test_an_explanation_that_is_none_is_refused_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"explanation is 'grad-cam', not one of class-activation"
    ):
        write(tmp_path / "bundle", InputSpec("radiograph", 64), explanation="grad-cam")
