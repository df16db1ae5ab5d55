"""Frames by their offset: native, encapsulated with each kind of table, and what is not guessed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from inference.decoders import decode_frame
from inference.frame_table import Unlocated
from inference.image_file import frame_count, open_image
from inference.indexed_image import IndexedImage
from inference.open_source import index_file, open_source
from inference.reading import SourceImage

Write = Callable[..., Path]

FRAMES = np.random.default_rng(3).integers(0, 4096, (5, 24, 32), dtype=np.uint16)


def compressed(path: Path, form: str, per_frame: int = 1) -> Path:
    """Write five JPEG-LS frames with a table of some form, each in `per_frame` fragments."""
    dataset = dcmread(path)
    streams = [imagecodecs.jpegls_encode(frame) for frame in FRAMES]
    dataset.NumberOfFrames = len(streams)
    dataset.Rows, dataset.Columns = FRAMES.shape[1:]
    dataset.BitsStored, dataset.HighBit = 16, 15
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    if form == "extended":
        content, offsets, lengths = encapsulate_extended(streams)
        dataset.PixelData = content
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    else:
        dataset.PixelData = encapsulate(streams, per_frame, has_bot=form == "basic")
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


def opened(path: Path) -> IndexedImage:
    image = open_source(SourceImage(1, "1", "1", "1", path, index_file(path)))[0]
    assert isinstance(image, IndexedImage)
    return image


@pytest.mark.parametrize(
    ("form", "per_frame"), [("basic", 1), ("basic", 3), ("extended", 1), ("none", 1)]
)
def test_each_frame_is_found(write_image: Write, form: str, per_frame: int) -> None:
    path = compressed(write_image(FRAMES[0]), form, per_frame)
    image = opened(path)
    assert image.located_frames == len(FRAMES)
    for index, frame in enumerate(FRAMES):
        found = image.frame(index)
        assert found is not None
        assert np.array_equal(found[0], frame)
        assert np.array_equal(decode_frame(open_image(path), index)[0], frame)


def test_fragments_without_a_table_are_not_given_to_frames(write_image: Write) -> None:
    facts = index_file(compressed(write_image(FRAMES[0]), "none", 3))
    assert (facts.table, facts.unlocated) == (None, Unlocated.ODD_FRAGMENTS)


def test_a_table_that_points_elsewhere_is_not_believed(write_image: Write) -> None:
    path = compressed(write_image(FRAMES[0]), "basic")
    dataset = dcmread(path)
    content = bytearray(dataset.PixelData)
    content[12] += 2  # the second offset
    dataset.PixelData = bytes(content)
    dataset.save_as(path)
    assert index_file(path).unlocated is Unlocated.ODD_OFFSETS


def test_a_file_that_ends_early_has_no_table(write_image: Write) -> None:
    whole = compressed(write_image(FRAMES[0]), "basic").read_bytes()
    cut = write_image(FRAMES[0])
    native = cut.read_bytes()
    cut.write_bytes(whole[:-400])
    # pydicom leaves out pixel data whose end it does not find.
    assert index_file(cut).unlocated is Unlocated.NO_PIXEL_DATA
    cut.write_bytes(native[:-400])
    assert index_file(cut).unlocated is Unlocated.TRUNCATED


def test_native_frames_are_one_after_the_other(write_image: Write) -> None:
    path = write_image(FRAMES[0])
    dataset = dcmread(path)
    dataset.NumberOfFrames, dataset.PixelData = len(FRAMES), FRAMES.tobytes()
    dataset.save_as(path)
    image = opened(path)
    for index, frame in enumerate(FRAMES):
        found = image.frame(index)
        assert found is not None
        assert np.array_equal(found[0], frame)


def test_a_codestream_that_contradicts_the_header_is_read_the_long_way(write_image: Write) -> None:
    path = write_image(FRAMES[0])
    dataset = dcmread(path)
    other = imagecodecs.jpeg2k_encode(FRAMES[0][:12], codecformat="J2K", level=0)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([other])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert opened(path).frame(0) is None


def test_a_million_frames_of_one_pixel_take_no_memory(write_image: Write) -> None:
    count = 1_000_000
    path = write_image(np.zeros((1, 1), np.uint8), NumberOfFrames=count)
    dataset = dcmread(path)
    dataset.PixelData = bytes(count)
    dataset.save_as(path)
    tracemalloc.start()
    facts = index_file(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (facts.table, facts.unlocated) == (None, Unlocated.TOO_MANY_FRAMES)
    assert peak < 16 * count
    # They are counted all the same, and read the long way.
    assert frame_count(opened(path)) == count
    assert decode_frame(opened(path), count - 1)[0].shape == (1, 1)
