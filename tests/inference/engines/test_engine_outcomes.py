"""From stored images to the database: what is said of the engine, and of an engine that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bundles import PNEUMOTHORAX, small_bundle, small_dense
from structlog.testing import capture_logs

from inference.bundle import Bundle
from inference.engines import (
    DeviceLostError,
    EngineIdentity,
    EngineOutOfMemoryError,
    RawOutputs,
    Rows,
)
from inference.engines.choose import Chosen, EngineSettings
from inference.engines.errors import EngineError, EngineRunError
from inference.engines.ladder import Ladder
from inference.errors import InferenceError
from inference.input_spec import InputSpec
from inference.model import load_reader
from inference.reading import SourceImage

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

Sources = Callable[[Iterable[Path]], list[SourceImage]]


@pytest.fixture
def film(write_image: Callable[..., Path], sources: Sources) -> list[SourceImage]:
    pixels = np.random.default_rng(8).integers(0, 4000, (80, 70), dtype=np.uint16)
    return sources(
        [
            write_image(
                pixels,
                Modality="DX",
                BodyPartExamined="CHEST",
                SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1",
            )
        ]
    )


def _dense(path: Path) -> Bundle:
    return small_bundle(
        path,
        *small_dense(out_channels=1),
        InputSpec("radiograph", 64),
        ["pneumothorax"],
        code=PNEUMOTHORAX,
        thresholds=(0.1, 0.9),
    )


def test_a_reading_says_what_it_was_made_with_and_is_the_same_on_all_engines(
    film: list[SourceImage], tmp_path: Path
) -> None:
    bundle = _dense(tmp_path / "dense")
    plain = load_reader(bundle, "cpu")
    fast = load_reader(bundle, "cpu", engines=EngineSettings(tmp_path / "engines", 1))
    told, found = plain.read(film), fast.read(film)
    assert told.facts["made_with"][0]["engine"] == "torch"  # type: ignore[index]
    (made,) = found.facts["made_with"]  # type: ignore[misc]
    assert (made["engine"], made["device"], made["precision"], made["batch"]) == (
        "onnxruntime",
        "cpu",
        "float32",
        1,
    )
    assert [one.presence for one in told.findings] == [one.presence for one in found.findings]
    for one, other in zip(told.findings, found.findings, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


class Failing:
    """An engine that fails always."""

    def __init__(self, error: EngineError) -> None:
        self._error = error

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("torch-cuda", "1", "cuda:0", "float32", 4)

    def run(self, rows: Rows) -> RawOutputs:
        raise self._error

    def release(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "code", "events"),
    [
        (EngineOutOfMemoryError("no memory"), "out_of_memory", ["engine.exhausted"]),
        (DeviceLostError("the GPU is lost"), "device_lost", ["engine.device_lost"]),
        (EngineRunError("a kernel fails"), "poisoned_input", ["engine.poisoned_row"]),
    ],
)
def test_an_engine_that_fails_ends_the_reading_with_a_code_and_says_so_in_the_log(
    chest_bundle: Bundle,
    film: list[SourceImage],
    monkeypatch: pytest.MonkeyPatch,
    error: EngineError,
    code: str,
    events: list[str],
) -> None:
    def failing(*_: Any) -> Chosen:
        return Chosen(Ladder(Failing(error)), None)

    monkeypatch.setattr("inference.forward.choose_engine", failing)
    reader = load_reader(chest_bundle, "cpu")
    with capture_logs() as logs, pytest.raises(InferenceError) as caught:
        reader.read(film)
    assert caught.value.code == code  # what the analyst stores as the reason
    assert [entry["event"] for entry in logs if entry["event"].startswith("engine.")] == events
    levels = {"engine.poisoned_row": "warning", "engine.device_lost": "critical"}
    level = levels.get(events[0], "error")
    assert logs[-1]["log_level"] == level


def test_a_lost_gpu_costs_no_result(
    chest_bundle: Bundle, film: list[SourceImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference.engines.choose import choose_engine

    told = load_reader(chest_bundle, "cpu").read(film)
    spare = choose_engine(chest_bundle, "cpu", EngineSettings()).engine
    chosen = Chosen(Ladder(Failing(DeviceLostError("gone")), lambda: spare), None)
    monkeypatch.setattr("inference.forward.choose_engine", lambda *_: chosen)
    found = load_reader(chest_bundle, "cpu").read(film)
    assert found.findings == told.findings
    assert found.facts["made_with"][0]["device"] == "cpu"  # type: ignore[index]
