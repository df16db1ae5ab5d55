"""Inputs decoded in processes and kept on disk: always those of the serving path."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from inference.errors import InferenceError
from inference.film_contrast import without_contrast
from inference.image_file import open_image
from inference.input_spec import InputSpec
from inference.pixels import hounsfield_values
from inference.tensors import prepare_ct
from inference.training.layouts import LabelledImages
from inference.training.phantoms.files import write_chest, write_head_series
from inference.training.prepared import InputCache, PreparedImages, cache_key, prepare_file
from inference.training.processes import Pool
from inference.training.samples import as_bytes
from inference.windows import BRAIN, SUBDURAL

SPEC = InputSpec("ct_slices", 32, (BRAIN, SUBDURAL))
ROW = 2 * 32 * 32
ORDER = [np.array([5, 0, 3]), np.array([1]), np.array([2, 4, 0])]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    folder = tmp_path_factory.mktemp("heads")
    paths = write_head_series(folder, 1, "epidural", slices=6, size=64)
    names = np.array([path.name.encode() for path in paths])
    return LabelledImages(folder, names, np.zeros((6, 1), np.uint8))


def prepared(
    images: LabelledImages, folder: Path, workers: int = 1, limit: int = 1 << 20
) -> list[tuple[list[int], bytes]]:
    key = cache_key(SPEC, images.digest)
    cache = InputCache.open(folder, key, len(images), SPEC, limit)
    with Pool(workers) as pool:
        found = PreparedImages(images, SPEC, cache, pool).batches(ORDER)
        return [(rows.tolist(), batch.numpy().tobytes()) for rows, batch in found]


def test_inputs_are_those_of_the_serving_path(images: LabelledImages, tmp_path: Path) -> None:
    rows, batch = prepared(images, tmp_path)[0]
    served = [
        as_bytes(prepare_ct(hounsfield_values(open_image(images.path(row))).values[None], SPEC,
                            torch.device("cpu"))[0])
        for row in (5, 0, 3)
    ]  # fmt: skip
    assert rows == [5, 0, 3]
    assert batch == np.stack(served).tobytes()


def test_neither_cache_nor_processes_change_an_input(
    images: LabelledImages, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "some").mkdir()
    fresh = prepared(images, tmp_path)
    assert prepared(images, tmp_path) == fresh  # from the cache
    assert prepared(images, tmp_path / "none", limit=0) == fresh
    assert prepared(images, tmp_path / "some", limit=3 * ROW + 5) == fresh
    assert next((tmp_path / "some").glob("*.u8")).stat().st_size == 3 * ROW
    assert prepared(images, tmp_path / "none", workers=2, limit=0) == fresh


def test_what_is_kept_is_used_without_the_files(images: LabelledImages, tmp_path: Path) -> None:
    fresh = prepared(images, tmp_path)
    gone = dataclasses.replace(images, folder=tmp_path / "gone")
    assert prepared(gone, tmp_path) == fresh


def test_what_is_damaged_on_disk_is_decoded_again(images: LabelledImages, tmp_path: Path) -> None:
    fresh = prepared(images, tmp_path)
    with next(tmp_path.glob("*.u8")).open("r+b") as file:
        file.seek(3 * ROW + 100)
        file.write(b"\xa5" * 30)
    assert prepared(images, tmp_path) == fresh


def test_another_specification_has_another_cache(images: LabelledImages, tmp_path: Path) -> None:
    prepared(images, tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    other = dataclasses.replace(SPEC, windows=(SUBDURAL, BRAIN))
    assert cache_key(other, images.digest) != cache_key(SPEC, images.digest)
    InputCache.open(tmp_path, cache_key(other, images.digest), len(images), other, 1 << 20)
    after = {path.name for path in tmp_path.iterdir()}
    assert not before & after  # what is of no use any more takes no room


def test_one_image_in_a_hundred_may_be_unreadable_and_no_more(
    images: LabelledImages, tmp_path: Path
) -> None:
    for row in range(6):
        (tmp_path / images.path(row).name).write_bytes(images.path(row).read_bytes())
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    few = np.append(images.names, b"broken.dcm")
    many = np.append(np.tile(images.names, 20), b"broken.dcm")
    left_out: list[str] = []

    def run(names: np.ndarray) -> list[list[int]]:
        told = LabelledImages(tmp_path, names, np.zeros((len(names), 1), np.uint8))
        last = len(names) - 1
        cache = InputCache.open(tmp_path, "x", len(told), SPEC, 0)
        with Pool(1) as pool:
            found = PreparedImages(
                told, SPEC, cache, pool, lambda path, reason: left_out.append(path.name)
            )
            order = [np.array([0, last, 1]), np.array([last])]
            return [rows.tolist() for rows, _ in found.batches(order)]

    assert run(many) == [[0, 1], []]
    assert left_out == ["broken.dcm"]
    with pytest.raises(InferenceError, match=r"1 of 7 images cannot be used.*broken\.dcm"):
        run(few)


def test_a_film_without_contrast_is_left_out_as_it_is_refused_when_served(tmp_path: Path) -> None:
    for number in range(2):
        path = write_chest(tmp_path / "drawn", seed=number, pneumothorax=False, size=64)
        path.rename(tmp_path / f"{number}.dcm")
    flat = pydicom.dcmread(tmp_path / "0.dcm")
    flat.PixelData = np.full_like(flat.pixel_array, 700).tobytes()
    flat.save_as(tmp_path / "flat.dcm")
    names = np.array([b"0.dcm", b"flat.dcm", b"1.dcm"] + 98 * [b"1.dcm"])
    told = LabelledImages(tmp_path, names, np.zeros((len(names), 1), np.uint8))
    spec = InputSpec(kind="radiograph", size=64)
    cache = InputCache.open(tmp_path, "z", len(told), spec, 0)
    left_out: list[tuple[str, str]] = []
    with Pool(1) as pool:
        found = PreparedImages(
            told, spec, cache, pool, lambda path, reason: left_out.append((path.name, reason))
        )
        ((rows, inputs),) = found.batches([np.arange(3)])
    assert rows.tolist() == [0, 2]
    assert len(inputs) == 2
    assert left_out == [("flat.dcm", str(without_contrast()))]
    assert found.unreadable == {1}


def test_a_slice_without_contrast_is_learnt_from(images: LabelledImages, tmp_path: Path) -> None:
    """Slices of air lie at the ends of heads, and a series with some is read."""
    flat = pydicom.dcmread(images.path(0))
    flat.PixelData = np.full_like(flat.pixel_array, 24).tobytes()
    flat.save_as(tmp_path / "air.dcm")
    assert prepare_file(tmp_path / "air.dcm", SPEC).shape[0] == SPEC.channels


def test_work_is_begun_a_few_batches_ahead_and_not_all_at_once(
    images: LabelledImages, tmp_path: Path
) -> None:
    begun: list[int] = []

    class Counting(Pool):
        def submit(self, function: Callable, *arguments: object) -> Callable:  # type: ignore[type-arg]
            begun.append(1)
            return super().submit(function, *arguments)

    cache = InputCache.open(tmp_path, "y", len(images), SPEC, 0)
    batches = PreparedImages(images, SPEC, cache, Counting(1)).batches(
        np.array([i % 6]) for i in range(1000)
    )
    next(batches)
    assert len(begun) < 10


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with Pool(2) as pool, pytest.raises(InferenceError, match="use fewer --workers"):
        list(pool.map([(_die, ())]))


def _die() -> None:
    import os

    os._exit(1)


def test_a_full_disk_costs_time_and_nothing_else(
    images: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = prepared(images, tmp_path)
    (tmp_path / "full").mkdir()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    assert prepared(images, tmp_path / "full") == fresh
