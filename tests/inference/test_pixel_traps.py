"""Traps of the pixel data, a file for each: its behaviour, its note or its reason."""

from __future__ import annotations

import contextlib
import functools
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from inference import image_file
from inference.decode_pool import DecodePool
from inference.decode_settings import PoolSettings
from inference.decode_task import DecodeTask
from inference.decoder_table import PREFERENCE
from inference.errors import NotAnalysableError
from inference.image_file import frame_count, open_image
from inference.inflated import inflates_beyond
from inference.input_spec import InputSpec
from inference.open_source import index_file, open_source
from inference.pixel_notes import PixelNote, count_fallback
from inference.pixels import hounsfield_values, radiograph_values
from inference.reading import NotAnalysed, SourceImage

Sample = Callable[[str], Path]
Write = Callable[..., Path]
Pixels = np.ndarray[Any, Any]

RAMP = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def compressed(path: Path, syntax: UID, frames: list[bytes], **elements: Any) -> Path:
    """Replace the pixels of a file by codestreams."""
    dataset = dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


def refusal(path: Path, read: Callable[[Dataset], object]) -> NotAnalysableError:
    with pytest.raises(NotAnalysableError) as refused:
        read(open_image(path))
    return refused.value


LOSSLESS: list[tuple[UID, Callable[[Pixels], bytes]]] = [
    (JPEGLossless, lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12)),
    (JPEGLSLossless, imagecodecs.jpegls_encode),
    (JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="J2K", level=0)),
    (HTJ2KLossless, lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
    (HTJ2KLosslessRPCL, lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
    (HTJ2K, lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
]


def test_a_codestream_that_needs_another_decoder_is_noted(write_image: Write) -> None:
    """JPEG 2000 in the boxes of a JP2 file is not what the standard allows, and there is."""
    pixels = RAMP % 4096
    content = imagecodecs.jpeg2k_encode(pixels, codecformat="JP2", level=0)
    path = compressed(write_image(pixels), JPEG2000Lossless, [content])
    source = SourceImage(1, "1", "1", str(JPEG2000Lossless), path, index_file(path))
    image = radiograph_values(open_source(source)[0])
    assert np.array_equal(image.values, pixels)
    assert image.notes == ("decoder_fallback",)
    facts: dict[str, object] = {}
    for _ in range(2):
        count_fallback(facts, source.transfer_syntax_uid, image.notes)
    count_fallback(facts, source.transfer_syntax_uid, ())
    assert facts == {"decoder_fallbacks": {JPEG2000Lossless.name: 2}}
    # One that is as it should be is read by the first, which nobody needs to know.
    plain = imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", level=0)
    path = compressed(write_image(pixels), JPEG2000Lossless, [plain])
    source = SourceImage(1, "1", "1", str(JPEG2000Lossless), path, index_file(path))
    assert radiograph_values(open_source(source)[0]).notes == ()


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS, ids=lambda one: getattr(one, "name", ""))
def test_codestreams_of_another_encoder_are_read(
    write_image: Write, syntax: UID, encode: Callable[[Pixels], bytes]
) -> None:
    path = write_image(RAMP, BitsStored=12, RescaleIntercept=-1024)
    compressed(path, syntax, [encode(RAMP)])
    image = hounsfield_values(open_image(path))
    assert np.array_equal(image.values, RAMP - 1024.0)
    assert image.notes == ()


def test_every_syntax_that_is_said_to_be_read_has_a_decoder_here() -> None:
    from inference.decoders import _available

    for syntax, names in PREFERENCE.items():
        present = {*_available(UID(syntax)), "imagecodecs"}
        assert present & set(names), UID(syntax).name


@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.94", "1.2.3.4.5"],
)
def test_video_jpip_and_unknown_syntaxes_are_refused(write_image: Write, syntax: str) -> None:
    path = compressed(write_image(RAMP), UID(syntax), [bytes(100)])
    refused = refusal(path, radiograph_values)
    assert refused.code == NotAnalysed.UNDECODABLE
    assert "transfer syntax" in refused.reason


