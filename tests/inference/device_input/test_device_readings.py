"""Readers whose input is made on a device: the same results, one batch ahead, and what went how."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless
from structlog.testing import capture_logs
from waiting import wait_for

from inference import ct_slices_reader, radiograph_reader
from inference.bundle import Bundle
from inference.ct_slices_reader import CtSlicesReader
from inference.decode_pool import DecodePool, PoolSettings
from inference.device_input.ahead import ahead
from inference.device_input.choice import is_made_on
from inference.device_input.feed import Feed
from inference.device_input.lanes import CpuLane, Mark
from inference.device_input.steps import SliceSteps
from inference.errors import NotAnalysableError
from inference.input_spec import InputSpec
from inference.plane_spec import PlaneSpec
from inference.radiograph_reader import RadiographReader
from inference.reader import Reader
from inference.reading import Reading, SourceImage

Sources = Callable[[Iterable[Path]], list[SourceImage]]
Write = Callable[..., Path]


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have readers on the CPU make their input as on a GPU."""
    for module in (ct_slices_reader, radiograph_reader):
        monkeypatch.setattr(module, "is_made_on", lambda *_: True)


def test_a_gpu_makes_all_inputs_but_those_by_steps() -> None:
    film = InputSpec("radiograph", 64)
    assert is_made_on("cuda:1", film)
    assert is_made_on(torch.device("cuda"), film)
    assert not is_made_on("cpu", film)
    plane = PlaneSpec.from_dict({"steps": [{"kind": "linear"}]})
    assert not is_made_on("cuda:0", InputSpec("radiograph", 64, plane=plane))


def series(write_image: Write, count: int = 7, **elements: Any) -> list[Path]:
    rng = np.random.default_rng(3)
    soft = rng.normal(40, 30, (48, 48))
    return [
        write_image(
            (soft + 5 * n).astype(np.int16),
            InstanceNumber=n + 1,
            ImagePositionPatient=[0, 0, 5 * n],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[0.5, 0.5],
            SliceThickness=5,
            SeriesInstanceUID="1.2.3",
            StudyInstanceUID="1.2",
            FrameOfReferenceUID="1.2.4",
            **elements,
        )
        for n in range(count)
    ]


def reader_of(bundle: Bundle, batch: int = 3, **spec: Any) -> Reader:
    accepts_all = replace(
        bundle.suitability, modalities=(), body_parts=(), min_slices=1, min_rows=1, axial=False,
        anatomy="any",
    )  # fmt: skip
    served = replace(bundle, suitability=accepts_all, spec=replace(bundle.spec, **spec))
    kind = CtSlicesReader if bundle.spec.kind == "ct_slices" else RadiographReader
    reader = kind(served, batch)
    reader.setup("cpu")
    return reader


def rows_of(reader: Reader, images: list[SourceImage]) -> torch.Tensor:
    return torch.cat([torch.as_tensor(b.tensor) for b in reader.decode(images).batches])


