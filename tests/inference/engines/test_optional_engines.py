"""Engines of extra packages: what a site is told that lacks one, and that they give the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from small_bundles import small_bundle, small_dense

from inference.bundle import Bundle, open_bundle
from inference.catalogue import open_catalogue
from inference.engine_spec import EngineSpec
from inference.engines import optional
from inference.engines.choose import EngineSettings, choose_engine
from inference.engines.errors import EngineRunError, EngineUnavailableError
from inference.engines.tensorrt_cache import built_key
from inference.extras import installed_by
from inference.input_spec import InputSpec
from inference.settings import InferenceSettings, ModelSettings

Make = Callable[..., Bundle]
SIZE = 96


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a bundle of a small network whose last maps are 12 x 12."""

    def write(engine: object, name: str = "dense") -> Bundle:
        spec = InputSpec("radiograph", SIZE)
        return small_bundle(tmp_path / name, *small_dense(), spec, ("one", "two"), engine=engine)

    return write


@pytest.fixture
def settings(tmp_path: Path) -> EngineSettings:
    return EngineSettings(tmp_path / "engines", threads=1, largest_batch=4)


def _rows(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, SIZE, SIZE), dtype=np.float32)


def test_a_missing_package_is_named_with_its_extra(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = optional.find_spec
    monkeypatch.setattr(
        optional, "find_spec", lambda name: None if name == "openvino" else there(name)
    )
    bundle = make("openvino")
    with pytest.raises(EngineUnavailableError, match=re.escape(installed_by("openvino"))) as said:
        choose_engine(bundle, "cpu", settings)
    assert f"{bundle.path / 'configs/preread.json'} asks for the engine openvino" in str(said.value)


def test_the_settings_are_named_where_they_ask(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional, "find_spec", lambda name: name != "openvino" or None)
    path = make("auto").path
    bundle = open_bundle(path, {"engine": "openvino"})
    with pytest.raises(EngineUnavailableError) as said:
        choose_engine(bundle, "cpu", settings)
    assert str(said.value) == (
        f"model {bundle.name}: its [[model]] in the settings asks for the engine openvino, and its "
        f'package is not installed: {installed_by("openvino")}; with engine = "auto" under its '
        "[[model]] it does without"
    )
    assert str(path) not in str(said.value), "its files are in order"


def test_tensorrt_needs_a_gpu_and_its_own_onnx_runtime(
    make: Make, settings: EngineSettings
) -> None:
    bundle = make("tensorrt")
    with pytest.raises(
        EngineUnavailableError, match="needs a GPU of NVIDIA, and the device is cpu"
    ):
        choose_engine(bundle, "cpu", settings)
    with pytest.raises(EngineUnavailableError, match=r"uninstall onnxruntime.*\[tensorrt\]"):
        choose_engine(bundle, "cuda:0", settings)


@pytest.mark.parametrize(
    ("name", "precision", "allowed"),
    [
        ("openvino", "float32", True),
        ("openvino", "bfloat16", False),
        ("tensorrt", "float16", True),
        ("tensorrt", "bfloat16", False),
    ],
)
def test_each_has_the_precisions_that_it_has(name: Any, precision: Any, allowed: bool) -> None:
    if allowed:
        assert EngineSpec(name, precision).precision == precision
        return
    with pytest.raises(ValueError, match=f"engine {name} computes in float32"):
        EngineSpec(name, precision)


class FakeTensorRt:
    """ONNX Runtime's session on the CPU, with the providers that it was asked for."""

    def __init__(self, keeps: bool = True, off_by: float = 0.0) -> None:
        self.keeps, self.off_by = keeps, off_by
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.sizes: list[int] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        real = onnxruntime.InferenceSession
        fake = self

        class Session:
            def __init__(self, path: Any, options: Any, providers: list[Any]) -> None:
                self._real = real(path, options, providers=["CPUExecutionProvider"])
                self._gpu = isinstance(providers[0], tuple)
                if self._gpu:
                    fake.asked = providers

            def get_providers(self) -> list[str]:
                return [one[0] for one in fake.asked[0 if fake.keeps else 1 :]]

            def run(self, names: Any, given: dict[str, np.ndarray]) -> list[np.ndarray]:
                outputs: list[np.ndarray] = self._real.run(names, given)
                if self._gpu:
                    fake.sizes.append(len(given["rows"]))
                    outputs[0] = outputs[0] + np.float32(fake.off_by)
                return outputs

        patch.setattr(onnxruntime, "InferenceSession", Session)
        providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
        patch.setattr(onnxruntime, "get_available_providers", lambda: providers)


def test_tensorrt_is_asked_for_one_engine_for_all_batches_and_gives_the_same(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = choose_engine(make("onnx", "plain"), "cpu", settings).engine.run(_rows(9))
    fake = FakeTensorRt()
    fake.install(monkeypatch)
    bundle = make({"name": "tensorrt", "precision": "float16"})
    chosen = choose_engine(bundle, "cuda:1", settings)
    (tensorrt, how), (cuda, other) = fake.asked
    assert (tensorrt, cuda) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert how["device_id"] == other["device_id"] == "1"
    assert how["trt_fp16_enable"] == "1"
    assert how["trt_profile_min_shapes"] == "rows:1x1x96x96"
    assert how["trt_profile_max_shapes"] == "rows:4x1x96x96"
    assert settings.cache is not None
    place = settings.cache / "tensorrt" / built_key(bundle)
    assert how["trt_engine_cache_path"] == how["trt_timing_cache_path"] == str(place)
    assert place.is_dir()
    fake.sizes.clear()
    found = chosen.engine.run(_rows(9))
    assert fake.sizes == [4, 4, 1]
    np.testing.assert_allclose(found.tensors[0], told.tensors[0], rtol=0, atol=1e-6)
    assert found.class_maps is not None
    assert told.class_maps is not None
    np.testing.assert_allclose(found.class_maps, told.class_maps, rtol=0, atol=1e-5)
    assert found.made_with.facts == {
        "engine": "tensorrt",
        "version": onnxruntime.__version__,
        "device": "cuda:1",
        "precision": "float16",
        "batch": 4,
    }


def test_tensorrt_that_is_left_out_or_gives_something_else_is_refused(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make("tensorrt")
    FakeTensorRt(keeps=False).install(monkeypatch)
    with pytest.raises(EngineUnavailableError, match="its libraries are not found; with engine"):
        choose_engine(bundle, "cuda:0", settings)
    monkeypatch.undo()
    FakeTensorRt(off_by=0.01).install(monkeypatch)
    with pytest.raises(EngineUnavailableError, match=r"differs from ONNX Runtime by 0\.00"):
        choose_engine(bundle, "cuda:0", settings)


def test_tensorrt_that_cannot_store_what_it_builds_is_told(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.cache is not None
    settings.cache.mkdir()
    (settings.cache / "tensorrt").write_text("no folder")
    FakeTensorRt().install(monkeypatch)
    with pytest.raises(EngineUnavailableError, match="what TensorRT builds cannot be stored"):
        choose_engine(make("tensorrt"), "cuda:0", settings)


@pytest.fixture
def openvino_there() -> None:
    pytest.importorskip("openvino")


@pytest.mark.usefixtures("openvino_there")
def test_openvino_gives_what_onnx_runtime_gives(make: Make, settings: EngineSettings) -> None:
    chosen = choose_engine(make("openvino"), "cpu", settings)
    plain = choose_engine(make("onnx", "plain"), "cpu", settings)
    assert (chosen.engine.identity.name, chosen.instead) == ("openvino", "")
    for count in (1, 2, 5, 1):
        rows = _rows(count)
        found, told = chosen.engine.run(rows), plain.engine.run(rows)
        np.testing.assert_allclose(found.tensors[0], told.tensors[0], rtol=0, atol=1e-5)
        assert found.class_maps is not None
        assert told.class_maps is not None
        np.testing.assert_allclose(found.class_maps, told.class_maps, rtol=0, atol=1e-4)
        assert found.made_with.engine == "openvino"
        assert found.made_with.batch == count
    first = chosen.engine.run(_rows(1, seed=5)).tensors[0]
    kept = first.copy()
    chosen.engine.run(_rows(1, seed=6))
    np.testing.assert_array_equal(first, kept)  # results are ones own
    chosen.engine.release()
    np.testing.assert_array_equal(chosen.engine.run(_rows(1, seed=5)).tensors[0], kept)


@pytest.mark.slow
@pytest.mark.usefixtures("openvino_there")
@pytest.mark.parametrize("name", ["hemorrhage", "pneumothorax"])
def test_openvino_runs_the_readers_that_are_shipped(name: str, settings: EngineSettings) -> None:
    found = {}
    for engine in ("onnx", "openvino"):
        asked = ModelSettings.model_validate({"name": name, "engine": engine})
        bundle = open_catalogue(InferenceSettings(), [asked])[name]
        chosen = choose_engine(bundle, "cpu", settings)
        spec = bundle.spec
        rows = np.random.default_rng(0).random((3, spec.channels, spec.size, spec.size))
        found[engine] = chosen.engine.run(rows.astype(np.float32)).tensors
    for one, other in zip(found["onnx"], found["openvino"], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("openvino_there")
def test_openvino_says_what_it_cannot_do(
    make: Make, settings: EngineSettings, tmp_path: Path
) -> None:
    from inference.engines.errors import ExportError, PoisonedRowsError
    from inference.engines.openvino_engine import OpenVinoEngine

    engine = choose_engine(make("openvino"), "cpu", settings).engine
    with pytest.raises((EngineRunError, PoisonedRowsError), match="OpenVINO cannot carry"):
        engine.run(np.zeros((1, 3, SIZE, SIZE), dtype=np.float32))
    (tmp_path / "network.onnx").write_bytes(b"no network")
    with pytest.raises(ExportError, match="OpenVINO cannot load"):
        OpenVinoEngine(tmp_path / "network.onnx", class_maps=False)


@pytest.mark.usefixtures("openvino_there")
def test_openvino_that_differs_is_refused(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional, "DRIFT", -1.0)
    with pytest.raises(EngineUnavailableError, match="it differs from ONNX Runtime by"):
        choose_engine(make("openvino"), "cpu", settings)
