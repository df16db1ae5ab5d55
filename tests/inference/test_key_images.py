"""Key images: explained by the pass that read them, decoded once more where all images are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pooled_bundle
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1
from torch import nn

from inference import reader as reader_module
from inference.bundle import Bundle
from inference.decode_pool import DecodePool
from inference.decode_process import DecodeProcess
from inference.decode_settings import PoolSettings
from inference.decode_task import Asked, DecodeTask
from inference.decoded import RecentImages
from inference.engines.engine import MadeWith, RawOutputs
from inference.explaining import Wanted
from inference.explanation import Method
from inference.illustrate import slice_candidates, slice_views
from inference.image_file import open_image
from inference.input_spec import InputSpec
from inference.kept_passes import MOST_BYTES, KeptPasses
from inference.key_images import decoded_again
from inference.model import load_reader
from inference.pixels import ModalityImage
from inference.placement import Placement
from inference.reader import Reader
from inference.reading import Reading, SourceImage, Thresholds
from inference.test_time import TestTime
from inference.windows import BRAIN

Sources = Callable[[Iterable[Path]], list[SourceImage]]
Write = Callable[..., Path]
SLICES = 24


@pytest.fixture
def bright_bundle(tmp_path: Path) -> Bundle:
    spec = InputSpec("ct_slices", 32, (BRAIN,))
    return pooled_bundle.write(tmp_path / "bright", spec, pooling={"reach_mm": 10.0})


@pytest.fixture
def series(write_image: Write, sources: Sources) -> list[SourceImage]:
    """A bleed in the upper left, brightest in slice 8."""
    paths = []
    for number in range(SLICES):
        pixels = np.full((64, 80), 10, dtype=np.int16)
        pixels[10:30, 8 + number : 30 + number] = 74 - abs(number - 8)
        paths.append(
            write_image(
                pixels,
                BodyPartExamined="HEAD",
                InstanceNumber=number,
                ImagePositionPatient=[0, 0, 5.0 * number],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[0.5, 0.5],
            )
        )
    return sources(paths)


def counted(reader: Reader) -> list[int]:
    """Return how many rows each pass of a reader's network has, from now on."""
    runs: list[int] = []
    network: Any = reader.network
    run = network._engine.run

    def counting(rows: Any) -> RawOutputs:
        runs.append(len(rows))
        given: RawOutputs = run(rows)
        return given

    network._engine = _Engine(network._engine, counting)
    return runs


class _Engine:
    def __init__(self, engine: Any, run: Callable[[Any], RawOutputs]) -> None:
        self.identity, self.run = engine.identity, run


def compare_to_passes_of_their_own(
    reader: Reader, reading: Reading, images: Sequence[SourceImage]
) -> None:
    """Ask the network once more for what each picture shows, the image alone."""
    paths = {image.sop_instance_uid: image.path for image in images}
    names = [label.name for label in reader.bundle.labels]
    shown = [one for one in reading.illustrations if one.explanation is not None]
    assert shown
    for one in shown:
        assert one.explanation is not None
        columns = [names.index(name) for name in one.labels]
        picture = reader.picture(open_image(paths[one.sop_instance_uid]), one.frame, columns)
        np.testing.assert_array_equal(picture.pixels, one.pixels)
        again = reader.explained(picture, names.index(one.explanation.label), Wanted(), (0.5, 0.5))
        assert again is not None
        assert (again.method, again.extent, again.seen, again.source) == (
            one.explanation.method, one.explanation.extent, one.explanation.seen,
            one.explanation.source,
        )  # fmt: skip
        levels = one.explanation.levels.astype(int)
        assert np.abs(levels - again.levels.astype(int)).max() <= 1
        highest = float(again.parameters["highest"])
        assert float(one.explanation.parameters["highest"]) == pytest.approx(highest, abs=1e-5)