@pytest.mark.filterwarnings("ignore:The decoded RLE segment")
@pytest.mark.parametrize("processes", [0, 1])
def test_a_decoder_that_panics_is_one_that_fails(write_image: Write, processes: int) -> None:
    """More columns than the header says: pylibjpeg-rle raises what is no Exception."""
    whole = write_image(RAMP)
    whole = whole.rename(whole.with_name("whole.dcm"))
    cells = RAMP.astype(np.uint32)
    path = write_image(cells[:, :-1])
    planes = [(cells >> shift).astype(np.uint8) for shift in (24, 16, 8, 0)]
    compressed(path, RLELossless, [_rle(planes)])
    tasks = [
        DecodeTask(SourceImage(1, "1", "1", "1", one), 0, InputSpec("radiograph", 64))
        for one in (path, whole)
    ]
    with DecodePool(PoolSettings(processes)) as pool:
        found, after = pool.decode(tasks)
        before = pool.pids
        list(pool.decode(tasks))
        assert pool.pids == before
    assert not isinstance(found, NotAnalysableError)
    assert not isinstance(after, NotAnalysableError)
    # The next decoder of the syntax leaves out what is too much.
    assert PixelNote.DECODER_FALLBACK in found.notes
    assert np.array_equal(found.values.ravel(), RAMP.ravel()[: found.values.size])
    assert np.array_equal(after.values, RAMP)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [11, 15])
def test_an_overlay_in_the_unused_bits_is_dropped_and_noted(
    write_image: Write, signed: bool, high: int
) -> None:
    """PS3.5 8.1.2 (retired): one bit of each cell is an overlay, here native and in RLE."""
    pixels = (RAMP % 4096).astype(np.int32) - (2048 if signed else 0)
    shifted = (pixels & 0xFFF) << (high - 11)
    cells = (shifted | ((RAMP % 3 == 0) << (12 if high == 11 else 3))).astype(np.uint16)
    described = {
        "BitsStored": 12,
        "HighBit": high,
        "PixelRepresentation": int(signed),
        "RescaleIntercept": -1024,
    }
    path = write_image(cells, **described)
    native = radiograph_values(open_image(path))
    planes = [(cells >> 8).astype(np.uint8), (cells & 0xFF).astype(np.uint8)]
    rle = radiograph_values(open_image(compressed(path, RLELossless, [_rle(planes)])))
    for image in (native, rle):
        assert np.array_equal(image.values, pixels - 1024.0)
        assert image.notes == ("unused_bits_dropped",)


def test_a_sign_that_fills_the_cell_is_nothing_to_note(write_image: Write) -> None:
    pixels = np.array([[-5, 7], [-2048, 2047]], dtype=np.int16)
    for cells in (pixels, (pixels.view(np.uint16) & 0xFFF).view(np.int16)):
        image = radiograph_values(open_image(write_image(cells, BitsStored=12)))
        assert np.array_equal(image.values, pixels)
        assert image.notes == ()


def test_an_overlay_of_a_real_file_is_no_part_of_it(sample: Sample) -> None:
    image = radiograph_values(open_image(sample("MR-SIEMENS-DICOM-WithOverlays.dcm")))
    assert image.values.max() < 4096
    assert "unused_bits_dropped" not in image.notes  # its overlays are elements of their own


def test_bits_beyond_the_stored_ones_in_a_lossless_jpeg_are_dropped(write_image: Write) -> None:
    cells = RAMP | 0x8000
    path = write_image(RAMP, BitsStored=12, RescaleIntercept=-1024)
    compressed(path, JPEGLossless, [imagecodecs.ljpeg_encode(cells, bitspersample=16)])
    assert np.array_equal(hounsfield_values(open_image(path)).values, RAMP - 1024.0)


@pytest.mark.parametrize("bits", [10, 12])
def test_a_lossy_12_bit_jpeg_does_not_wrap(write_image: Write, sample: Sample, bits: int) -> None:
    """What the codec makes brighter than white is white."""
    dataset = dcmread(sample("JPGExtended.dcm"))
    dataset.BitsStored, dataset.HighBit = bits - 2, bits - 3
    path = write_image(RAMP)
    dataset.save_as(path)
    image = radiograph_values(open_image(path))
    assert image.values.max() == min(264, 2 ** (bits - 2) - 1)
    assert dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit


