"""A table of stored values says of a picture what the functions of `pixels` say of it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from inference.device_input.device_input import DeviceInput
from inference.device_input.lanes import CpuLane
from inference.device_input.packed import StoredTask, pack, unpack
from inference.device_input.stored_picture import Host, StoredPicture, host_note, picture_of
from inference.errors import NotAnalysableError
from inference.image_file import frame_count, open_image
from inference.input_spec import InputSpec
from inference.model_values import model_values
from inference.pixels import ModalityImage
from inference.preprocess import place_ct, place_radiograph, prepare_ct, prepare_radiograph
from inference.reading import SourceImage
from inference.windows import BRAIN, SUBDURAL, VoiLutFunction, Window

CPU = torch.device("cpu")
BONE = Window(600, 2800, "bone", VoiLutFunction.SIGMOID)
CT = InputSpec("ct_slices", 64, (BRAIN, SUBDURAL, BONE))
FILM = InputSpec("radiograph", 64, polarity="chest")
VOI = InputSpec(
    "radiograph", 64, voi=True, intensity="full_range", value_range=(-1024, 1024), crop="square"
)
SPECS = (CT, FILM, VOI)


def said(make: Callable[[], ModalityImage | StoredPicture]) -> Any:
    try:
        return make()
    except NotAnalysableError as error:
        return str(error)


def drift(picture: StoredPicture, host: ModalityImage, spec: InputSpec) -> float:
    """Return how far the device's row is from the host's, as a share of the range."""
    if spec.kind == "ct_slices":
        placed = place_ct(host.values[None], spec, CPU)
        told = prepare_ct(host.values[None], spec, CPU, placed)
    else:
        placed = (place_radiograph(host.values, spec),)
        told = prepare_radiograph(host.values, spec, CPU, placed[0], host.full_range)
    made = DeviceInput(spec, CpuLane()).prepare([picture], placed, [None]).rows
    assert made.shape == told.shape
    black, white = spec.value_range
    return float((made - torch.as_tensor(told)).abs().max()) / (white - black)


def compare(read: Callable[[], Dataset], frame: int, spec: InputSpec) -> str:
    """Compare both ways; return which way the device's went."""
    host = said(lambda: model_values(read(), frame, spec))
    made = said(lambda: picture_of(read(), frame, spec))
    if isinstance(host, str) or isinstance(made, str):
        assert made == host
        return "refused"
    if isinstance(made, ModalityImage):
        made, way = host_note(made)
        assert way in list(Host)
    else:
        made, way = unpack(pack(made)), "stored"
    np.testing.assert_array_equal(made.values, host.values)
    assert (made.notes, made.full_range) == (host.notes, host.full_range)
    if isinstance(made, StoredPicture):
        assert (made.lowest, made.highest) == (host.values.min(), host.values.max()) or (
            spec.kind == "ct_slices"
        )
        if spec.intensity != "full_range" or host.full_range is not None:
            assert drift(made, host, spec) <= 1e-5
        whole = (0, 0, *made.shape)
        assert made.has_contrast(whole) == bool(host.values.min() < host.values.max())
    return way