@pytest.mark.parametrize("most_bytes", [1, MOST_BYTES], ids=["best alone", "all"])
def test_no_picture_costs_another_pass(
    bright_bundle: Bundle,
    series: list[SourceImage],
    monkeypatch: pytest.MonkeyPatch,
    most_bytes: int,
) -> None:
    made: list[KeptPasses] = []

    def kept() -> KeptPasses:
        made.append(KeptPasses(most_bytes))
        return made[-1]

    monkeypatch.setattr(reader_module, "KeptPasses", kept)
    reader = load_reader(bright_bundle, "cpu", 4)
    assert isinstance(reader, Reader)
    runs = counted(reader)
    reading = reader.read(series)
    assert sum(runs) == SLICES
    assert "illustration_failed" not in reading.facts
    explained = [one.explanation for one in reading.illustrations if one.explanation is not None]
    assert {one.method for one in explained} == {Method.CLASS_ACTIVATION}
    keys = [series.index(image) for image in series if image.sop_instance_uid in
            {one.sop_instance_uid for one in reading.illustrations}]  # fmt: skip
    assert min(keys) < SLICES - 4, "some stood in no last batch"
    assert len(made[0]) == SLICES if most_bytes > 1 else len(made[0]) < SLICES / 2
    compare_to_passes_of_their_own(reader, reading, series)


def test_views_of_test_time_take_a_pass_for_each_picture(
    bright_bundle: Bundle, series: list[SourceImage]
) -> None:
    """What they look at is moved: the input as it is was no view's last."""
    plain = load_reader(bright_bundle, "cpu", 4)
    assert isinstance(plain, Reader)
    runs = counted(plain)
    reader = plain.augmented(TestTime("mean", views=2))
    reading = reader.read(series)
    explained = [one for one in reading.illustrations if one.explanation is not None]
    assert explained
    assert sum(runs) == 2 * SLICES + len(explained)
    compare_to_passes_of_their_own(plain, reading, series)


class _Both(nn.Module):
    """Tells how bright an input is, and where, in half its rows and columns."""

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        half = nn.functional.avg_pool2d(rows[:, :1], 2)
        return 60 * half.mean((2, 3)) - 8, 2 * half - 2.5


def test_a_label_with_its_own_map_costs_no_other_pass(
    bright_bundle: Bundle, series: list[SourceImage]
) -> None:
    """Its map reaches nowhere what a mask begins with, so that the map itself is shown."""
    bundle = replace(
        bright_bundle, outputs=bright_bundle.outputs[:1], mapped=(bright_bundle.labels[0].name,)
    )
    reader = load_reader(bundle, "cpu", 4)
    assert isinstance(reader, Reader)
    network: Any = reader.network
    both = _Both()
    runs: list[int] = []

    def run(rows: Any) -> RawOutputs:
        runs.append(len(rows))
        given = tuple(one.numpy() for one in both(torch.as_tensor(rows)))
        return RawOutputs(given, None, MadeWith("torch", "", "cpu", "float32", len(rows)))

    network._engine = _Engine(network._engine, run)
    reading = reader.read(series)
    assert sum(runs) == SLICES
    explained = [one.explanation for one in reading.illustrations if one.explanation is not None]
    assert {one.method for one in explained} == {Method.OWN_MAP}
    compare_to_passes_of_their_own(reader, reading, series)


@given(
    st.integers(1, 4).flatmap(
        lambda labels: st.lists(
            st.lists(st.floats(0, 1).map(lambda p: round(p, 2)), min_size=labels, max_size=labels),
            min_size=1, max_size=40,
        )
    ),
    st.floats(0.5, 12.0), st.sampled_from([0.0, 5.0, 30.0]), st.integers(1, 9),
    st.floats(0.0, 1.0), st.booleans(),
)  # fmt: skip
@example(  # the seventh slice scores more than the fourth until the last one has come
    rows=[[0.0]] * 4 + [[1.0], [0.5]] + [[0.0]] * 3,
    step=6.0, reach=30.0, batch=1, low=0.0, backwards=False,
)  # fmt: skip
def test_whatever_comes_later_what_is_shown_was_kept(
    ct_bundle: Bundle,
    rows: list[list[float]],
    step: float,
    reach: float,
    batch: int,
    low: float,
    backwards: bool,
) -> None:
    probabilities = np.array(rows)
    bundle = replace(
        ct_bundle.with_thresholds({one.name: Thresholds(low, low) for one in ct_bundle.labels}),
        outputs=ct_bundle.outputs[: probabilities.shape[1]],
        pooling=replace(ct_bundle.pooling, reach_mm=reach),
    )
    positions: NDArray[np.float64] = np.arange(len(rows)) * step
    if backwards:
        positions = positions[::-1]
    kept: set[int] = set()
    for first in range(0, len(rows), batch):
        until = min(first + batch, len(rows))
        kept |= set(range(first, until))
        kept &= slice_candidates(bundle, positions, probabilities[:until])
    views = slice_views(bundle, positions, probabilities)
    assert {view.row for view in views if view.columns} <= kept