@pytest.mark.parametrize(
    ("pixels", "padding", "limit"),
    [
        (np.array([[-2000, 40], [60, -2000]], np.int16), 63536, None),  # as US, of signed pixels
        (np.array([[-2000, 40], [60, -1500]], np.int16), -2000, -1500),
        (np.array([[-2000, 40], [60, -1500]], np.int16), 64036, 63536),
        (np.array([[63536, 40], [60, 63536]], np.uint16), -2000, None),  # as SS, of unsigned ones
        (np.array([[0, 40], [60, 10]], np.uint16), 0, 10),
    ],
)
def test_padding_of_either_sign_and_as_a_range(
    write_image: Write, pixels: Pixels, padding: int, limit: int | None
) -> None:
    path = write_image(pixels)
    dataset = dcmread(path)
    for keyword, value in (("PixelPaddingValue", padding), ("PixelPaddingRangeLimit", limit)):
        if value is not None:
            dataset.add_new(keyword, "SS" if value < 0 else "US", value)
    dataset.save_as(path)
    image = hounsfield_values(open_image(path))
    assert image.values.tolist() == [[-1024, 40], [60, -1024]]
    assert image.notes == ("padding_replaced",)
    film = radiograph_values(open_image(path))
    assert film.values.tolist() == [[40, 40], [60, 40]]


@pytest.mark.parametrize(
    ("signed", "cell", "padding"),
    [(True, -3024, -3024), (True, -3024, 62512), (False, 63536, 63536), (False, 63536, -2000)],
)
def test_padding_that_12_bits_have_no_room_for(
    write_image: Write, signed: bool, cell: int, padding: int
) -> None:
    """Cut to its bits it were 1072 HU, as dense as bone."""
    pixels = np.array([[cell, 1064], [1084, cell]], np.int16 if signed else np.uint16)
    for carried in (0, 0x4000):
        pixels[0, 1] = 1064 | carried
        path = write_image(pixels, BitsStored=12, RescaleIntercept=-1024)
        dataset = dcmread(path)
        dataset.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
        dataset.save_as(path)
        image = hounsfield_values(open_image(path))
        assert image.values.tolist() == [[-1024, 40], [60, -1024]]
        dropped = ("unused_bits_dropped",) if carried else ()
        assert image.notes == (*dropped, "padding_replaced")
        film = radiograph_values(open_image(path))
        assert film.values.tolist() == [[40, 40], [60, 40]]