# Files of every transfer syntax, depth and photometric form that the tests of the host's path read.
NAMED = (
    "693_UNCR.dcm", "693_J2KI.dcm", "693_J2KR.dcm", "CT_small.dcm", "bad_sequence.dcm",
    "J2K_pixelrep_mismatch.dcm", "RG1_UNCR.dcm", "RG1_J2KI.dcm", "RG3_J2KR.dcm",
    "vlut_04.dcm", "mlut_18.dcm", "JPEG-LL.dcm", "JPEG-lossy.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm", "image_dfl.dcm",
    "SC_rgb.dcm", "OBXXXX1A.dcm", "eCT_Supplemental.dcm",
    "emri_small.dcm", "liver_1frame.dcm", "OT-PAL-8-face.dcm", "rtdose_1frame.dcm",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_file_means_the_same_either_way(sample: Callable[[str], Path], name: str) -> None:
    path = sample(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ways = [compare(lambda: open_image(path), 0, spec) for spec in SPECS]
    assert ways


@pytest.mark.slow
def test_so_do_all_files_that_are_here() -> None:
    roots = [Path(pydicom.__file__).parent / "data" / "test_files"]
    roots += [Path(pydicom.__file__).parents[1] / "data_store"]
    ways: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, spec in product(sorted(p for r in roots for p in r.rglob("*.dcm")), SPECS):
            try:
                last = frame_count(open_image(path)) - 1
            except NotAnalysableError:
                continue
            ways[compare(lambda path=path: open_image(path), last, spec)] += 1
    assert ways["stored"] >= 100


TYPES = (np.uint8, np.int8, np.uint16, np.int16)


@st.composite
def images(draw: st.DrawFn) -> Dataset:
    """A grey image of any integer type, with any rescale, tables, padding and polarity."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    bits = draw(st.integers(max(1, dtype.itemsize * 8 - 5), dtype.itemsize * 8))
    low = -(1 << (bits - 1)) if dtype.kind == "i" else 0
    high = low + (1 << bits) - 1
    near = draw(st.integers(low, high))
    ends = draw(st.sampled_from([(low, high), (near, min(high, near + 40)), (0, min(high, 255))]))
    seed = draw(st.integers(0, 2**32 - 1))
    rows, columns = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    rng = np.random.default_rng(seed)
    pixels = rng.integers(ends[0], ends[1] + 1, (rows, columns), dtype=np.int64)
    if draw(st.booleans()):  # few different values, and far apart
        pixels = rng.choice(rng.integers(low, high + 1, 3), (rows, columns))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    big = draw(st.booleans())
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian if big else ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 1
    dataset.PhotometricInterpretation = draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
    dataset.BitsAllocated = dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(dtype.kind == "i")
    if draw(st.booleans()):
        dataset.RescaleSlope = draw(st.sampled_from(["1", "-1", "0.37", "2", "0"]))
        dataset.RescaleIntercept = draw(st.sampled_from(["0", "-1024", "17.5"]))
    if draw(st.integers(0, 3)) == 0:
        item = Dataset()
        item.LUTDescriptor = [draw(st.sampled_from([16, 256])), max(0, near), 12]
        item.LUTData = rng.integers(0, 4096, item.LUTDescriptor[0]).astype("<u2").tobytes()
        item["LUTData"].VR = "OW"
        item.ModalityLUTType = "US"
        dataset.ModalityLUTSequence = DicomSequence([item])
    if draw(st.booleans()):
        padding = int(draw(st.sampled_from([pixels.min(), pixels.max(), near, low])))
        add(dataset, "PixelPaddingValue", padding, dtype)
        if draw(st.booleans()):
            add(dataset, "PixelPaddingRangeLimit", min(high, padding + 9), dtype)
    if draw(st.booleans()):
        dataset.WindowCenter, dataset.WindowWidth = draw(st.sampled_from([(40, 80), (100, 1)]))
        dataset.VOILUTFunction = draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    order = ">" if big else "<"
    stored = pixels.astype(dtype).astype(dtype.newbyteorder(order)).tobytes()
    if big and dtype.itemsize == 1:  # bytes lie in words
        stored += b"\0" * (len(stored) % 2)
        stored = np.frombuffer(stored, "<u2").byteswap().tobytes()
    dataset.PixelData = stored + b"\0" * (len(stored) % 2)
    dataset["PixelData"].VR = "OW"
    return dataset


def add(dataset: Dataset, keyword: str, value: int, dtype: np.dtype[Any]) -> None:
    dataset.add_new(keyword, "SS" if dtype.kind == "i" else "US", value)


@settings(max_examples=150, deadline=None)
@given(images(), st.sampled_from(SPECS))
def test_any_header_means_the_same_either_way(dataset: Dataset, spec: InputSpec) -> None:
    compare(lambda: dataset, 0, spec)


def test_a_stored_picture_survives_the_way_through_the_pool(
    write_image: Callable[..., Path],
) -> None:
    pixels = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800
    path = write_image(pixels, RescaleIntercept=-3, PixelPaddingValue=1800)
    task = StoredTask(SourceImage(1, "1", "1", "1", path), 0, CT)
    carried = task.made(open_image(path))
    assert carried.values.dtype == np.float32
    picture = unpack(carried)
    carried.values[:] = 0  # its place is used again
    assert isinstance(picture, StoredPicture)
    np.testing.assert_array_equal(picture.stored, pixels)
    np.testing.assert_array_equal(picture.values, model_values(open_image(path), 0, CT).values)


def test_values_without_a_table_are_not_taken_for_one(write_image: Callable[..., Path]) -> None:
    pixels = np.arange(48, dtype=np.uint32).reshape(6, 8) * 100_000
    path = write_image(pixels)
    task = StoredTask(SourceImage(1, "1", "1", "1", path), 0, FILM)
    image = unpack(task.made(open_image(path)))
    assert isinstance(image, ModalityImage)
    told, why = host_note(image)
    assert why == Host.WIDE_RANGE
    assert told.notes == model_values(open_image(path), 0, FILM).notes
