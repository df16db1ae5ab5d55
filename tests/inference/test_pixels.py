"""Pixels of real and made files, each trap with its defined behaviour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gdcm_pixels
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import JPEG2000Lossless, RLELossless

from inference.errors import NotAnalysableError
from inference.image_file import frame_count, header_of, open_image
from inference.input_spec import InputSpec
from inference.pixels import hounsfield_values, radiograph_values, unwrap_12_bit, used_bits
from inference.polarity import chest_correlation, looks_negative
from inference.reading import NotAnalysed
from inference.tensors import prepare_radiograph

Sample = Callable[[str], Path]
Write = Callable[..., Path]

CPU = torch.device("cpu")
BY_TAG = InputSpec("radiograph", 128)
CHEST = InputSpec("radiograph", 128, polarity="chest")


def film(path: Path, spec: InputSpec = BY_TAG) -> torch.Tensor:
    return prepare_radiograph(radiograph_values(open_image(path)).values, spec, CPU)


@given(hnp.arrays(np.int16, (3, 5), elements=st.integers(-1000, 3095)))
def test_wrapped_12_bit_values_come_back(hu: np.ndarray) -> None:
    stored = (hu.astype(np.int32) % 4096).astype(np.uint16)
    assert np.array_equal(unwrap_12_bit(stored), hu)


@given(
    bits=st.integers(2, 15),
    left=st.integers(0, 3),
    signed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_only_the_stored_bits_count(bits: int, left: int, signed: bool, seed: int) -> None:
    high = min(15, bits - 1 + left)
    rng = np.random.default_rng(seed)
    lowest = -(2 ** (bits - 1)) if signed else 0
    values = rng.integers(lowest, lowest + 2**bits, 50)
    junk = rng.integers(0, 2**16, 50)
    mask = (2**bits - 1) << (high + 1 - bits)
    shifted = (values & (2**bits - 1)) << (high + 1 - bits)
    cells = ((junk & ~mask) | shifted).astype(np.uint16)
    assert np.array_equal(used_bits(cells, bits, high, signed), values)


def test_rsna_offset_is_repaired_only_where_it_is(write_image: Write) -> None:
    hu = np.array([[-1000, -5], [0, 3000]])
    wrapped = (hu % 4096).astype(np.uint16)
    repaired = hounsfield_values(open_image(write_image(wrapped, BitsStored=12)))
    assert np.array_equal(repaired.values, hu)
    assert "unsigned_12_bit_repaired" in repaired.notes
    plain = (hu + 1024).astype(np.uint16)
    kept = hounsfield_values(open_image(write_image(plain, BitsStored=12, RescaleIntercept=-1024)))
    assert np.array_equal(kept.values, hu)
    assert kept.notes == ()


def test_without_rescale_the_values_stand_and_that_is_noted(write_image: Write) -> None:
    pixels = np.array([[-900, 40], [60, 80]], dtype=np.int16)
    image = hounsfield_values(
        open_image(write_image(pixels, RescaleSlope=None, RescaleIntercept=None))
    )
    assert np.array_equal(image.values, pixels)
    assert image.notes == ("rescale_slope_defaulted", "rescale_intercept_defaulted")


def test_padding_of_ct_is_air(write_image: Write) -> None:
    pixels = np.array([[-2000, -1500], [40, -1100]], dtype=np.int16)
    image = hounsfield_values(open_image(write_image(pixels, PixelPaddingValue=-1500)))
    assert image.values.tolist() == [[-1024, -1024], [40, -1024]]
    assert image.notes == ("padding_replaced", "below_air_clamped")


@pytest.mark.parametrize(
    "padding",
    [
        {"PixelPaddingValue": 0},  # stands for air already
        {"PixelPaddingValue": 90},
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 90},  # the first of them does
    ],
)
def test_padding_of_ct_is_air_whatever_it_stood_for(
    write_image: Write, padding: dict[str, int]
) -> None:
    stored = np.array([[0, 90], [90, 1064]], dtype=np.uint16)
    image = hounsfield_values(
        open_image(write_image(stored, BitsStored=12, RescaleIntercept=-1024, **padding))
    )
    kept = -934 if padding == {"PixelPaddingValue": 0} else -1024
    assert image.values.tolist() == [[-1024, kept], [kept, 40]]
    assert image.notes == ("padding_replaced",)


def test_padding_of_a_film_takes_the_darkest_value(write_image: Write) -> None:
    pixels = np.array([[0, 0, 100], [50, 60, 70]], dtype=np.uint16)
    for photometric, darkest in (("MONOCHROME2", 50), ("MONOCHROME1", 0)):
        path = write_image(
            pixels,
            Modality="CR",
            PhotometricInterpretation=photometric,
            PixelPaddingValue=0,
        )
        values = radiograph_values(open_image(path)).values
        assert values[0, 0] == values[0, 1] == darkest


def test_an_overlay_in_unused_bits_is_no_part_of_the_image(write_image: Write) -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    overlaid = pixels | (np.eye(8, dtype=np.uint16) << 15)
    for cells in (pixels, overlaid):
        path = write_image(cells, BitsStored=12, RescaleIntercept=-1024)
        assert np.array_equal(hounsfield_values(open_image(path)).values, pixels - 1024.0)


def test_pixels_in_the_high_bits_of_a_cell(write_image: Write) -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    path = write_image(pixels << 4, BitsStored=12, HighBit=15, RescaleIntercept=-1024)
    assert np.array_equal(hounsfield_values(open_image(path)).values, pixels - 1024.0)


def test_an_inverted_film_tagged_monochrome1_gives_the_same_tensor(write_image: Write) -> None:
    original = np.random.default_rng(3).integers(0, 1000, (60, 80)).astype(np.uint16)
    first = write_image(original, Modality="CR", BitsStored=12)
    twin = write_image(
        4095 - original, Modality="CR", BitsStored=12, PhotometricInterpretation="MONOCHROME1"
    )
    assert torch.equal(film(first), film(twin))


def test_a_modality_lut_is_applied(write_image: Write) -> None:
    lut = Dataset()
    lut.LUTDescriptor = [4, 0, 16]
    lut.ModalityLUTType = "US"
    lut.add_new("LUTData", "US", [10, 30, 20, 1000])
    path = write_image(
        np.array([[0, 1], [2, 3]], dtype=np.uint16),
        RescaleSlope=None,
        RescaleIntercept=None,
        ModalityLUTSequence=[lut],
    )
    image = radiograph_values(open_image(path))
    assert image.values.tolist() == [[10, 30], [20, 1000]]
    assert image.notes == ("modality_lut",)


# Each form of one image, decoded by different decoders, is the same image. Of the NEMA samples
# UNCR is J2KR and UNCI is J2KI (lossy) after decompression by their maker.
FORMS = [
    ("RG1_UNCR.dcm", "RG1_J2KR.dcm"),
    ("RG1_UNCI.dcm", "RG1_J2KI.dcm"),
    ("RG3_UNCR.dcm", "RG3_J2KR.dcm"),
    ("693_UNCR.dcm", "693_J2KR.dcm"),
    ("693_UNCI.dcm", "693_J2KI.dcm"),
    ("MR_small.dcm", "MR_small_RLE.dcm"),
    ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    ("MR_small.dcm", "MR_small_jp2klossless.dcm"),
    ("MR_small.dcm", "MR_small_bigendian.dcm"),
    ("SC_rgb.dcm", "SC_rgb_rle.dcm"),
    ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"),
]


@pytest.mark.parametrize(("one", "other"), FORMS)
def test_lossless_forms_of_an_image_are_equal(sample: Sample, one: str, other: str) -> None:
    first, second = (radiograph_values(open_image(sample(name))) for name in (one, other))
    assert np.array_equal(first.values, second.values)
    assert first.notes == second.notes


def test_lossy_compression_of_a_real_chest_hardly_shows_in_the_tensor(sample: Sample) -> None:
    lossless, lossy = (film(sample(f"RG1_{form}.dcm"), CHEST) for form in ("UNCR", "UNCI"))
    torch.testing.assert_close(lossless, lossy, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "JPEG-LL.dcm",
        "JPGLosslessP14SV1_1s_1f_8b.dcm",
        "JPEG2000.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "JPEGLSNearLossless_16.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_jpeg_no_color_transform.dcm",
        "SC_rgb_dcmtk_+eb+cr.dcm",
    ],
)
def test_decoded_values_are_those_of_another_decoder(sample: Sample, name: str) -> None:
    stored, dataset = gdcm_pixels.stored(sample(name))
    reference = stored.astype(np.float32)
    if reference.ndim == 3:
        reference = reference @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
    reference = reference * float(slope or 1) + float(intercept or 0)
    assert np.allclose(radiograph_values(open_image(sample(name))).values, reference, atol=0.51)


def test_12_bit_jpeg_and_a_palette_and_a_deflated_file_are_read(sample: Sample) -> None:
    extended = radiograph_values(open_image(sample("JPGExtended.dcm"))).values
    assert extended.shape == (1024, 256)
    assert 200 < extended.max() < 4096
    palette = radiograph_values(open_image(sample("OBXXXX1A.dcm")))
    assert palette.notes == ("palette_to_luminance",)
    assert palette.values.std() > 1000
    deflated = radiograph_values(open_image(sample("image_dfl.dcm"))).values
    assert deflated.shape == (512, 512)


def test_htj2k_is_read(write_image: Write, tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    from pydicom.encaps import encapsulate
    from pydicom.uid import HTJ2KLossless

    pixels = np.random.default_rng(0).integers(0, 4096, (64, 48)).astype(np.uint16)
    try:
        encoded = imagecodecs.htj2k_encode(pixels, reversible=True)
    except (AttributeError, imagecodecs.DelayedImportError, RuntimeError, TypeError) as error:
        pytest.skip(f"no HTJ2K encoder here: {error}")
    dataset = dcmread(write_image(pixels, BitsStored=12, RescaleIntercept=-1024))
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    codestream = encoded[encoded.index(b"\xff\x4f\xff\x51") :]
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    path = tmp_path / "htj2k.dcm"
    dataset.save_as(path)
    assert np.array_equal(hounsfield_values(open_image(path)).values, pixels - 1024.0)


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "RG1_J2KI.dcm",
        "JPEG-LL.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_rgb_rle.dcm",
        "image_dfl.dcm",
    ],
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(
    sample: Sample, tmp_path: Path, name: str, share: float
) -> None:
    whole = sample(name).read_bytes()
    cut = tmp_path / name
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(NotAnalysableError) as refusal:
        radiograph_values(open_image(cut))
    assert refusal.value.code == NotAnalysed.UNDECODABLE


def test_a_codestream_without_its_end_is_refused(sample: Sample, tmp_path: Path) -> None:
    """Some decoders fill in what is missing; a reading must not rest on that."""
    from pydicom.encaps import encapsulate, get_frame

    for name in ("RG1_J2KI.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm"):
        dataset = dcmread(sample(name))
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
        path = tmp_path / name
        dataset.save_as(path)
        with pytest.raises(NotAnalysableError, match="truncated"):
            radiograph_values(open_image(path))


def test_what_is_no_image_file_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "note.dcm"
    text.write_text("not DICOM")
    with pytest.raises(NotAnalysableError, match="no DICOM file"):
        open_image(text)
    bare = Dataset()
    bare.file_meta = FileMetaDataset()
    bare.PatientName = "PHANTOM^BARE"
    bare.save_as(tmp_path / "bare.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(NotAnalysableError):
        open_image(tmp_path / "bare.dcm")


def test_frames_of_an_enhanced_image_have_their_own_rescale(sample: Sample) -> None:
    dataset = open_image(sample("eCT_Supplemental.dcm"))
    assert frame_count(dataset) == 2
    for frame in range(2):
        image = hounsfield_values(dataset, frame)
        assert image.values.shape == (512, 512)
        assert image.values.min() == -1024
        assert "rescale_intercept_defaulted" not in image.notes


def with_raw(path: Path, keyword: str, value: str) -> Path:
    """Write the bytes of `value` as they are: pydicom would refuse or correct them."""
    dataset = dcmread(path)
    tag = Tag(keyword)
    raw = value.encode() + b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(raw), raw, 0, False, True)
    dataset.save_as(path)
    return path


def refused(path: Path, read: Callable[[Dataset], object]) -> NotAnalysableError:
    with pytest.raises(NotAnalysableError) as refusal:
        read(open_image(path))
    return refusal.value


@pytest.mark.parametrize("pixels", [np.ones((64, 64), np.int16), np.ones((300, 300), np.int16)])
@pytest.mark.parametrize("says", [2, 1_000_000])
def test_more_frames_than_the_pixel_data_hold_are_refused(
    write_image: Write, pixels: np.ndarray, says: int
) -> None:
    refusal = refused(write_image(pixels, NumberOfFrames=says), frame_count)
    assert refusal.code == NotAnalysed.UNDECODABLE
    assert refusal.reason.endswith(f"says {says}, the pixel data hold 1")


def test_a_length_that_the_file_does_not_have_holds_no_frames(
    write_image: Write, tmp_path: Path
) -> None:
    content = write_image(np.ones((300, 300), np.int16), NumberOfFrames=1000).read_bytes()
    length = (180_000).to_bytes(4, "little")
    assert content.count(length) == 1
    forged = tmp_path / "forged.dcm"
    forged.write_bytes(content.replace(length, (0xFFFFFFFE).to_bytes(4, "little")))
    assert refused(forged, frame_count).reason.endswith("hold 1")


@given(frames=st.integers(1, 6), table=st.booleans(), pieces=st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_fragments_bound_the_frames(frames: int, table: bool, pieces: int) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate(
        [bytes(400)] * frames, fragments_per_frame=pieces, has_bot=table
    )
    held = frames if table else frames * pieces
    for says in range(1, held + 1):
        dataset.NumberOfFrames = says
        assert frame_count(dataset) == says
    for says in (held + 1, 2**31 - 1):
        dataset.NumberOfFrames = says
        with pytest.raises(NotAnalysableError, match=f"the pixel data hold {held}$"):
            frame_count(dataset)


def test_empty_fragments_hold_no_frames() -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = (b"\xfe\xff\x00\xe0" + bytes(4)) * 101
    dataset.NumberOfFrames = 100
    with pytest.raises(NotAnalysableError, match="hold 0"):
        frame_count(dataset)


def test_every_frame_needs_its_functional_groups(sample: Sample) -> None:
    dataset = open_image(sample("eCT_Supplemental.dcm"))
    del dataset.PerFrameFunctionalGroupsSequence[1]
    with pytest.raises(NotAnalysableError, match=r"says 2, the functional groups .* are of 1"):
        frame_count(dataset)


@pytest.mark.parametrize("says", ["abc", "1.5", "-3", "9" * 5000])
def test_a_damaged_number_of_frames_is_refused_without_its_value(
    write_image: Write, says: str
) -> None:
    path = with_raw(write_image(np.ones((64, 64), np.int16)), "NumberOfFrames", says)
    refusal = refused(path, frame_count)
    assert refusal.code == NotAnalysed.UNDECODABLE
    assert refusal.reason == "Number of Frames (0028,0008) is damaged"


@pytest.mark.parametrize("read", [hounsfield_values, radiograph_values])
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", ["NaN", "1e400", "-inf", "1e38", "SECRET", "1\\2"])
def test_a_rescale_that_is_no_number_is_refused(
    write_image: Write, read: Callable[[Dataset], object], keyword: str, value: str
) -> None:
    path = with_raw(write_image(np.ones((64, 64), np.int16)), keyword, value)
    refusal = refused(path, read)
    assert refusal.code == NotAnalysed.UNSUPPORTED_PIXELS
    assert refusal.reason == f"{keyword} is no finite number"


def test_a_slope_of_zero_is_refused(write_image: Write) -> None:
    path = write_image(np.ones((64, 64), np.int16), RescaleSlope=0)
    for read in (hounsfield_values, radiograph_values):
        assert refused(path, read).code == NotAnalysed.UNSUPPORTED_PIXELS


def test_float_pixels_that_are_no_numbers_are_refused(write_image: Write, tmp_path: Path) -> None:
    dataset = dcmread(write_image(np.ones((64, 64), np.int16)))
    pixels = np.ones((64, 64), np.float32)
    pixels[3, 4] = np.nan
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated, dataset.FloatPixelData = 32, pixels.tobytes()
    path = tmp_path / "float.dcm"
    dataset.save_as(path)
    assert "no finite number" in refused(path, radiograph_values).reason


def test_an_unknown_photometric_interpretation_is_not_repeated(write_image: Write) -> None:
    path = write_image(np.ones((64, 64), np.int16), PhotometricInterpretation="SECRETNAME")
    for read in (hounsfield_values, radiograph_values):
        assert "SECRETNAME" not in refused(path, read).reason


def test_a_codestream_of_another_size_ends_no_process(sample: Sample, tmp_path: Path) -> None:
    """GDCM ends the process here, which is why it is not asked."""
    dataset = dcmread(sample("MR_small_jpeg_ls_lossless.dcm"))
    dataset.Rows, dataset.Columns = 4000, 2000
    dataset.save_as(tmp_path / "other.dcm")
    assert refused(tmp_path / "other.dcm", radiograph_values).code == NotAnalysed.UNDECODABLE


def test_colour_is_no_ct(sample: Sample) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        hounsfield_values(open_image(sample("SC_rgb.dcm")))
    assert refusal.value.code == NotAnalysed.UNSUPPORTED_PIXELS


def test_real_ge_slices_have_air_skull_and_brain(shared_data: Path) -> None:
    image = hounsfield_values(open_image(shared_data / "head_ct_ge" / "15.dcm"))
    assert image.values.min() == -1024
    assert image.notes == ("padding_replaced",)
    inside = image.values[200:300, 200:300]
    assert 15 < np.median(inside) < 50


def test_the_tag_alone_decides_where_the_picture_is_not_looked_at(shared_data: Path) -> None:
    """The sample's twin has the same pixels under another tag: it is the negative of a patient."""
    original, twin = _twins(shared_data)
    inverted = 1.0 - film(original)
    torch.testing.assert_close(film(twin), inverted, rtol=0, atol=1e-6)