def test_a_small_file_that_inflates_to_a_gigabyte_is_refused_before_it_does(
    write_image: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte takes seconds; here it is an eighth of one."""
    eighth = functools.partial(inflates_beyond, most=1 << 27)
    monkeypatch.setattr(image_file, "inflates_beyond", eighth)
    path = write_image(RAMP)
    dataset = dcmread(path)
    del dataset.PixelData
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    head = path.read_bytes()
    # What goes on without an end: a mebibyte of zeros, repeated.
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    once = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)
    at = head.index(b"1.2.840.10008.1.2.1.99")
    begins = next(place for place in range(at, len(head)) if _inflates(head[place:]))
    path.write_bytes(head[:begins] + once * 130)
    assert path.stat().st_size < 1 << 18
    tracemalloc.start()
    reason = refusal(path, lambda _: None).reason
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "inflates to more than 1 GiB" in reason
    assert peak < 1 << 24
    path.write_bytes(head[:begins] + once * 20 + b"\xff" * (1 << 20))  # damaged behind
    assert refusal(path, lambda _: None).code == NotAnalysed.UNDECODABLE


def _inflates(content: bytes) -> bool:
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content)[:2] == b"\x08\0"
    return False


def test_padding_that_is_nowhere_or_everywhere(write_image: Write) -> None:
    pixels = np.array([[5, 40], [60, 7]], np.int16)
    nowhere = hounsfield_values(open_image(write_image(pixels, PixelPaddingValue=-2000)))
    assert nowhere.notes == ()
    everywhere = write_image(np.full((4, 4), 5, np.int16), PixelPaddingValue=5)
    assert (radiograph_values(open_image(everywhere)).values == 5).all()
    assert (hounsfield_values(open_image(everywhere)).values == -1024).all()


@pytest.mark.parametrize("lacking", ["value", "number"])
def test_padding_that_nobody_understands_is_noted(write_image: Write, lacking: str) -> None:
    path = write_image(np.array([[5, 40], [60, 7]], np.int16))
    dataset = dcmread(path)
    if lacking == "value":
        dataset.add_new("PixelPaddingRangeLimit", "SS", 5)
    else:
        dataset.add_new("PixelPaddingValue", "SS", [5, 7])
    dataset.save_as(path)
    for read in (hounsfield_values, radiograph_values):
        image = read(open_image(path))
        assert image.values.tolist() == [[5, 40], [60, 7]]
        assert image.notes == ("padding_ignored",)


@pytest.mark.parametrize("double", [False, True])
def test_float_pixels_and_their_padding(write_image: Write, tmp_path: Path, double: bool) -> None:
    pixels = np.array([[-3e38, 40.25], [60.5, -1000]], np.float64 if double else np.float32)
    dataset = dcmread(write_image(RAMP))
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = 2, 2, 64 if double else 32
    kind = "DoubleFloat" if double else "Float"
    setattr(dataset, f"{kind}PixelData", pixels.tobytes())
    setattr(dataset, f"{kind}PixelPaddingValue", float(pixels[0, 0]))
    dataset.save_as(tmp_path / "float.dcm")
    image = hounsfield_values(open_image(tmp_path / "float.dcm"))
    assert image.values.tolist() == [[-1024, 40.25], [60.5, -1000]]
    assert image.notes == ("padding_replaced",)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_32_bit_cells_are_read(write_image: Write, dtype: type) -> None:
    pixels = np.array([[0, 40], [60, 100_000]], dtype)
    assert np.array_equal(hounsfield_values(open_image(write_image(pixels))).values, pixels)


@pytest.mark.parametrize(("allocated", "stored"), [(12, 12), (24, 24), (0, 12)])
def test_cells_that_are_no_whole_bytes_are_refused(
    write_image: Write, allocated: int, stored: int
) -> None:
    path = write_image(RAMP, BitsAllocated=allocated, BitsStored=stored)
    assert refusal(path, radiograph_values).code == NotAnalysed.UNDECODABLE


@pytest.mark.parametrize(
    "keyword", ["BitsStored", "HighBit", "PixelRepresentation", "BitsAllocated"]
)
def test_a_missing_description_of_the_cells_is_refused_or_has_a_default(
    write_image: Write, keyword: str
) -> None:
    path = write_image(RAMP, BitsStored=16)
    dataset = dcmread(path)
    delattr(dataset, keyword)
    dataset.save_as(path)
    if keyword == "HighBit":
        image = radiograph_values(open_image(path))
        assert np.array_equal(image.values, RAMP)
        assert image.notes == ("high_bit_defaulted",)
    else:
        assert refusal(path, radiograph_values).code == NotAnalysed.UNDECODABLE


def test_a_negative_slope_turns_the_values_round(write_image: Write) -> None:
    """The header says so, and Photometric Interpretation is of what comes after (PS3.3 C.11)."""
    path = write_image(RAMP, RescaleSlope=-2, RescaleIntercept=100)
    for read in (radiograph_values, hounsfield_values):
        expected = np.maximum(100.0 - 2.0 * RAMP, -1024.0 if read is hounsfield_values else -1e9)
        assert np.array_equal(read(open_image(path)).values, expected)


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"RescaleType": "Z_EFF"}, "Rescale Type (0028,1054) says Z_EFF"),
        ({"RescaleType": "HU_MOD"}, "Rescale Type (0028,1054) says HU_MOD"),
        ({"RescaleType": "MGML"}, "Rescale Type (0028,1054) says MGML"),
        (
            {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"]},
            "Image Type (0008,0008) says EFF_ATOMIC_NUM",
        ),
        (
            {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"]},
            "Image Type (0008,0008) says MAT_REMOVED",
        ),
    ],
)
def test_values_that_are_declared_to_be_no_hounsfield_units_are_refused(
    write_image: Write, elements: dict[str, Any], says: str
) -> None:
    refused = refusal(write_image(RAMP, **elements), hounsfield_values)
    assert refused.code == NotAnalysed.UNSUPPORTED_PIXELS
    assert refused.reason == f"the values are no Hounsfield units: {says}"
    assert radiograph_values(open_image(write_image(RAMP, **elements))).notes == ()


@pytest.mark.parametrize(
    ("elements", "notes"),
    [
        ({"RescaleType": "HU"}, ()),
        ({"RescaleType": "US"}, ("rescale_type_ignored",)),
        ({"RescaleType": "HOUNSFIELD"}, ("rescale_type_ignored",)),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"]}, ()),
        ({"ImageType": "ORIGINAL"}, ()),
    ],
)
def test_other_values_of_a_ct_are_hounsfield_units(
    write_image: Write, elements: dict[str, Any], notes: tuple[str, ...]
) -> None:
    assert hounsfield_values(open_image(write_image(RAMP, **elements))).notes == notes


@pytest.mark.parametrize("intercept", [0, -1024])
def test_a_lost_sign_comes_back_only_where_it_is(write_image: Write, intercept: int) -> None:
    values = np.array([[-1000, -1], [40, 2000]], np.int16)
    path = write_image(values.view(np.uint16), RescaleIntercept=intercept)
    image = hounsfield_values(open_image(path))
    assert np.array_equal(image.values, np.maximum(values + float(intercept), -1024))
    assert image.notes[0] == "unsigned_16_bit_repaired"
    for kept in ([[65000, 40000], [0, 1]], [[32767, 0], [40, 2000]]):
        stands = hounsfield_values(open_image(write_image(np.array(kept, np.uint16))))
        assert np.array_equal(stands.values, kept)
        assert stands.notes == ()


def enhanced(path: Path, frames: list[dict[str, Any]]) -> Path:
    """Give each frame its own pixel value transformation."""
    dataset = dcmread(path)
    dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = 4, 4
    dataset.PixelData = b"".join(
        np.full((4, 4), 1000 + index, np.uint16).tobytes() for index in range(len(frames))
    )
    groups = []
    for transformation in frames:
        item, group = Dataset(), Dataset()
        for keyword, value in transformation.items():
            setattr(item, keyword, value)
        group.PixelValueTransformationSequence = [item]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.save_as(path)
    return path


def test_each_frame_has_its_own_rescale_and_its_own_units(write_image: Write) -> None:
    frames: list[dict[str, Any]] = [
        {"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"},
        {"RescaleSlope": 2, "RescaleIntercept": -2000, "RescaleType": "HU"},
        {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "ED"},
    ]
    dataset = open_image(enhanced(write_image(RAMP), frames))
    assert frame_count(dataset) == 3
    for index, expected in ((0, -24), (1, 2)):
        image = hounsfield_values(dataset, index)
        assert (image.values == expected).all()
        assert image.notes == ()
    with pytest.raises(NotAnalysableError, match="says ED"):
        hounsfield_values(dataset, 2)


@pytest.mark.parametrize(
    ("elements", "noted"),
    [
        ({"PixelSpacing": [0.5, 0.5]}, False),
        ({"PixelSpacing": [0.5, 0.502]}, False),
        ({"PixelSpacing": [1.0, 0.5]}, True),
        ({"PixelAspectRatio": ["2", "1"]}, True),
        ({"PixelAspectRatio": ["1", "1"]}, False),
        ({"PixelSpacing": [0.5, 0.5], "PixelAspectRatio": ["2", "1"]}, False),
    ],
)
def test_pixels_that_are_not_square_are_noted(
    write_image: Write, elements: dict[str, Any], noted: bool
) -> None:
    for read in (radiograph_values, hounsfield_values):
        image = read(open_image(write_image(RAMP, **elements)))
        assert ("pixels_not_square" in image.notes) == noted
        assert np.array_equal(image.values, RAMP)


def test_what_the_header_says_of_grey_levels_and_extremes_changes_nothing(
    write_image: Write, sample: Sample, tmp_path: Path
) -> None:
    """Window, VOI LUT, presentation shape, smallest and largest value, ICC profile."""
    plain = radiograph_values(open_image(write_image(RAMP)))
    item = Dataset()
    item.LUTDescriptor = [2, 0, 16]
    item.add_new("LUTData", "US", [65535, 0])
    path = write_image(
        RAMP,
        WindowCenter=3,
        WindowWidth=2,
        VOILUTSequence=[item],
        PresentationLUTShape="INVERSE",
        SmallestImagePixelValue=17,
        LargestImagePixelValue=18,
    )
    told = radiograph_values(open_image(path))
    assert np.array_equal(told.values, plain.values)
    assert told.notes == plain.notes
    dataset = dcmread(sample("SC_rgb.dcm"))
    dataset.ICCProfile = bytes(200)
    dataset.save_as(tmp_path / "profile.dcm")
    with_profile = radiograph_values(open_image(tmp_path / "profile.dcm")).values
    assert np.array_equal(with_profile, radiograph_values(open_image(sample("SC_rgb.dcm"))).values)


def test_a_reader_that_asks_gets_the_grey_levels_of_the_header(write_image: Write) -> None:
    pixels = np.array([[0, 1], [2, 3]], np.uint16)
    path = write_image(
        pixels, WindowCenter=2, WindowWidth=4, PhotometricInterpretation="MONOCHROME1"
    )
    image = radiograph_values(open_image(path), voi=True)
    np.testing.assert_allclose(image.values, [[1, 2 / 3], [1 / 3, 0]], atol=1e-6)
    assert image.notes == ("voi_applied", "monochrome1_inverted")
    without = radiograph_values(open_image(write_image(pixels)), voi=True)
    assert np.array_equal(without.values, pixels)
    assert without.notes == ("voi_absent",)


def test_frames_are_found_by_an_extended_offset_table(write_image: Write) -> None:
    frames = [RAMP + index for index in range(5)]
    codestreams = [imagecodecs.ljpeg_encode(one, bitspersample=16) for one in frames]
    path = compressed(write_image(RAMP), JPEGLossless, codestreams, NumberOfFrames=5)
    dataset = dcmread(path)
    dataset.PixelData, table, lengths = encapsulate_extended(codestreams)
    dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = table, lengths
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path)
    opened = open_image(path)
    assert frame_count(opened) == 5
    for index, expected in enumerate(frames):
        assert np.array_equal(radiograph_values(opened, index).values, expected)


@pytest.mark.parametrize("table", [True, False])
def test_frames_in_several_fragments_and_many_of_them(write_image: Write, table: bool) -> None:
    frames = [RAMP + index for index in range(200)]
    codestreams = [imagecodecs.jpegls_encode(one) for one in frames]
    path = compressed(write_image(RAMP), JPEGLSLossless, codestreams, NumberOfFrames=200)
    dataset = dcmread(path)
    dataset.PixelData = encapsulate(codestreams, fragments_per_frame=2, has_bot=table)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path)
    opened = open_image(path)
    assert frame_count(opened) == 200
    for index in (0, 99, 199):
        assert np.array_equal(radiograph_values(opened, index).values, frames[index])


def test_an_odd_number_of_bytes_is_padded_and_ignored(write_image: Write) -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    path = write_image(pixels, NumberOfFrames=2, Modality="CR")
    dataset = open_image(path)
    for index in range(2):
        assert np.array_equal(radiograph_values(dataset, index).values, pixels[index])


def test_a_lossy_slice_keeps_its_units(write_image: Write) -> None:
    path = write_image(RAMP, BitsStored=12, RescaleIntercept=-1024)
    lossy = imagecodecs.jpeg2k_encode(RAMP, codecformat="J2K", level=80)
    assert len(lossy) < RAMP.nbytes / 4
    compressed(path, JPEG2000, [lossy])
    off = np.abs(hounsfield_values(open_image(path)).values - (RAMP - 1024.0))
    assert 0 < off.max() < 40


def _rle(planes: list[Pixels]) -> bytes:
    """Encode bytes plane by plane as literal runs (PS3.5 annex G)."""
    segments = []
    for plane in planes:
        rows = []
        for row in plane:
            data = row.tobytes()
            runs = [data[start : start + 128] for start in range(0, len(data), 128)]
            rows.append(b"".join(bytes([len(run) - 1]) + run for run in runs))
        segment = b"".join(rows)
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = [64]
    for segment in segments[:-1]:
        offsets.append(offsets[-1] + len(segment))
    head = [len(segments), *offsets] + [0] * (15 - len(offsets))
    return np.array(head, "<u4").tobytes() + b"".join(segments)
