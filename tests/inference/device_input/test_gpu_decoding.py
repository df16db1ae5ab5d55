"""Codestreams that a GPU decodes, with a library that has nvImageCodec's interface and no GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless
from structlog.testing import capture_logs

from inference.bundle import Bundle
from inference.decode_pool import DecodePool, PoolSettings
from inference.device_input.feed import Feed
from inference.device_input.gpu_codec import GpuCodec, codec_on
from inference.device_input.lanes import CpuLane
from inference.device_input.steps import SliceSteps
from inference.engines.choose import EngineSettings
from inference.engines.errors import EngineUnavailableError
from inference.errors import NotAnalysableError
from inference.image_file import open_image
from inference.input_spec import InputSpec
from inference.model_values import model_values
from inference.open_source import index_file
from inference.preprocess import prepare_ct
from inference.radiograph_reader import RadiographReader
from inference.reading import SourceImage
from inference.windows import BRAIN, SOFT

CT = InputSpec("ct_slices", 32, (BRAIN, SOFT))
Write = Callable[..., Path]


class Image:
    """As `nvimgcodec.Image`: rows, columns and samples, on the device until `cpu` is called."""

    def __init__(self, samples: np.ndarray) -> None:
        self._samples = samples

    def cpu(self) -> np.ndarray:
        return self._samples[..., None]


class Library(ModuleType):
    """As much of nvidia.nvimgcodec as its documentation promises and we use."""

    class ColorSpec(Enum):
        UNCHANGED = 0

    class BackendKind(Enum):
        CPU_ONLY = 1
        GPU_ONLY = 2
        HYBRID_CPU_GPU = 3
        HW_GPU_ONLY = 4

    class DecodeParams:
        def __init__(self, **how: Any) -> None:
            self.how = how

    def __init__(self) -> None:
        super().__init__("nvidia.nvimgcodec")
        self.batches: list[int] = []
        self.refuses: Callable[[bytes], bool] = lambda _: False
        self.spoils: Callable[[np.ndarray], np.ndarray] = lambda samples: samples
        self.fails: Exception | None = None
        self.made: dict[str, Any] = {}
        library = self

        class Decoder:
            def __init__(self, **how: Any) -> None:
                library.made = how

            def decode(self, streams: list[bytes], params: Any) -> list[Image | None]:
                library.made["params"] = params.how
                library.batches.append(len(streams))
                if library.fails is not None:
                    raise library.fails
                return [
                    None if library.refuses(one) else Image(library.spoils(decoded(one)))
                    for one in streams
                ]

        self.Decoder = Decoder


def decoded(stream: bytes) -> np.ndarray:
    if stream[:4] == b"\xff\x4f\xff\x51":
        try:
            return np.asarray(imagecodecs.jpeg2k_decode(stream))
        except imagecodecs.Jpeg2kError:
            return np.asarray(imagecodecs.htj2k_decode(stream))
    return np.asarray(imagecodecs.jpeg8_decode(stream))


@pytest.fixture
def library() -> Library:
    return Library()


def slices(write_image: Write, syntax: str, count: int = 5) -> list[SourceImage]:
    """Write slices of 12 bits in a transfer syntax."""
    rng = np.random.default_rng(1)
    images = []
    for number in range(count):
        pixels = (rng.integers(0, 90, (40, 48)) + 1000 + number).astype(np.uint16)
        path = write_image(pixels, RescaleIntercept=-1024, BitsStored=12)
        dataset = dcmread(path)
        if syntax == JPEGLosslessSV1:
            stream = imagecodecs.ljpeg_encode(pixels, bitspersample=12)
        elif syntax == JPEGLSLossless:
            stream = imagecodecs.jpegls_encode(pixels)
        else:
            stream = imagecodecs.jpeg2k_encode(
                pixels, codecformat="j2k", level=0, bitspersample=12, reversible=True
            )
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
        images.append(SourceImage(number, str(number), "", syntax, path, index_file(path)))
    return images


def fed(images: Iterable[SourceImage], codec: GpuCodec) -> tuple[np.ndarray, dict[str, int]]:
    feed = Feed(CT, CpuLane(), DecodePool(PoolSettings()), 3, codec)
    batches = list(feed.batches([(one, 0) for one in images], SliceSteps(CT, None)))
    return np.concatenate([np.asarray(one.tensor) for one in batches]), dict(feed.paths)


def told(images: Iterable[SourceImage]) -> np.ndarray:
    values = [model_values(open_image(one.path), 0, CT).values for one in images]
    import torch

    return np.asarray(prepare_ct(np.stack(values), CT, torch.device("cpu")))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1])
def test_a_gpu_decodes_a_batch_at_once_and_gives_the_same(
    write_image: Write, library: Library, syntax: str
) -> None:
    images = slices(write_image, syntax)
    rows, paths = fed(images, GpuCodec(library, 1))
    np.testing.assert_allclose(rows, told(images), rtol=0, atol=1e-5)
    assert paths == {"stored": 5, "decoded_on_gpu": 5}
    assert library.batches == [3, 2]
    assert library.made["device_id"] == 1
    assert library.BackendKind.CPU_ONLY not in library.made["backend_kinds"]
    assert library.made["params"] == {
        "apply_exif_orientation": False,
        "color_spec": library.ColorSpec.UNCHANGED,
        "allow_any_depth": True,
    }


def test_what_it_does_not_decode_others_do_in_its_place(
    write_image: Write, library: Library
) -> None:
    images = slices(write_image, JPEG2000Lossless)
    refused = iter([False, True, False, True, True])
    library.refuses = lambda _: next(refused)
    rows, paths = fed(images, GpuCodec(library, 0))
    np.testing.assert_allclose(rows, told(images), rtol=0, atol=1e-5)
    assert paths == {"stored": 5, "decoded_on_gpu": 2}


def test_what_neither_it_nor_the_first_decoder_reads_is_counted(
    write_image: Write, library: Library
) -> None:
    """JPEG 2000 in the boxes of a JP2 file; that the GPU hands a frame on is no fall-back."""
    images = slices(write_image, JPEG2000Lossless)
    for image in images[3:]:
        dataset = dcmread(image.path)
        cells = dataset.pixel_array
        stream = imagecodecs.jpeg2k_encode(
            cells, codecformat="JP2", level=0, bitspersample=12, reversible=True
        )
        dataset.PixelData = encapsulate([stream])
        dataset.save_as(image.path)
    images = [replace(image, facts=index_file(image.path)) for image in images]
    first = iter([True])
    library.refuses = lambda one: one[:2] != b"\xff\x4f" or next(first, False)
    feed = Feed(CT, CpuLane(), DecodePool(PoolSettings()), 3, GpuCodec(library, 0))
    rows = list(feed.batches([(one, 0) for one in images], SliceSteps(CT, None)))
    found = np.concatenate([np.asarray(one.tensor) for one in rows])
    np.testing.assert_allclose(found, told(images), rtol=0, atol=1e-5)
    assert dict(feed.paths) == {"stored": 5, "decoded_on_gpu": 2}
    assert feed.fallbacks == {"decoder_fallbacks": {JPEG2000Lossless.name: 2}}


def test_a_library_that_fails_costs_time_alone(write_image: Write, library: Library) -> None:
    library.fails = RuntimeError("nvJPEG2000: status 8")
    images = slices(write_image, JPEG2000Lossless)
    with capture_logs() as logged:
        rows, paths = fed(images, GpuCodec(library, 0))
    np.testing.assert_allclose(rows, told(images), rtol=0, atol=1e-5)
    assert paths == {"stored": 5}
    assert {one["event"] for one in logged} == {"decode.gpu_failed"}


@pytest.mark.parametrize("how", ["scaled", "off by one", "of another shape"])
def test_a_kind_that_the_gpu_reads_otherwise_is_not_given_to_it_again(
    write_image: Write, library: Library, how: str
) -> None:
    library.spoils = {
        "scaled": lambda samples: samples << 4,
        "off by one": lambda samples: samples + 1,
        "of another shape": lambda samples: samples.T,
    }[how]
    images = slices(write_image, JPEG2000Lossless)
    codec = GpuCodec(library, 0)
    with capture_logs() as logged:
        rows, paths = fed(images, codec)
    np.testing.assert_allclose(rows, told(images), rtol=0, atol=1e-5)
    assert paths == {"stored": 5}
    if how != "of another shape":  # which is seen in every frame
        assert library.batches == [3]
        assert [one["event"] for one in logged] == ["decode.gpu_differs"]


def test_syntaxes_and_files_that_are_not_for_it_never_reach_it(
    write_image: Write, library: Library
) -> None:
    images = slices(write_image, JPEGLSLossless, 2)
    unknown = [SourceImage(9, "9", "", "", slices(write_image, JPEG2000Lossless, 1)[0].path)]
    rows, paths = fed([*images, *unknown], GpuCodec(library, 0))
    np.testing.assert_allclose(rows, told([*images, *unknown]), rtol=0, atol=1e-5)
    assert paths == {"stored": 3}
    assert library.batches == []


def test_a_damaged_codestream_is_refused_as_without_a_gpu(
    write_image: Write, library: Library
) -> None:
    images = slices(write_image, JPEG2000Lossless, 2)
    path = images[1].path
    content = path.read_bytes()
    path.write_bytes(content[:-300] + bytes(300))
    with pytest.raises(NotAnalysableError):
        fed(images, GpuCodec(library, 0))


@pytest.fixture
def no_codec() -> Iterator[None]:
    codec_on.cache_clear()
    yield
    codec_on.cache_clear()


@pytest.mark.usefixtures("no_codec")
def test_a_site_that_asks_for_it_is_told_what_is_missing(
    chest_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, library: Library
) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with pytest.raises(EngineUnavailableError, match=r"\.\[nvimagecodec\]'"):
        codec_on("cuda:0")
    package = ModuleType("nvidia")
    monkeypatch.setitem(sys.modules, "nvidia", package)
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", library)

    def broken(**_: Any) -> None:
        raise RuntimeError("no device")

    monkeypatch.setattr(library, "Decoder", broken)
    with pytest.raises(EngineUnavailableError, match="does not start on cuda:0"):
        codec_on("cuda:0")
    # On a CPU nobody asks for it.
    reader = RadiographReader(chest_bundle)
    reader.setup("cpu", EngineSettings(gpu_decoding=True))
    assert not reader.gpu_decoding
