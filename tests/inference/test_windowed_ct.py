"""CT slices that are pictures of 8 bits: their greys become Hounsfield units again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage

from inference.errors import NotAnalysableError
from inference.image_file import open_image
from inference.pixels import hounsfield_values
from inference.reading import NotAnalysed
from inference.windows import BRAIN, VoiLutFunction, Window

Write = Callable[..., Path]
Sample = Callable[[str], Path]

GREYS = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
RESTORED = "windowed_8_bit_restored"
ASSUMED = "brain_window_assumed"


def test_without_a_window_the_greys_are_of_the_brain_window(write_image: Write) -> None:
    image = hounsfield_values(open_image(write_image(np.array([[0, 51], [204, 255]], np.uint8))))
    np.testing.assert_allclose(image.values, [[0, 16], [64, 80]], rtol=1e-6)
    assert image.notes == (RESTORED, ASSUMED)


@pytest.mark.parametrize("rescale", [{"RescaleSlope": None, "RescaleIntercept": None}, {}])
@pytest.mark.parametrize(
    ("window", "black", "white"),
    [
        ({"WindowCenter": 40, "WindowWidth": 80}, 0, 79),
        ({"WindowCenter": [80, 40], "WindowWidth": [200, 80]}, -20, 179),
        ({"WindowCenter": 40, "WindowWidth": 380, "VOILUTFunction": "LINEAR_EXACT"}, -150, 230),
        ({"WindowCenter": 500, "WindowWidth": 2000}, -500, 1499),
    ],
)
def test_greys_go_back_through_the_window_of_the_header(
    write_image: Write, rescale: dict[str, Any], window: dict[str, Any], black: int, white: int
) -> None:
    image = hounsfield_values(open_image(write_image(GREYS, **rescale, **window)))
    np.testing.assert_allclose([image.values.min(), image.values.max()], [black, white], atol=1e-3)
    assert RESTORED in image.notes
    assert ASSUMED not in image.notes


@pytest.mark.parametrize("function", VoiLutFunction)
def test_what_was_shown_is_measured_again_within_half_a_grey(
    write_image: Write, function: VoiLutFunction
) -> None:
    window = Window(60, 120, function=function)
    hu = np.linspace(20, 100, 400, dtype=np.float32).reshape(20, 20)
    shown = np.rint(window.apply(hu) * 255).astype(np.uint8)
    path = write_image(shown, WindowCenter=60, WindowWidth=120, VOILUTFunction=str(function))
    found = hounsfield_values(open_image(path)).values
    assert np.abs(found - hu).max() < 0.6
    # Under the window that made it, the picture is the same to within the rounding of its greys.
    assert np.abs(window.apply(found) * 255 - shown).max() < 0.6


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 128, "WindowWidth": 256},
        {"WindowCenter": 127, "WindowWidth": 255},
        {"WindowCenter": 127.5, "WindowWidth": 255, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 40, "WindowWidth": 0},
        {"WindowCenter": 40, "WindowWidth": 1},
        {"WindowCenter": 32768, "WindowWidth": 65535},
        {"WindowCenter": 40, "WindowWidth": 80, "VOILUTFunction": "CURVED"},
        {"WindowCenter": 40},
    ],
)
def test_a_window_of_greys_or_of_nonsense_is_not_believed(
    write_image: Write, window: dict[str, Any]
) -> None:
    image = hounsfield_values(open_image(write_image(GREYS, **window)))
    assert (image.values.min(), image.values.max()) == (0, 80)
    assert image.notes == (RESTORED, ASSUMED)


@pytest.mark.parametrize("intercept", [-1000, -1024, -2048])
def test_a_rescale_left_over_from_the_measurement_is_not_believed(
    write_image: Write, intercept: int
) -> None:
    """Under it the whole picture would be air."""
    path = write_image(GREYS, RescaleIntercept=intercept, WindowCenter=40, WindowWidth=80)
    image = hounsfield_values(open_image(path))
    assert (image.values.min(), image.values.max()) == (0, 79)
    assert image.notes == (RESTORED,)


LUT = Dataset()
LUT.LUTDescriptor, LUT.ModalityLUTType = [256, 0, 16], "HU"
LUT.add_new("LUTData", "US", list(range(256)))


@pytest.mark.parametrize(
    ("pixels", "elements", "expected"),
    [
        (GREYS, {"RescaleSlope": 0.5}, GREYS * 0.5),
        (GREYS, {"RescaleSlope": 8, "RescaleIntercept": -1024}, GREYS * 8.0 - 1024),
        (GREYS, {"RescaleIntercept": -100}, GREYS - 100.0),
        (GREYS, {"ModalityLUTSequence": [LUT]}, GREYS),
        ((GREYS.astype(np.int16) - 128).astype(np.int8), {}, GREYS - 128.0),
        (GREYS.astype(np.uint16), {"BitsStored": 16, "RescaleIntercept": -50}, GREYS - 50.0),
        # Nothing is cut off at white: these may be units of a head without its skull.
        (GREYS.astype(np.uint16) // 2, {"BitsStored": 16}, GREYS // 2),
    ],
)
def test_a_measurement_of_few_values_is_left_alone(
    write_image: Write, pixels: np.ndarray, elements: dict[str, Any], expected: np.ndarray
) -> None:
    image = hounsfield_values(open_image(write_image(pixels, **elements)))
    assert np.array_equal(image.values, expected)
    assert RESTORED not in image.notes


def test_a_picture_in_wider_cells_is_known_by_its_cut_off_skull(write_image: Write) -> None:
    pixels = GREYS.astype(np.uint16)
    pixels[-1] = 255
    for bits in (12, 16):
        image = hounsfield_values(open_image(write_image(pixels, BitsStored=bits)))
        assert image.values.max() == 80
        assert RESTORED in image.notes


def test_a_picture_that_shows_low_values_white_is_turned_round(write_image: Write) -> None:
    path = write_image(GREYS, PhotometricInterpretation="MONOCHROME1")
    image = hounsfield_values(open_image(path))
    expected = hounsfield_values(open_image(write_image(255 - GREYS))).values
    np.testing.assert_allclose(image.values, expected, atol=1e-4)
    assert image.notes == (RESTORED, "monochrome1_inverted", ASSUMED)


def test_a_measurement_that_is_shown_inverted_stays_what_it_is(write_image: Write) -> None:
    pixels = np.array([[-1000, 0], [40, 1000]], dtype=np.int16)
    image = hounsfield_values(
        open_image(write_image(pixels, PhotometricInterpretation="MONOCHROME1"))
    )
    assert np.array_equal(image.values, pixels)
    assert image.notes == ("monochrome1_kept",)


def write_colour(path: Path, template: Path, pixels: np.ndarray, **elements: Any) -> Path:
    dataset = dcmread(template)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def test_a_picture_whose_colours_are_greys_is_read(write_image: Write, tmp_path: Path) -> None:
    template = write_image(GREYS, WindowCenter=40, WindowWidth=80)
    expected = hounsfield_values(open_image(template)).values
    path = write_colour(tmp_path / "grey.dcm", template, np.stack([GREYS] * 3, axis=-1))
    image = hounsfield_values(open_image(path))
    np.testing.assert_allclose(image.values, expected, atol=1e-3)
    assert image.notes == ("colour_to_luminance", RESTORED)


def test_a_jpeg_of_greys_in_colour_is_read(write_image: Write, tmp_path: Path) -> None:
    head = np.kron(GREYS, np.ones((8, 8), np.uint8))
    template = write_image(head)
    jpeg = imagecodecs.jpeg8_encode(np.stack([head] * 3, axis=-1), level=95)
    path = write_colour(
        tmp_path / "jpeg.dcm",
        template,
        np.stack([head] * 3, axis=-1),
        PhotometricInterpretation="YBR_FULL_422",
        PixelData=encapsulate([jpeg]),
    )
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path)
    image = hounsfield_values(open_image(path))
    expected = hounsfield_values(open_image(template)).values
    assert np.abs(image.values - expected).max() < 3
    assert image.notes == ("colour_to_luminance", RESTORED, ASSUMED)


@pytest.mark.parametrize("tint", [3, 40])
def test_one_coloured_pixel_makes_it_no_ct(write_image: Write, tmp_path: Path, tint: int) -> None:
    pixels = np.stack([GREYS // 2] * 3, axis=-1)
    pixels[4, 4, 0] += tint
    path = write_colour(tmp_path / "tinted.dcm", write_image(GREYS), pixels)
    with pytest.raises(NotAnalysableError) as refusal:
        hounsfield_values(open_image(path))
    assert refusal.value.code == NotAnalysed.UNSUPPORTED_PIXELS
    assert refusal.value.reason.endswith("RGB holds no Hounsfield units")


@pytest.mark.parametrize("name", ["SC_rgb.dcm", "SC_rgb_16bit.dcm", "OBXXXX1A.dcm"])
def test_colour_wider_cells_and_palettes_are_no_ct(sample: Sample, name: str) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        hounsfield_values(open_image(sample(name)))
    assert refusal.value.code == NotAnalysed.UNSUPPORTED_PIXELS


def test_a_real_slice_and_its_screenshot_look_alike(sample: Sample, write_image: Write) -> None:
    hu = hounsfield_values(open_image(sample("693_UNCR.dcm"))).values
    shown = np.rint(BRAIN.apply(hu) * 255).astype(np.uint8)
    found = hounsfield_values(open_image(write_image(shown))).values
    assert np.abs(BRAIN.apply(found) - BRAIN.apply(hu)).max() <= 0.5 / 255 + 1e-6