@pytest.mark.parametrize("crop", ["none", "head"])
@pytest.mark.parametrize("processes", [0, 2])
def test_a_series_is_read_the_same(
    ct_bundle: Bundle, write_image: Write, sources: Sources, request: pytest.FixtureRequest,
    crop: str, processes: int,
) -> None:  # fmt: skip
    images = sources(series(write_image))
    told_rows = rows_of(reader_of(ct_bundle, crop=crop), images)
    told = reader_of(ct_bundle, crop=crop).read(images)
    request.getfixturevalue("on_device")
    reader = reader_of(ct_bundle, crop=crop)
    with DecodePool(PoolSettings(processes=processes)) as pool:
        reader.decoding = pool
        torch.testing.assert_close(rows_of(reader, images), told_rows, rtol=0, atol=1e-5)
        found = reader.read(images)
    assert found.facts["device_input"] == {"stored": 7}
    assert [f.presence for f in found.findings] == [f.presence for f in told.findings]
    for one, other in zip(found.findings, told.findings, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
    assert found.facts.get("pixel_notes") == told.facts.get("pixel_notes")


def test_films_are_read_the_same_and_a_coloured_one_takes_the_other_path(
    chest_bundle: Bundle, sample: Callable[[str], Path], sources: Sources,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    for name, way in (("RG1_UNCR.dcm", "stored"), ("SC_rgb.dcm", "colour")):
        images = sources([sample(name)])
        told = rows_of(reader_of(chest_bundle), images)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(radiograph_reader, "is_made_on", lambda *_: True)
            reader = reader_of(chest_bundle)
            torch.testing.assert_close(rows_of(reader, images), told, rtol=0, atol=1e-5)
            assert reader.read(images).facts["device_input"] == {way: 1}


def box(path: Path) -> None:
    """Put the pixels into the boxes of a JP2 file, which the first decoder does not read."""
    dataset = dcmread(path)
    cells = dataset.pixel_array.astype(np.uint16)
    stream = imagecodecs.jpeg2k_encode(cells, codecformat="JP2", level=0, reversible=True)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelRepresentation = 0
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)


def test_what_another_decoder_read_is_counted_once_as_on_the_host(
    ct_bundle: Bundle, chest_bundle: Bundle, write_image: Write, sources: Sources,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    slices = series(write_image, RescaleIntercept=-1024)
    noise = np.random.default_rng(4).integers(0, 4000, (80, 80)).astype(np.uint16)
    films = [write_image(noise, Modality="DX") for _ in range(3)]
    for path in (slices[1], slices[5], films[2]):
        box(path)

    def both() -> list[Reading]:
        pairs = ((ct_bundle, slices), (chest_bundle, films))
        return [reader_of(bundle).read(sources(paths)) for bundle, paths in pairs]

    told = both()
    request.getfixturevalue("on_device")
    found = both()
    for one, other, count in zip(found, told, (2, 1), strict=True):
        assert "device_input" in one.facts
        assert one.facts["decoder_fallbacks"] == {JPEG2000Lossless.name: count}
        assert other.facts["decoder_fallbacks"] == {JPEG2000Lossless.name: count}


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("kind", ["ct", "film"])
def test_pictures_of_one_grey_are_refused(
    ct_bundle: Bundle, chest_bundle: Bundle, write_image: Write, sources: Sources, kind: str
) -> None:
    flat = np.full((64, 64), 5, np.uint16)
    paths = [write_image(flat, Modality="CT" if kind == "ct" else "DX")]
    reader = reader_of(ct_bundle if kind == "ct" else chest_bundle)
    with pytest.raises(NotAnalysableError, match="contrast"):
        rows_of(reader, sources(paths))


@pytest.mark.usefixtures("on_device")
def test_a_damaged_slice_is_refused_in_its_turn(
    ct_bundle: Bundle, write_image: Write, sources: Sources
) -> None:
    paths = series(write_image)
    images = sources(paths)
    batches = reader_of(ct_bundle).decode(images).batches
    paths[-1].write_bytes(paths[-1].read_bytes()[:-2000])
    assert len(next(batches).notes) == 3
    with pytest.raises(NotAnalysableError):
        list(batches)


class Watched(CpuLane):
    """Notes what comes in which order."""

    def __init__(self, said: list[str]) -> None:
        self.said = said
        self.count = 0

    def mark(self) -> Mark:
        number, self.count = self.count, self.count + 1
        said = self.said

        class _Noted:
            def wait(self) -> None:
                said.append(f"wait {number} in {threading.current_thread().name}")

            def follow(self, tensor: torch.Tensor) -> None:
                said.append(f"follow {number}")

        return _Noted()


def test_the_next_batch_is_uploaded_while_one_is_computed(
    ct_bundle: Bundle, write_image: Write, sources: Sources
) -> None:
    said: list[str] = []
    lane = Watched(said)
    feed = Feed(ct_bundle.spec, lane, DecodePool(PoolSettings()), 2)
    frames = [(image, 0) for image in sources(series(write_image))]
    batches = feed.batches(frames, SliceSteps(ct_bundle.spec, None))
    next(batches)
    # The first is being computed, and nobody takes a batch: an upload and a batch, twice.
    wait_for(lambda: lane.count >= 4, every=0.02)
    # The network's stream waits for the batch, and this thread for nothing.
    assert [one for one in said if "preread-input" not in one] == ["follow 1"]
    assert sum(len(batch.notes) for batch in batches) == 5


class Failing(CpuLane):
    """Has no memory for one batch, and is lost while another is on its way."""

    def __init__(self) -> None:
        self.uploads = 0

    def upload(self, memory: torch.Tensor) -> torch.Tensor:
        self.uploads += 1
        if self.uploads == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return memory.clone()

    def mark(self) -> Mark:
        lost = self.uploads >= 4

        class _Lost:
            def wait(self) -> None:
                pass

            def follow(self, tensor: torch.Tensor) -> None:
                if lost:
                    raise torch.AcceleratorError("CUDA error: an illegal memory access")

        return _Lost()


def test_a_batch_that_the_device_fails_on_is_made_by_the_host(
    ct_bundle: Bundle, write_image: Write, sources: Sources
) -> None:
    images = sources(series(write_image))
    told = rows_of(reader_of(ct_bundle), images)
    feed = Feed(ct_bundle.spec, Failing(), DecodePool(PoolSettings()), 2)
    frames = [(image, 0) for image in images]
    with capture_logs() as logged:
        rows = [b.tensor for b in feed.batches(frames, SliceSteps(ct_bundle.spec, None))]
    torch.testing.assert_close(torch.cat([torch.as_tensor(r) for r in rows]), told,
                               rtol=0, atol=1e-5)  # fmt: skip
    assert feed.paths == {"stored": 7, "out_of_memory": 2, "device_lost": 1}
    assert [one["event"] for one in logged] == ["input.on_host"] * 2


def test_who_stops_early_leaves_no_thread() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    items = ahead(endless())
    assert [next(items), next(items)] == [0, 1]
    items.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert not [t for t in threading.enumerate() if t.name == "preread-input"]


def test_an_error_comes_after_what_was_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    taken = []
    with pytest.raises(ValueError, match="third"):
        taken.extend(ahead(failing()))
    assert taken == [1, 2]
    assert list(ahead(iter([3, 4]))) == [3, 4]