def test_a_chest_that_its_tag_calls_a_negative_is_turned_round(shared_data: Path) -> None:
    original, twin = _twins(shared_data)
    assert torch.equal(film(original, CHEST), film(twin, CHEST))


def test_real_chests_are_recognised(shared_data: Path, sample: Sample) -> None:
    paths = [_twins(shared_data)[0], sample("RG1_UNCI.dcm")]
    for path in paths:
        values = radiograph_values(open_image(path)).values
        assert chest_correlation(values) > 0.7
        assert chest_correlation(-values) == pytest.approx(-chest_correlation(values))
        assert not looks_negative(values)
        assert looks_negative(-values)


def test_a_picture_too_small_or_too_plain_is_not_called_a_negative() -> None:
    assert chest_correlation(np.zeros((100, 100), dtype=np.float32)) == 0.0
    assert chest_correlation(np.zeros((4, 4), dtype=np.float32)) == 0.0


def _twins(shared_data: Path) -> tuple[Path, Path]:
    folder = shared_data / "cxr_siim_format"
    (original,) = folder.glob("1.2.*.dcm")
    return original, folder / "Fake_MONOHR1.dcm"


def test_a_header_gives_what_stayed_in_the_file(write_image: Callable[..., Path]) -> None:
    """Sequences of explicit length that are large are read when they are asked for."""
    items = [Dataset() for _ in range(40)]
    for number, item in enumerate(items):
        item.RequestedProcedureID = str(number)
        item.ReasonForTheRequestedProcedure = "x" * 64
        item.RequestedProcedureComments = "y" * 1000
    path = write_image(np.zeros((8, 8), np.uint16), RequestAttributesSequence=items)
    opened = open_image(path)
    raw = opened.get_item("RequestAttributesSequence", keep_deferred=True)
    assert isinstance(raw, RawDataElement) and raw.value is None, "it stayed there"
    header = header_of(opened)
    assert "PixelData" not in header and "PixelData" in opened
    found = [str(item.RequestedProcedureID) for item in header.RequestAttributesSequence]
    assert found == [str(number) for number in range(40)]