def test_what_is_kept_is_bounded() -> None:
    kept = KeptPasses(100_000)
    made = MadeWith("onnxruntime", "", "cpu", "float32", 8)
    for first in range(0, 3000, 8):
        maps = np.full((8, 14, 24, 24), first, dtype=np.float32)
        numbers = np.arange(first, first + 8, dtype=np.float32)[:, None]
        outputs = RawOutputs((numbers,), maps, made)
        kept.add(outputs, (224, 224), [Placement.whole((512, 512), 224)] * 8)
        if kept.are_too_many:
            kept.keep({3, 1000})
        assert kept.n_bytes < 100_000 + maps.nbytes + numbers.nbytes
    for row in (3, 1000):
        one = kept.of(row)
        assert one is not None
        assert float(one.outputs.tensors[0][0, 0]) == row
        assert one.batch.class_maps is not None
        assert one.batch.class_maps.base is None, "no memory of its batch is held"
    assert kept.of(4) is None


def film(write_image: Write, number: int) -> Path:
    """Write a film in JPEG lossless."""
    pixels = np.random.default_rng(number).integers(0, 4096, (100, 90)).astype(np.uint16)
    path = write_image(pixels, Modality="DX", BitsStored=12, InstanceNumber=number)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([imagecodecs.ljpeg_encode(pixels, bitspersample=12)])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path, enforce_file_format=True)
    return path


class _Counting(DecodePool):
    """Notes what is decoded."""

    def __init__(self, settings: PoolSettings) -> None:
        super().__init__(settings)
        self.frames: list[str] = []

    def decode(self, tasks: Iterable[DecodeTask]) -> Iterator[Any]:
        def noted() -> Iterator[DecodeTask]:
            for task in tasks:
                self.frames.append(task.image.sop_instance_uid)
                yield task

        return super().decode(noted())


@pytest.mark.parametrize("voi", [False, True])
def test_a_film_alone_is_decoded_once(
    chest_bundle: Bundle, write_image: Write, sources: Sources, voi: bool
) -> None:
    """Where the network saw the header's window applied, a picture needs what was before."""
    bundle = replace(chest_bundle, spec=replace(chest_bundle.spec, voi=voi))
    images = sources([film(write_image, 0)])
    with _Counting(PoolSettings(1)) as pool:
        reader = load_reader(bundle, "cpu")
        reader.decoding = pool
        reading = reader.read(images)
        assert len(pool.frames) == (2 if voi else 1)
    (shown,) = reading.illustrations
    assert isinstance(reader, Reader)
    picture = reader.picture(open_image(images[0].path), 0, [0])
    np.testing.assert_array_equal(shown.pixels, picture.pixels)


