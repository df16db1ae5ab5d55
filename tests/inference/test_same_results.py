"""What a reader says does not depend on how many rows go through the network at once, nor on the
order in which images came: to 1e-5, with every engine of a CPU."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import plane_bundles
import pytest
import torch
from monai.networks.nets import Classifier
from plane_bundles import LOADED, STRETCHED, one

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.engines.choose import EngineSettings
from inference.evaluation.images import read_images, singly
from inference.model import load_reader
from inference.reader import Reader
from inference.reading import Reading, SourceImage
from inference.settings import shipped_bundles
from inference.training.phantoms.files import write_chest, write_head_series

Sources = Callable[[Iterable[Path]], list[SourceImage]]

BATCHES = (1, 2, 3, 8, 17)
NAMES = {"onnx": "onnxruntime", "torch": "torch"}
CLOSE = 1e-5


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eighteen slices: no batch of 17 takes all."""
    folder = tmp_path_factory.mktemp("heads")
    return write_head_series(folder, 5, "epidural", slices=18, size=128)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [write_chest(folder / str(seed), seed, seed % 2 == 0, size=320) for seed in range(18)]


def exported(folder: Path, like: Bundle) -> Bundle:
    """Write a bundle with a network of which ONNX Runtime gives what torch gives."""
    spec, labels = like.spec, [label.name for label in like.labels]
    arguments = {
        "in_shape": [spec.channels, spec.size, spec.size], "classes": len(labels),
        "channels": [4, 8], "strides": [2, 2], "norm": "batch",
    }  # fmt: skip
    torch.manual_seed(3)
    write_bundle(
        folder / "exported",
        name="exported",
        version="0.0.1",
        network_def={"_target_": "monai.networks.nets.Classifier", **arguments},
        state_dict=Classifier(**arguments).state_dict(),
        preread={
            "input": spec.to_dict(),
            "labels": [
                {
                    "name": label.name,
                    "code": dict(
                        zip(("value", "scheme", "meaning"), astuple(label.code), strict=True)
                    ),
                    "thresholds": {"low": 0.1, "high": 0.5},
                }
                for label in like.labels
            ],
        },
        metadata={"description": "A network for tests"},
        card="# For tests\n",
    )
    return open_bundle(folder / "exported")


def settings_of(engine: str, folder: Path) -> EngineSettings:
    return EngineSettings(folder / "engines", 1) if engine == "onnx" else EngineSettings(None, 1)


def reader_of(bundle: Bundle, engine: str, folder: Path, batch: int = 1) -> Reader:
    reader = load_reader(bundle, "cpu", batch, settings_of(engine, folder))
    assert isinstance(reader, Reader)
    return reader


def told(reading: Reading) -> dict[tuple[str, str, str | None], float]:
    return {
        (one.label.name, str(one.scope), one.sop_instance_uid): one.probability
        for one in reading.findings
    }


def compare_slices(bundle: Bundle, engine: str, folder: Path, images: list[SourceImage]) -> float:
    """Demand the same of all batches and orders; return the largest difference."""
    expected = told(reader_of(bundle, engine, folder).read(images))
    largest = 0.0
    for batch in BATCHES[1:]:
        came = random.Random(batch).sample(images, len(images))
        reading = reader_of(bundle, engine, folder, batch).read(came)
        found = told(reading)
        assert list(found) == list(expected)
        assert {one["engine"] for one in made_with(reading)} == {NAMES[engine]}
        largest = max(largest, *(abs(found[key] - expected[key]) for key in expected))
    assert largest <= CLOSE
    return largest


def made_with(reading: Reading) -> list[dict[str, object]]:
    found = reading.facts["made_with"]
    assert isinstance(found, list) and found
    return found


def compare_films(bundle: Bundle, engine: str, folder: Path, paths: list[Path]) -> float:
    reader = reader_of(singly(bundle), engine, folder)
    results = dict(scored(reader, paths, 1))
    largest = 0.0
    for batch in BATCHES[1:]:
        came = random.Random(batch).sample(paths, len(paths))
        for path, found in scored(reader, came, batch):
            largest = max(largest, float(np.abs(found - results[path]).max()))
    assert largest <= CLOSE
    made = reader.network.made_with
    assert made is not None and made.engine == NAMES[engine]
    return largest


def scored(reader: Reader, paths: list[Path], batch: int) -> list[tuple[Path, Any]]:
    found = [(one.path, one.probabilities) for one in read_images(reader, paths, batch=batch)]
    assert all(probabilities is not None for _, probabilities in found)
    return found


@pytest.mark.parametrize("engine", NAMES)
def test_of_slices(
    ct_bundle: Bundle, heads: list[Path], sources: Sources, tmp_path: Path, engine: str
) -> None:
    compare_slices(exported(tmp_path, ct_bundle), engine, tmp_path, sources(heads))


@pytest.mark.parametrize("engine", NAMES)
def test_of_films(chest_bundle: Bundle, films: list[Path], tmp_path: Path, engine: str) -> None:
    compare_films(exported(tmp_path, chest_bundle), engine, tmp_path, films)


@pytest.mark.parametrize("engine", NAMES)
def test_of_films_as_monai_makes_them(films: list[Path], tmp_path: Path, engine: str) -> None:
    scaled = one("ScaleIntensityd")
    path = plane_bundles.written(tmp_path / "b", [*LOADED, STRETCHED, scaled])
    compare_films(plane_bundles.served(path), engine, tmp_path, films)


@pytest.mark.slow
@pytest.mark.parametrize("engine", NAMES)
def test_of_the_bundles_that_ship(
    heads: list[Path], films: list[Path], sources: Sources, tmp_path: Path, engine: str
) -> None:
    for path in shipped_bundles():
        bundle = open_bundle(path)
        if bundle.spec.kind == "ct_slices":
            found = compare_slices(bundle, engine, tmp_path, sources(heads))
        else:
            found = compare_films(bundle, engine, tmp_path, films)
        print(f"{bundle.name} {engine}: {found:.1e}")
