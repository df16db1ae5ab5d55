"""Decoded values, tables and windows against DCMTK, GDCM and numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dcmtk_pixels
import gdcm_pixels
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian

from inference.image_file import frame_count, open_image
from inference.lookup_tables import lookup_table
from inference.pixels import hounsfield_values, radiograph_values
from inference.voi import header_window, voi_greys
from inference.windows import BRAIN, SOFT, SUBDURAL, VoiLutFunction, Window

Sample = Callable[[str], Path]
Write = Callable[..., Path]

WEIGHTS = np.array([0.299, 0.587, 0.114])
# DCMTK cuts what is between two levels of 16 bits; single precision adds its own rounding.
LEVEL = 1.01 / 65535

# One or more files of each transfer syntax that DCMTK decodes: native in both byte orders,
# implicit, deflated, RLE, JPEG baseline, extended (12 bit), lossless, JPEG-LS and near-lossless.
GREY = [
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_padded.dcm",
    "emri_small_big_endian.dcm",
    "emri_small_RLE.dcm",
    "image_dfl.dcm",
    "MR_small_RLE.dcm",
    "JPGExtended.dcm",
    "JPEG-lossy.dcm",
    "JPEG-LL.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "bad_sequence.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "emri_small_jpeg_ls_lossless.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR-SIEMENS-DICOM-WithOverlays.dcm",
]
COLOUR = [
    "SC_rgb_rle.dcm",
    "SC_rgb_rle_16bit.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_jpeg_no_color_transform.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_dcmtk_+eb+cy+np.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "SC_rgb_jls_lossy_sample.dcm",
    "SC_rgb_expb_16bit.dcm",
    "ExplVR_BigEnd.dcm",
    "color-pl.dcm",
    "color-px.dcm",
    "examples_ybr_color.dcm",
]


@pytest.mark.peer
@pytest.mark.parametrize("name", GREY)
def test_grey_values_are_those_that_dcmtk_decodes(
    sample: Sample, tmp_path: Path, name: str
) -> None:
    dataset = open_image(sample(name))
    for index in {0, frame_count(dataset) - 1}:
        expected, header = dcmtk_pixels.stored(sample(name), tmp_path, index)
        slope, intercept = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
        expected = expected * float(slope) + float(intercept)
        assert np.array_equal(radiograph_values(dataset, index).values, expected)


@pytest.mark.peer
@pytest.mark.parametrize("name", COLOUR)
def test_luminance_is_that_of_what_dcmtk_decodes(sample: Sample, tmp_path: Path, name: str) -> None:
    expected, header = dcmtk_pixels.stored(sample(name), tmp_path)
    assert header.PhotometricInterpretation == "RGB"
    image = radiograph_values(open_image(sample(name)))
    np.testing.assert_allclose(image.values, expected @ WEIGHTS, rtol=1e-6, atol=1e-4)
    assert "colour_to_luminance" in image.notes


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("SC_ybr_full_uncompressed.dcm", 2.0),
        ("SC_ybr_full_422_uncompressed.dcm", 2.0),
        ("OBXXXX1A.dcm", 1.01),
        ("OBXXXX1A_rle.dcm", 1.01),
        ("OBXXXX1A_expb.dcm", 1.01),
        ("examples_palette.dcm", 1.01),
    ],
)
def test_luminance_is_that_of_what_dcmtk_shows(
    sample: Sample, tmp_path: Path, name: str, off: float
) -> None:
    """DCMTK shows 8 bits: palettes of 16 are cut to them, chrominance is rounded on the way."""
    shown = dcmtk_pixels.shown(sample(name), tmp_path)
    image = radiograph_values(open_image(sample(name)))
    white = 65535 if "palette_to_luminance" in image.notes else 255
    assert np.abs(image.values / white - shown @ WEIGHTS).max() <= off / 255


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("emri_small.dcm", "emri_small_big_endian.dcm"),
        ("emri_small.dcm", "emri_small_RLE.dcm"),
        ("emri_small.dcm", "emri_small_jpeg_2k_lossless.dcm"),
        ("emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm"),
        ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"),
        ("OBXXXX1A_2frame.dcm", "OBXXXX1A_rle_2frame.dcm"),
        ("gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"),
        ("SC_rgb_32bit_2frame.dcm", "SC_rgb_rle_32bit_2frame.dcm"),
        ("US1_UNCR.dcm", "US1_J2KR.dcm"),
        ("color-pl.dcm", "color-px.dcm"),
        ("liver.dcm", "liver_expb.dcm"),
    ],
)
def test_every_frame_is_the_same_in_either_form(sample: Sample, one: str, other: str) -> None:
    """Bits stored below bits allocated, palettes and planes, in both byte orders."""
    first, second = open_image(sample(one)), open_image(sample(other))
    assert frame_count(first) == frame_count(second)
    for index in range(frame_count(first)):
        expected = radiograph_values(first, index)
        found = radiograph_values(second, index)
        assert np.array_equal(expected.values, found.values)
        assert expected.notes == found.notes


@pytest.mark.peer
@pytest.mark.parametrize("name", ["US1_J2KI.dcm", "MR2_J2KI.dcm", "693_J2KI.dcm"])
def test_lossy_jpeg_2000_is_as_gdcm_decodes_it(sample: Sample, name: str) -> None:
    if name.startswith("US"):
        # GDCM leaves the colours of this one transformed; its maker's own copy is the reference.
        expected = radiograph_values(open_image(sample("US1_UNCI.dcm"))).values
        found = radiograph_values(open_image(sample(name))).values
        assert np.abs(found - expected).max() <= 1.0
        return
    stored, dataset = gdcm_pixels.stored(sample(name))
    expected = stored.astype(np.float64) * float(dataset.get("RescaleSlope", 1))
    expected += float(dataset.get("RescaleIntercept", 0))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        expected = expected.max() + expected.min() - expected
    found = radiograph_values(open_image(sample(name))).values
    kept = stored != dataset.get("PixelPaddingValue", -1)
    np.testing.assert_allclose(found[kept], expected[kept], rtol=1e-6, atol=1e-3)


@pytest.mark.peer
@pytest.mark.parametrize("window", [BRAIN, SUBDURAL, SOFT, Window(35, 79.5), Window(600, 2800)])
@pytest.mark.parametrize("function", [VoiLutFunction.LINEAR, VoiLutFunction.SIGMOID])
@pytest.mark.parametrize("name", ["693_UNCR.dcm", "CT_small.dcm"])
def test_a_window_shows_a_real_slice_as_dcmtk_does(
    sample: Sample, tmp_path: Path, name: str, window: Window, function: VoiLutFunction
) -> None:
    option = "+Wfs" if function is VoiLutFunction.SIGMOID else "+Wfl"
    asked = [str(window.center), str(window.width)]
    expected = dcmtk_pixels.shown(sample(name), tmp_path, "+Ww", *asked, option)
    hu = hounsfield_values(open_image(sample(name))).values
    shown = Window(window.center, window.width, function=function).apply(hu)
    # DCMTK shows padding as it is; here it is air, which a wide sigmoid does not make black.
    assert np.abs(shown - expected)[hu > -1024].max() <= LEVEL


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("693_UNCR.dcm", VoiLutFunction.LINEAR),
        ("MR_small.dcm", VoiLutFunction.LINEAR),
        ("MR_small.dcm", VoiLutFunction.SIGMOID),
        ("RG1_UNCR.dcm", VoiLutFunction.LINEAR),
        ("RG3_UNCR.dcm", VoiLutFunction.SIGMOID),
    ],
)
def test_the_window_of_the_header_shows_what_dcmtk_shows(
    sample: Sample, tmp_path: Path, name: str, function: VoiLutFunction
) -> None:
    option = "+Wfs" if function is VoiLutFunction.SIGMOID else "+Wfl"
    expected = dcmtk_pixels.shown(sample(name), tmp_path, "+Wi", "1", option)
    dataset = open_image(sample(name))
    dataset.VOILUTFunction = str(function)
    image = radiograph_values(dataset, voi=True)
    assert "voi_applied" in image.notes
    inside = np.ones(expected.shape, dtype=bool)
    if "padding_replaced" in image.notes:
        inside = dataset.pixel_array != dataset.PixelPaddingValue
    assert np.abs(image.values - expected)[inside].max() <= LEVEL


@pytest.mark.peer
def test_a_rescale_with_a_fraction_is_within_one_value_of_dcmtk(
    sample: Sample, tmp_path: Path
) -> None:
    """DCMTK rounds modality values to whole numbers before it windows them."""
    expected = dcmtk_pixels.shown(sample("MR2_UNCR.dcm"), tmp_path, "+Wi", "1")
    dataset = open_image(sample("MR2_UNCR.dcm"))
    window = header_window(dataset, 0)
    assert window is not None
    found = radiograph_values(dataset, voi=True).values
    assert np.abs(found - expected).max() <= 1 / (window.width - 1) + LEVEL


@pytest.mark.peer
def test_a_voi_lut_shows_what_dcmtk_shows(sample: Sample, tmp_path: Path) -> None:
    expected = dcmtk_pixels.shown(sample("vlut_04.dcm"), tmp_path, "+Wl", "1")
    image = radiograph_values(open_image(sample("vlut_04.dcm")), voi=True)
    np.testing.assert_allclose(image.values, expected, atol=LEVEL)
    assert "voi_applied" in image.notes


@pytest.mark.peer
def test_a_modality_lut_gives_what_dcmtk_gives(sample: Sample, tmp_path: Path) -> None:
    """Its output is 16 bits, which DCMTK shows from 0 to white where no window is asked for."""
    expected = dcmtk_pixels.shown(sample("mlut_18.dcm"), tmp_path)
    image = radiograph_values(open_image(sample("mlut_18.dcm")))
    assert image.notes == ("modality_lut",)
    np.testing.assert_allclose(image.values / 65535, expected, atol=LEVEL)


def greys(window: Window, values: list[float]) -> list[float]:
    found: list[float] = window.apply(np.array(values, dtype=np.float64)).tolist()
    return found


def test_windows_worked_out_by_hand() -> None:
    """PS3.3 C.11.2.1.2.1: c 2048, w 4096 is the identity of 12 bits; c 2048, w 1 is a threshold."""
    identity = Window(2048, 4096)
    assert greys(identity, [0, 4095]) == [0, 1]
    assert greys(identity, [1365]) == pytest.approx([1 / 3])
    assert greys(Window(2048, 1), [2047, 2048]) == [0, 1]
    # c 0, w 100: 50 and more is white, -50 and less black, and -49.5 + 99 / 2 half way.
    assert greys(Window(0, 100), [-50, 49]) == [0, 1]
    assert greys(Window(0, 100), [-0.5]) == pytest.approx([0.5])
    # C.11.2.1.3.2 (exact): c 127.5, w 255 is the identity of 8 bits.
    exact = Window(127.5, 255, function=VoiLutFunction.LINEAR_EXACT)
    assert greys(exact, [0, 51, 255]) == pytest.approx([0, 0.2, 1])
    # C.11.2.1.3.1: half at the centre, 1 / (1 + e^-2) half a width above.
    curve = Window(40, 80, function=VoiLutFunction.SIGMOID)
    assert greys(curve, [40, 80, 0]) == pytest.approx([0.5, 0.880797078, 0.119202922])


def table(data: Any, descriptor: list[int], vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if min(descriptor) >= 0 else "SS", descriptor)
    item.add_new("LUTData", vr, data)
    return item


@pytest.mark.parametrize(
    ("item", "signed", "values", "expected"),
    [
        # Below the first and above the last entry these two hold.
        (table([10, 20, 30], [3, 5, 16]), False, [0, 5, 6, 7, 900], [10, 10, 20, 30, 30]),
        # A first value that was read with the other sign.
        (table([10, 20, 30], [3, 65534, 16]), True, [-3, -2, -1, 0], [10, 10, 20, 30]),
        (table([10, 20, 30], [3, -2, 16]), True, [-3, -2, -1, 0], [10, 10, 20, 30]),
        # Bytes: of 16 bits each, of 8 bits each, and of 8 bits in 16.
        (table(b"\x0a\x00\x14\x01", [2, 0, 16], "OW"), False, [0, 1], [10, 276]),
        (table(b"\x0a\x14\x1e\x00", [3, 0, 8], "OW"), False, [0, 1, 2], [10, 20, 30]),
        (table(b"\x0a\x00\x14\x00", [2, 0, 8], "OW"), False, [0, 1], [10, 20]),
        # 12 bits, which no standard allows in a Modality LUT and real files have.
        (table([4095, 0], [2, 0, 12]), False, [0, 1], [4095, 0]),
    ],
)
def test_tables_worked_out_by_hand(
    item: Dataset, signed: bool, values: list[int], expected: list[int]
) -> None:
    found = lookup_table(item, "LUTDescriptor", "LUTData", signed=signed, little_endian=True)
    assert found is not None
    assert found.apply(np.array(values)).tolist() == expected


def test_a_table_of_a_big_endian_file() -> None:
    wide = table(b"\x00\x0a\x01\x14", [2, 0, 16], "OW")
    found = lookup_table(wide, "LUTDescriptor", "LUTData", signed=False, little_endian=False)
    assert found is not None and found.entries.tolist() == [10, 276]
    narrow = table(b"\x14\x0a\x00\x1e", [3, 0, 8], "OW")
    found = lookup_table(narrow, "LUTDescriptor", "LUTData", signed=False, little_endian=False)
    assert found is not None and found.entries.tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    "item",
    [
        table([1, 2], [3, 0, 16]),
        table([1, 2, 3], [3, 0, 7]),
        table([1, 2, 3], [3, 0]),
        Dataset(),
    ],
)
def test_a_damaged_table_is_none(item: Dataset) -> None:
    assert lookup_table(item, "LUTDescriptor", "LUTData", signed=False, little_endian=True) is None


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("first", [-2, 0, 3])
def test_a_modality_lut_of_a_file(
    write_image: Write, tmp_path: Path, big: bool, first: int
) -> None:
    pixels = np.arange(-4, 4, dtype=np.int16).reshape(2, 4)
    item = table([0, 100, 1000], [3, first, 16])
    path = write_image(pixels, ModalityLUTSequence=[item], RescaleSlope=None, RescaleIntercept=None)
    if big:
        dataset = Dataset()
        for element in (read := dcmread(path)):
            dataset.add(element)
        dataset.PixelData = pixels.astype(">i2").tobytes()
        dataset.file_meta = read.file_meta
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        path = tmp_path / "big.dcm"
        dataset.save_as(path, enforce_file_format=True)
    expected = np.array([0, 100, 1000])[(pixels - first).clip(0, 2)]
    for read in (radiograph_values, hounsfield_values):
        image = read(open_image(path))
        assert np.array_equal(image.values, expected)
        assert image.notes == ("modality_lut",)


def test_a_voi_lut_comes_before_a_window(write_image: Write) -> None:
    pixels = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    voi = {"WindowCenter": 2, "WindowWidth": 4}
    windowed = open_image(write_image(pixels, **voi))
    found = voi_greys(pixels.astype(np.float32), windowed, 0)
    assert found is not None
    np.testing.assert_allclose(found, [[0, 1 / 3], [2 / 3, 1]], rtol=1e-6)
    item = table([0, 15, 0, 255], [4, 0, 8])
    both = open_image(write_image(pixels, VOILUTSequence=[item], **voi))
    found = voi_greys(pixels.astype(np.float32), both, 0)
    assert found is not None
    np.testing.assert_allclose(found, [[0, 15 / 255], [0, 1]], rtol=1e-6)
    neither = open_image(write_image(pixels, WindowCenter=3, WindowWidth=0))
    assert voi_greys(pixels.astype(np.float32), neither, 0) is None