def test_pictures_of_several_films_are_decoded_by_the_processes(
    chest_bundle: Bundle, write_image: Write, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sources(film(write_image, number) for number in range(3))
    bundle = chest_bundle.with_thresholds({"pneumothorax": Thresholds(0.0, 0.0)})
    reader = load_reader(bundle, "cpu")
    assert isinstance(reader, Reader)
    expected = reader.read(images)
    with DecodePool(PoolSettings(2)) as pool:
        reader.decoding = pool

        def decoder_here(*_: object) -> None:
            raise AssertionError("a decoder ran in the process of the worker")

        monkeypatch.setattr("inference.decode_task.model_values", decoder_here)
        monkeypatch.setattr("inference.reader.model_values", decoder_here)
        reading = reader.read(images)
    assert len(reading.illustrations) == 3
    for one, other in zip(reading.illustrations, expected.illustrations, strict=True):
        assert one.sop_instance_uid == other.sop_instance_uid
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.saliency is not None
        assert other.saliency is not None
        np.testing.assert_allclose(one.saliency, other.saliency, rtol=0, atol=1e-5)


@pytest.mark.parametrize("processes", [0, 1])
def test_an_image_that_cannot_be_decoded_again_costs_its_picture_alone(
    write_image: Write, sources: Sources, processes: int
) -> None:
    images = sources(film(write_image, number) for number in range(3))
    images[1].path.write_bytes(images[1].path.read_bytes()[:400])
    spec = InputSpec("radiograph", 64)
    tasks = [DecodeTask(image, 0, spec) for image in images]
    with DecodePool(PoolSettings(processes)) as pool:
        found = list(decoded_again(pool, tasks, RecentImages()))
    assert [isinstance(one, ModalityImage) for one in found] == [True, False, True]


def test_a_decoder_that_ends_its_process_costs_a_picture(
    chest_bundle: Bundle,
    write_image: Write,
    sources: Sources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second time, when the picture is made: the findings are there, and so is the worker."""
    monkeypatch.setattr("inference.decoded._RECENT_BYTES", 0)  # the last one alone is kept
    images = sources(film(write_image, number) for number in range(2))
    bundle = chest_bundle.with_thresholds({"pneumothorax": Thresholds(0.0, 0.0)})
    pipe = tmp_path / "never written"
    os.mkfifo(pipe)

    ask = DecodeProcess.ask

    def sooner(self: DecodeProcess, asked: Asked, seconds: float) -> None:
        ask(self, asked, 1.0 if asked.task.image.path == pipe else seconds)

    monkeypatch.setattr(DecodeProcess, "ask", sooner)

    class _Crashing(DecodePool):
        """Has the first image of a picture hang, which ends its process."""

        def decode(self, tasks: Iterable[DecodeTask]) -> Iterator[Any]:
            if isinstance(tasks, tuple) and tasks:  # of pictures
                hanging = replace(tasks[0].image, path=pipe, facts=None)
                tasks = (replace(tasks[0], image=hanging), *tasks[1:])
            return super().decode(tasks)

    with _Crashing(PoolSettings(1)) as pool:
        reader = load_reader(bundle, "cpu")
        reader.decoding = pool
        reading = reader.read(images)
    assert len(reading.findings) == 2
    assert len(reading.illustrations) == 1
    assert list(dict(reading.facts["illustration_failed"]).values()) == [  # type: ignore[call-overload]
        "NotAnalysableError"
    ]


def test_the_frame_that_was_decoded_last_is_not_decoded_again(
    write_image: Write, sources: Sources
) -> None:
    task = DecodeTask(*sources([film(write_image, 0)]), 0, InputSpec("radiograph", 64))
    pool, recent = _Counting(PoolSettings()), RecentImages()
    (known,) = decoded_again(pool, [task], recent)
    assert isinstance(known, ModalityImage)
    recent.note(task, known)
    (again,) = decoded_again(pool, [task], recent)
    assert again is known
    (other,) = decoded_again(pool, [replace(task, frame=1)], recent)
    assert isinstance(other, Exception)
    assert len(pool.frames) == 2


def test_frames_that_were_decoded_last_stay_within_bounds(
    write_image: Write, sources: Sources
) -> None:
    tasks = [
        DecodeTask(image, 0, InputSpec("radiograph", 64))
        for image in sources(film(write_image, number) for number in range(3))
    ]
    side = np.zeros((2048, 2048), np.float32)  # 16 MiB: two fill the room
    recent = RecentImages()
    for task in tasks:
        recent.note(task, ModalityImage(side, ()))
    assert [recent.of(task) is not None for task in tasks] == [False, True, True]
    recent.note(tasks[0], ModalityImage(np.zeros((8192, 2048), np.float32), ()))
    assert [recent.of(task) is not None for task in tasks] == [True, False, False], "always one"
