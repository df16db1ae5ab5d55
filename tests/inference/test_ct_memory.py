"""Memory of an analysis of CT slices grows with their number, by their headers alone."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

from inference import ct_slices_reader
from inference.bundle import Bundle
from inference.ct_slices_reader import CtSlicesReader
from inference.decode_pool import DecodePool
from inference.decode_settings import PoolSettings
from inference.errors import NotAnalysableError
from inference.image_file import header_of, open_image
from inference.objects import DeviceIdentity
from inference.open_source import index_file, open_source
from inference.pixels import ModalityImage
from inference.reading import NotAnalysed, SourceImage
from inference.result_objects import ResultBasis, make_objects
from inference.shared_headers import SharedHeaders
from inference.stored_plane import in_pieces

SIDE = 256
PIXELS_KB = SIDE * SIDE * 4 / 1024
# Of a slice with some seventy elements, its facts and its result included.
MOST_KB = 16.0
FEW, MANY = 24, 96


def write_series(path: Path, folder: Path, count: int, compressed: bool) -> list[SourceImage]:
    """Write slices like that of a file, one above the other."""
    dataset = dcmread(path)
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.BodyPartExamined = "HEAD"
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.9, 0.9]
    for number in range(50):  # as many elements as scanners write
        block = dataset.private_block(0x0009, "A SCANNER", create=True)
        block.add_new(number, "LO", f"value of element {number}")
    if compressed:
        content = imagecodecs.ljpeg_encode(dataset.pixel_array, bitspersample=12)
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        dataset.PixelData = encapsulate([content])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    made = []
    for number in range(count):
        uid = f"1.2.3.4.{number + 1}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.InstanceNumber, dataset.ImagePositionPatient = number + 1, [0, 0, number * 2.0]
        there = folder / f"{number}.dcm"
        dataset.save_as(there, enforce_file_format=True)
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        made.append(SourceImage(number, uid, dataset.SOPClassUID, syntax, there, index_file(there)))
    return made


def analyse(reader: CtSlicesReader, images: list[SourceImage], bundle: Bundle) -> object:
    reading = reader.read(images)
    device = DeviceIdentity("PREREAD", "Preread", "Preread", "1", "1")
    basis = ResultBasis(
        sources=reading.headers,
        model=bundle.identity,
        device=device,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        reading=reading,
    )
    return reading, make_objects(basis)


def memory_of(reader: CtSlicesReader, images: list[SourceImage], bundle: Bundle) -> tuple[int, int]:
    """Return the peak of an analysis, and what is held with its result, in bytes."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    kept = analyse(reader, images, bundle)
    gc.collect()
    held, peak = tracemalloc.get_traced_memory()
    del kept
    return peak - before, held - before


@pytest.mark.parametrize("compressed", [False, True], ids=["uncompressed", "JPEG lossless"])
def test_memory_grows_by_headers_alone(
    ct_bundle: Bundle, write_image: Any, tmp_path: Path, compressed: bool
) -> None:
    picture = np.random.default_rng(1).integers(900, 1300, (SIDE, SIDE)).astype(np.uint16)
    path = write_image(picture, RescaleIntercept=-1024, BitsStored=12)
    images = write_series(path, tmp_path, MANY, compressed)
    reader = CtSlicesReader(ct_bundle, batch_size=4)
    reader.setup("cpu")
    with DecodePool(PoolSettings(int(compressed), ahead=8)) as pool:
        reader.decoding = pool
        tracemalloc.start()
        try:
            analyse(reader, images[:FEW], ct_bundle)  # what is made once is made
            few = memory_of(reader, images[:FEW], ct_bundle)
            many = memory_of(reader, images, ct_bundle)
        finally:
            tracemalloc.stop()
    peak, held = ((b - a) / 1024 / (MANY - FEW) for a, b in zip(few, many, strict=True))
    print(f"{peak:.1f} kB a slice at the peak, {held:.1f} kB held")
    assert peak < MOST_KB < PIXELS_KB / 8
    assert held < MOST_KB


def test_a_series_that_is_refused_leaves_no_room_taken(
    ct_bundle: Bundle, write_image: Any, tmp_path: Path
) -> None:
    picture = np.random.default_rng(1).integers(900, 1300, (SIDE, SIDE)).astype(np.uint16)
    path = write_image(picture, RescaleIntercept=-1024, BitsStored=12)
    images = write_series(path, tmp_path, FEW, compressed=True)
    whole = images[9].path.read_bytes()
    start = whole.index(b"\xff\xd8\xff")
    images[9].path.write_bytes(whole[:start] + bytes(len(whole) - start))
    reader = CtSlicesReader(ct_bundle, batch_size=4)
    reader.setup("cpu")
    errors, taken = [], []
    with DecodePool(PoolSettings(1, ahead=8)) as pool:
        reader.decoding = pool
        for _ in range(12):
            with pytest.raises(NotAnalysableError) as refused:
                reader.read(images)
            errors.append(refused.value)  # and with it all that its traceback refers to
            taken.append(pool.shared_bytes)
    print(taken)
    assert {error.code for error in errors} == {NotAnalysed.UNDECODABLE}
    # That of one series that is decoded ahead, and of what was not let go yet.
    assert taken[-1] <= 3 * 8 * SIDE * SIDE * 4


@pytest.mark.parametrize("compressed", [False, True], ids=["uncompressed", "JPEG lossless"])
def test_a_slice_is_let_go_before_the_next_one_is_decoded(
    ct_bundle: Bundle, write_image: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    compressed: bool,
) -> None:  # fmt: skip
    picture = np.random.default_rng(1).integers(900, 1300, (SIDE, SIDE)).astype(np.uint16)
    path = write_image(picture, RescaleIntercept=-1024, BitsStored=12)
    images = write_series(path, tmp_path, FEW, compressed)
    reader = CtSlicesReader(ct_bundle, batch_size=4)
    reader.setup("cpu")
    monkeypatch.setattr(ct_slices_reader, "one_ahead", lambda batches: batches)
    alive: list[weakref.ref[np.ndarray[Any, Any]]] = []
    kept: list[int] = []

    def noted(self: DecodePool, tasks: Any) -> Any:
        for one in decode(self, tasks):
            assert isinstance(one, ModalityImage)
            alive.append(weakref.ref(in_pieces(one.plane)[0]))
            yield one
            del one
            kept.append(sum(each() is not None for each in alive))

    decode = DecodePool.decode
    monkeypatch.setattr(DecodePool, "decode", noted)
    with DecodePool(PoolSettings(int(compressed))) as pool:
        reader.decoding = pool
        reader.read(images)
    # After the last one no other is asked for; then a picture is made of one.
    assert kept[: FEW - 1] == [0] * (FEW - 1)


def test_a_shared_header_is_the_header(write_image: Any, tmp_path: Path) -> None:
    path = write_image(np.zeros((16, 16), np.uint16))
    images = write_series(path, tmp_path, 3, compressed=False)
    shared = SharedHeaders()
    several = [open_source(image, shared)[1] for image in images]
    for image, header in zip(images, several, strict=True):
        whole = header_of(open_image(image.path))
        assert raw(header) == raw(whole)
        assert raw(header.file_meta) == raw(whole.file_meta)
        assert header == whole
        assert header.get_item("PatientName").value == whole.get_item("PatientName").value
    # What is looked at in one is not looked at in another.
    several[0].PatientName = "Other"
    assert str(several[1].PatientName) == "Doe^Jane"


def raw(dataset: Dataset) -> list[tuple[object, ...]]:
    return [(tag, one.VR, one.value) for tag, one in dataset.items()]
