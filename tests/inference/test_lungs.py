"""Where the lungs are: in phantoms, in real films, and not in what is no chest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.uid import generate_uid

from inference.bundle import Bundle
from inference.input_spec import InputSpec
from inference.lungs import find_lungs, lung_box
from inference.model import load_reader
from inference.preprocess import place_radiograph
from inference.tensors import prepare_radiograph
from inference.training.phantoms import Chest, Pneumothorax
from inference.training.phantoms.files import write_chest

SPEC = InputSpec("radiograph", 64, polarity="chest", crop="lungs")


def film(seed: int, size: int = 256) -> np.ndarray:
    return np.rint(Chest.draw(seed).radiograph(size) * 4095).astype(np.float32)


def lungs_of(chest: Chest, size: int) -> tuple[float, float, float, float]:
    """Return top, left, bottom, right of both lungs of a phantom, in pixels."""
    lungs = chest.thorax.lungs
    edges = (
        min(lung.apex for lung in lungs),
        -lungs[0].outer,
        max(lung.base for lung in lungs),
        lungs[1].outer,
    )
    top, left, bottom, right = ((edge + 1) / 2 * size for edge in edges)
    return top, left, bottom, right


@pytest.mark.parametrize("seed", range(6))
def test_the_box_holds_the_lungs_of_a_phantom(seed: int) -> None:
    box = lung_box(film(seed))
    assert box is not None
    top, left, bottom, right = lungs_of(Chest.draw(seed), 256)
    slack = 0.08 * 256
    assert box[0] <= top + slack
    assert box[1] <= left + slack
    assert box[2] >= bottom - slack
    assert box[3] >= right - slack


def test_the_right_lung_is_on_the_left_of_the_picture() -> None:
    pair = find_lungs(film(3))
    assert pair is not None
    assert pair.right.medial < pair.left.medial
    assert not pair.right.left


def test_a_collapsed_lung_stays_in_the_box() -> None:
    finding = Pneumothorax(side=1, apical=0.4, lateral=0.35, line=0.1, clearing=0.08)
    with_it = lung_box((Chest.draw(3).radiograph(256, finding) * 255).astype(np.float32))
    without = lung_box((Chest.draw(3).radiograph(256) * 255).astype(np.float32))
    assert with_it is not None
    assert without is not None
    assert np.abs(np.subtract(with_it, without)).max() <= 0.1 * 256


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 40),
    gain=st.floats(0.01, 50),
    offset=st.floats(-2000, 2000),
    rows=st.integers(60, 400),
    columns=st.integers(60, 400),
)
def test_the_box_lies_in_the_picture_whatever_its_scale(
    seed: int, gain: float, offset: float, rows: int, columns: int
) -> None:
    whole = Image.fromarray(film(seed, 128)).resize((columns, rows))
    values = np.asarray(whole, dtype=np.float32)
    for scaled in (values, values * np.float32(gain) + np.float32(offset)):
        box = lung_box(scaled)
        if box is not None:
            top, left, bottom, right = box
            assert 0 <= top < bottom <= rows
            assert 0 <= left < right <= columns


def test_scale_and_offset_of_the_values_do_not_matter() -> None:
    values = film(5)
    assert lung_box(values) == lung_box(values * 3 - 700) is not None


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((200, 200), np.float32),
        np.random.default_rng(1).random((300, 200), dtype=np.float32),
        np.linspace(0, 1, 200 * 200, dtype=np.float32).reshape(200, 200),
        np.random.default_rng(1).random((20, 30), dtype=np.float32),
    ],
    ids=["flat", "noise", "ramp", "tiny"],
)
def test_what_is_no_chest_has_no_lungs(values: np.ndarray) -> None:
    assert lung_box(values) is None
    place = place_radiograph(values, SPEC)
    assert place.whole_source


def test_the_network_sees_the_lungs_and_a_negative_the_same() -> None:
    values = film(7, 400)
    place = place_radiograph(values, SPEC)
    assert place.box == lung_box(values)
    turned = values.max() - values
    assert place_radiograph(turned, SPEC).box == place.box
    cpu = torch.device("cpu")
    seen, seen_turned = (prepare_radiograph(v, SPEC, cpu) for v in (values, turned))
    assert seen.shape == (1, 1, 64, 64)
    assert torch.equal(seen, seen_turned)
    assert not torch.equal(seen, prepare_radiograph(values, InputSpec("radiograph", 64), cpu))


def test_real_films_have_lungs(shared_data: Path) -> None:
    films = sorted((shared_data / "cxr_hannover" / "png").glob("*.png"))[::6]
    found = [lung_box(np.asarray(Image.open(path).convert("F"))) for path in films]
    assert sum(box is not None for box in found) >= 0.95 * len(films)


def test_a_reading_notes_where_no_lungs_were_found(
    tmp_path: Path, sources: Callable[[list[Path]], list[object]], chest_bundle: Bundle
) -> None:
    bundle = replace(chest_bundle, spec=replace(chest_bundle.spec, crop="lungs"))
    reader = load_reader(bundle, "cpu")
    chest = write_chest(tmp_path, 1, size=256)
    noise = dcmread(chest)
    stored = np.random.default_rng(1).integers(0, 4095, noise.pixel_array.shape)
    noise.PixelData = stored.astype("<u2").tobytes()
    noise.SOPInstanceUID = noise.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    noise.save_as(tmp_path / "noise.dcm")
    for path, noted in ((chest, 0), (tmp_path / "noise.dcm", 1)):
        facts = reader.read(sources([path])).facts  # type: ignore[arg-type]
        assert dict(facts.get("pixel_notes", {})).get("lungs_not_found", 0) == noted  # type: ignore[call-overload]
