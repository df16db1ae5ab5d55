"""Operating points, and the fields of an input that came with the readers that need them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from inference.bundle import Bundle, open_bundle
from inference.calibration import Calibration
from inference.errors import BundleError
from inference.forward import Network
from inference.image_file import open_image
from inference.input_spec import InputSpec
from inference.pixels import radiograph_values
from inference.preprocess import place_radiograph
from inference.settings import shipped_bundles
from inference.tensors import prepare_radiograph

CPU = torch.device("cpu")
CROP = InputSpec("radiograph", 64, crop="square")
FULL = InputSpec("radiograph", 64, intensity="full_range", value_range=(-1024.0, 1024.0))
Write = Callable[..., Path]


@given(st.floats(1e-4, 0.9999), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_calibration_keeps_the_order_and_the_ends(point: float, values: list[float]) -> None:
    column = np.sort(np.array([0.0, *values, point, 1.0], dtype=np.float32))
    calibrated = Calibration((point,)).apply(column[:, None])[:, 0]
    assert (np.diff(calibrated) >= -1e-6).all()
    assert calibrated[0] == 0.0 and calibrated[-1] == 1.0
    at = Calibration((float(np.float32(point)),)).apply(np.array([[point]], dtype=np.float32))
    assert float(at[0, 0]) == pytest.approx(0.5, abs=1e-6)


def test_calibration_by_hand() -> None:
    raw = np.array([[0.05, 0.05, 0.05], [0.6, 0.6, 0.6]], dtype=np.float32)
    calibrated = Calibration((0.1, None, 0.2)).apply(raw)
    expected = [[0.25, 0.05, 0.125], [1 - 0.4 / 1.8, 0.6, 1 - 0.4 / 1.6]]
    np.testing.assert_allclose(calibrated, expected, atol=1e-6)
    assert raw[0, 0] == np.float32(0.05), "the network's own numbers stay"


def _changed(bundle: Bundle, to: Path, **changes: Any) -> Path:
    shutil.copytree(bundle.path, to)
    file = to / "configs" / "preread.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return to


def test_a_bundle_is_calibrated_and_its_configuration_is_another(
    ct_bundle: Bundle, tmp_path: Path
) -> None:
    points = [0.1, 0.2, 0.3, None, 0.5, 0.6]
    calibrated = open_bundle(
        _changed(ct_bundle, tmp_path / "b", calibration={"operating_points": points})
    )
    assert calibrated.configuration_digest != ct_bundle.configuration_digest
    tensor = torch.rand(3, ct_bundle.spec.channels, ct_bundle.spec.size, ct_bundle.spec.size)
    raw = Network(ct_bundle, CPU).probabilities(tensor)
    expected = Calibration(tuple(points)).apply(raw.astype(np.float32))
    np.testing.assert_allclose(Network(calibrated, CPU).probabilities(tensor), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({"operating_points": [0.5]}, "calibration has 1 operating points for 6 labels"),
        ({"operating_points": [1.0] * 6}, "operating point 1.0 is not between 0 and 1"),
        ({"operating_points": [0.5] * 6, "kind": 1}, "unknown keys in calibration: kind"),
        ({}, "operating_points is missing"),
    ],
)
def test_an_impossible_calibration_is_told(
    calibration: dict[str, object], message: str, ct_bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=message):
        open_bundle(_changed(ct_bundle, tmp_path / "b", calibration=calibration))


def test_inputs_of_before_say_what_they_said() -> None:
    for path in shipped_bundles():
        stated = json.loads((path / "configs" / "preread.json").read_text())["input"]
        assert open_bundle(path).spec.to_dict().keys() >= stated.keys()
    assert set(InputSpec("radiograph", 64).to_dict()).isdisjoint(
        {"crop", "intensity", "value_range"}
    )
    for spec in (CROP, FULL):
        assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": "head"}, "has no crop"),
        ({"intensity": "auto"}, "unknown intensity"),
        ({"value_range": [1, 0]}, "does not lead from black to white"),
        ({"kind": "ct_slices", "windows": [{"name": "b", "center": 40, "width": 80}],
          "intensity": "full_range"}, "only a radiograph has intensity"),
    ],
)  # fmt: skip
def test_an_impossible_input_is_told(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputSpec.from_dict({**InputSpec("radiograph", 64).to_dict(), **change})


@pytest.mark.parametrize(("rows", "columns"), [(64, 80), (81, 64), (64, 64), (640, 1001)])
def test_a_crop_is_the_central_square(rows: int, columns: int) -> None:
    side = min(rows, columns)
    values = np.zeros((rows, columns), dtype=np.float32)
    top, left = rows // 2 - side // 2, columns // 2 - side // 2
    square = np.random.default_rng(0).random((side, side), dtype=np.float32)
    values[top : top + side, left : left + side] = square
    cropped = prepare_radiograph(values, CROP, CPU)
    assert torch.allclose(cropped, prepare_radiograph(square, CROP, CPU), atol=1e-5)
    whole = place_radiograph(values, CROP).over_source(np.ones((64, 64), dtype=np.float32))
    assert whole.shape[0] / whole.shape[1] == pytest.approx(rows / columns, rel=0.02)
    assert float(whole.sum()) == 64 * 64


def test_values_are_spread_over_what_the_bits_have_room_for() -> None:
    values = np.full((64, 64), 1023.0, dtype=np.float32)
    values[:32] = 0.0
    tensor = prepare_radiograph(values, FULL, CPU, full_range=(0.0, 4092.0))
    assert tensor[0, 0, 0, 0] == -1024 and tensor[0, 0, 63, 0] == -512
    beyond = prepare_radiograph(values, FULL, CPU, full_range=(0.0, 511.5))
    assert float(beyond.max()) == 1024
    with pytest.raises(ValueError, match="no full range"):
        prepare_radiograph(values, FULL, CPU)


PIXELS = np.array([[0, 100], [1000, 4000]], dtype=np.uint16)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"BitsStored": 12, "HighBit": 11}, (0, 4095)),
        ({"BitsStored": 16, "HighBit": 15}, (0, 65535)),
        (
            {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 2, "RescaleIntercept": -10},
            (-10, 8180),
        ),
        # Turned round between the extremes of the picture, 0 and 4000: 4095 becomes -95.
        (
            {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"},
            (-95, 4000),
        ),
        ({"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1}, (-32768, 32767)),
    ],
)
def test_the_full_range_follows_the_header(
    elements: dict[str, Any], expected: tuple[float, float], write_image: Write
) -> None:
    image = radiograph_values(open_image(write_image(PIXELS, **elements)))
    assert image.full_range == expected
    assert expected[0] <= image.values.min() <= image.values.max() <= expected[1]


def test_the_full_range_follows_a_modality_lut(write_image: Write) -> None:
    lut = Dataset()
    lut.LUTDescriptor = [4, 0, 16]
    lut.ModalityLUTType = "US"
    lut.add_new("LUTData", "US", [10, 30, 20, 4000])
    pixels = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    path = write_image(pixels, BitsStored=12, HighBit=11, ModalityLUTSequence=[lut])
    image = radiograph_values(open_image(path))
    assert image.full_range == (0.0, 65535.0)
    assert image.values.max() == 4000


def test_the_full_range_of_a_windowed_film_is_that_of_its_greys(write_image: Write) -> None:
    window = {"WindowCenter": 600, "WindowWidth": 1000, "BitsStored": 12, "HighBit": 11}
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        path = write_image(PIXELS, **window, PhotometricInterpretation=photometric)
        image = radiograph_values(open_image(path), voi=True)
        assert image.full_range == (0.0, 1.0)
        assert 0.0 <= image.values.min() <= image.values.max() <= 1.0


@pytest.mark.parametrize(
    ("name", "white"), [("examples_palette.dcm", 65_535.0), ("examples_rgb_color.dcm", 255.0)]
)
def test_the_full_range_of_colour_is_that_of_its_luminance(
    name: str, white: float, sample: Callable[[str], Path]
) -> None:
    image = radiograph_values(open_image(sample(name)))
    assert image.full_range == (0.0, white)
    assert 0.0 <= image.values.min() <= image.values.max() <= white * 1.0001


def test_a_negative_is_turned_round_within_the_full_range() -> None:
    chest = replace(FULL, polarity="chest")
    rows, columns = np.mgrid[0:64, 0:64] / 63.0
    picture = (600 * rows + 300 * np.exp(-(((columns - 0.5) / 0.15) ** 2))).astype(np.float32)
    expected = prepare_radiograph(picture, chest, CPU, full_range=(0.0, 1023.0))
    turned = prepare_radiograph(1023.0 - picture, chest, CPU, full_range=(0.0, 1023.0))
    assert torch.allclose(turned, expected, atol=1e-3)
