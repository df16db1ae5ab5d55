"""``preread show FILE`` of an image: words, pictures under windows, several beside each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

from deploy.cli import app
from deploy.errors import DeployError
from inference.errors import InferenceError
from inference.image_view import header_windows, window_named
from inference.training.phantoms.files import write_chest, write_head_series
from inference.windows import NAMED, parse_window


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_head_series(tmp_path_factory.mktemp("head"), 1, slices=12, size=96)[10]


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest(tmp_path_factory.mktemp("chest"), 2, size=128)


def show(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["show", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def grey(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def hounsfield(path: Path) -> NDArray[np.float64]:
    dataset = dcmread(path)
    return np.asarray(dataset.pixel_array * 1.0 + float(dataset.RescaleIntercept))


def windowed(values: NDArray[np.float64], center: float, width: float) -> NDArray[np.uint8]:
    """C.11.2.1.3.2, worked here by itself."""
    low = center - width / 2
    return np.rint(np.clip((values - low) / width, 0, 1) * 255).astype(np.uint8)


def test_an_image_is_told_in_words_without_its_patient(head: Path, chest: Path) -> None:
    told = show(head)
    hu = hounsfield(head)
    assert "sop class: CT Image Storage" in told
    assert "window of the header: 40/80" in told
    assert f"values: {hu.min():g} to {hu.max():g} HU, mean {hu.mean():.2f}" in told
    inside = ((hu >= 0) & (hu <= 80)).mean()
    assert f"in window brain 40/80: {inside:.1%} of the pixels" in told
    assert "PHANTOM" not in told
    assert "in window" not in show(chest)


@pytest.mark.parametrize(
    ("name", "center", "width"),
    [("brain", 40, 80), ("subdural", 80, 200), ("soft", 40, 380), ("stroke", 40, 40),
     ("bone", 600, 2800), ("35/70", 35, 70)],
)  # fmt: skip
def test_a_picture_is_under_the_window_that_was_asked_for(
    head: Path, tmp_path: Path, name: str, center: float, width: float
) -> None:
    out = tmp_path / "x.png"
    show(head, "--window", name, "--out", out)
    assert np.array_equal(grey(out), windowed(hounsfield(head), center, width))
    show(head, "--window", name, "--invert", "--out", out)
    assert np.array_equal(grey(out), 255 - windowed(hounsfield(head), center, width))


def test_a_radiograph_in_monochrome1_is_turned_after_its_window(
    chest: Path, tmp_path: Path
) -> None:
    dataset = dcmread(chest)
    turned = dcmread(chest)
    turned.PhotometricInterpretation = "MONOCHROME1"
    turned.PixelData = (4095 - dataset.pixel_array).astype("<u2").tobytes()
    turned.save_as(tmp_path / "turned.dcm")
    for options in ((), ("--window", "2000/3000")):
        show(chest, *options, "--out", tmp_path / "a.png")
        other = ("--window", "2095/3000") if options else ()
        show(tmp_path / "turned.dcm", *other, "--out", tmp_path / "b.png")
        difference = grey(tmp_path / "a.png").astype(int) - grey(tmp_path / "b.png")
        assert np.abs(difference).max() <= 1, options


def test_windows_and_files_stand_beside_each_other(head: Path, chest: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    show(head, "--side-by-side", "--out", out)
    three = grey(out)
    assert three.shape == (96 + 24 + 12, 3 * (96 + 6) + 6)
    tile = windowed(hounsfield(head), 80, 200)
    assert np.array_equal(three[30:126, 108:204], tile), "the second of three is subdural"
    assert (three[:28] > 150).any(), "it has its name above"
    show(head, chest, "--window", "brain", "--window", "header", "--out", out)
    assert grey(out).shape == (2 * (128 + 24 + 6) + 6, 2 * (128 + 6) + 6)
    show(head, chest, "--side-by-side", "--out", out)
    assert grey(out).shape == (128 + 24 + 12, 2 * (128 + 6) + 6)


def test_frames_are_counted_from_one(tmp_path: Path) -> None:
    path = get_testdata_file("eCT_Supplemental.dcm", download=False)
    if path is None:
        pytest.skip("eCT_Supplemental.dcm is not installed (pip install pydicom-data)")
    pictures = []
    for frame in (1, 2):
        show(path, "--frame", frame, "--out", tmp_path / "x.png")
        pictures.append(grey(tmp_path / "x.png"))
    assert not np.array_equal(*pictures)
    with pytest.raises(DeployError, match="there is no frame 3; the image has 2"):
        show(path, "--frame", 3, "--out", tmp_path / "x.png")


def test_pixels_that_are_not_square_are_shown_in_their_shape(head: Path, tmp_path: Path) -> None:
    dataset = dcmread(head)
    dataset.PixelSpacing = [4, 2]
    dataset.save_as(tmp_path / "flat.dcm")
    show(tmp_path / "flat.dcm", "--out", tmp_path / "x.png")
    assert grey(tmp_path / "x.png").shape == (192, 96)


def test_a_colour_image_keeps_its_colours_unless_it_is_windowed(tmp_path: Path) -> None:
    path = get_testdata_file("US1_UNCR.dcm", download=False)
    if path is None:
        pytest.skip("US1_UNCR.dcm is not installed (pip install pydicom-data)")
    show(path, "--out", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert np.array_equal(np.asarray(picture), dcmread(path).pixel_array)
    show(path, "--invert", "--out", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.mode == "L"


def test_a_histogram_is_text_or_a_plot(head: Path, tmp_path: Path) -> None:
    lines = show(head, "--histogram").splitlines()
    values = hounsfield(head)
    low, high = int(values.min()), int(values.max())
    step = -(-(high - low + 1) // 20)
    edges = np.arange(low, high + step + 1, step)
    counts, _ = np.histogram(values, bins=edges)
    assert [int(line.split()[-1]) for line in lines] == list(counts)
    assert [float(line.split()[0]) for line in lines] == edges[:-1].tolist()
    pytest.importorskip("matplotlib")
    show(head, "--histogram", "--window", "brain", "--out", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (840, 432)


def test_names_of_the_header_are_known(head: Path) -> None:
    dataset = dcmread(head)
    dataset.WindowCenter, dataset.WindowWidth = [40, "600"], [80, "2500"]
    dataset.WindowCenterWidthExplanation = ["WINDOW1", "Bone sharp"]
    first, second = header_windows(dataset)
    assert window_named("bone SHARP", dataset) == second
    assert window_named("header", dataset) == first
    assert window_named("bone", dataset) == NAMED["bone"]
    with pytest.raises(
        InferenceError, match=r"one of brain.*the header's own: WINDOW1, Bone sharp"
    ):
        window_named("wide", dataset)
    del dataset.WindowCenter
    with pytest.raises(InferenceError, match="has no window"):
        window_named("header", dataset)


@pytest.mark.parametrize("text", ["", "40", "40/", "a/b", "40/0", "nan/80", "40/80/3"])
def test_what_is_no_window_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is no window"):
        parse_window(text)


def test_what_cannot_be_shown_so_is_said_of_images(head: Path, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"written as \.png"):
        show(head, "--out", tmp_path / "x.html")
    with pytest.raises(DeployError, match="give --out"):
        show(head, "--invert")
    with pytest.raises(DeployError, match="give --out"):
        show(head, head, "--side-by-side")
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(head.read_bytes()[:4000])
    with pytest.raises(InferenceError, match="undecodable"):
        show(cut, "--out", tmp_path / "x.png")
    plan = get_testdata_file("rtplan.dcm")
    with pytest.raises(DeployError, match="has no pixels"):
        show(plan, "--window", "brain")
