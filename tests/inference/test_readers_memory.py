"""Real bundles within a budget: results stay right, and memory is really given back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from models_in_turn import in_turn
from monai.networks.nets import Classifier
from small_bundles import PNEUMOTHORAX, small_bundle

from inference.bundle import Bundle
from inference.input_spec import InputSpec
from inference.model import load_reader
from inference.readers import WarmReaders
from inference.reading import SourceImage
from inference.training.phantoms.files import write_chest

# One of its layers has 36 MiB.
_ARGUMENTS = {
    "in_shape": [1, 64, 64],
    "classes": 1,
    "channels": [8, 512, 2048],
    "strides": [4, 4, 4],
    "num_res_units": 0,
}
_MIB = 1 << 20


def _large(path: Path, seed: int) -> Bundle:
    torch.manual_seed(seed)
    return small_bundle(
        path,
        Classifier(**_ARGUMENTS),
        {"_target_": "monai.networks.nets.Classifier", **_ARGUMENTS},
        InputSpec("radiograph", 64),
        ["pneumothorax"],
        code=PNEUMOTHORAX,
        thresholds=(0.1, 0.9),
    )


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("large")
    return [_large(folder / f"large-{number}", number) for number in range(4)]


@pytest.fixture
def film(
    tmp_path: Path, sources: Callable[[Iterable[Path]], list[SourceImage]]
) -> list[SourceImage]:
    return sources([write_chest(tmp_path, seed=3, pneumothorax=True)])


def _said(readers: WarmReaders, bundle: Bundle, film: Sequence[SourceImage]) -> float:
    return readers(bundle).read(film).findings[0].probability


@pytest.mark.slow
def test_models_go_and_come_and_say_the_same(
    bundles: list[Bundle], film: list[SourceImage]
) -> None:
    seen = in_turn([one.path for one in bundles], film, (0, 1, 2, 3, 0, 1), memory_mb=90)
    assert len(set(seen.told)) == len(seen.told)
    assert seen.found == pytest.approx([*seen.told, *seen.told[:2]], abs=1e-6)
    assert max(seen.n_loaded) <= 2
    # All four take 150 MiB.
    assert seen.most <= 115 * _MIB
    events = [entry["event"] for entry in seen.logs]
    assert events.count("model.loaded") >= 5
    assert events.count("model.loaded") - events.count("model.unloaded") == seen.n_loaded[-1]
    loaded = [entry["mb"] for entry in seen.logs if entry["event"] == "model.loaded"]
    assert all(30 <= mb <= 160 for mb in loaded)


@pytest.mark.slow
def test_several_analyses_share_a_small_budget(
    bundles: list[Bundle], film: list[SourceImage]
) -> None:
    told = [load_reader(one, "cpu").read(film).findings[0].probability for one in bundles]
    readers = WarmReaders("cpu", 4, memory_mb=40)
    with ThreadPoolExecutor(4) as pool:
        order = [number % 4 for number in range(8)]
        found = list(pool.map(lambda number: _said(readers, bundles[number], film), order))
    assert found == pytest.approx([told[number] for number in order], abs=1e-6)
    assert len(readers.loaded) == 1


def test_without_a_budget_all_stay(bundles: list[Bundle], film: list[SourceImage]) -> None:
    readers = WarmReaders("cpu", 4)
    for bundle in (*bundles, *bundles):
        _said(readers, bundle, film)
    assert readers.loaded == tuple(one.name for one in bundles)
