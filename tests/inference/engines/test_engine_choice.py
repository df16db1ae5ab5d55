"""Which engine runs a bundle, what it is exported to, and that all give the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import plane_bundles
import pytest
import torch
from numpy.typing import NDArray
from small_bundles import small_bundle, small_dense
from torch import nn

from inference.bundle import Bundle, open_bundle
from inference.engine_spec import EngineSpec
from inference.engines import EngineIdentity, MadeWith, RawOutputs
from inference.engines import choose as choose_module
from inference.engines.choose import EngineSettings, choose_engine, open_onnx
from inference.engines.errors import (
    EngineRunError,
    EngineUnavailableError,
    ExportError,
    PoisonedRowsError,
)
from inference.engines.exported import ExportedEngine
from inference.engines.onnx_cache import OnnxCache, key_of
from inference.engines.onnx_export import export_checked
from inference.engines.parity import drift_between
from inference.engines.probe_pictures import probe_pictures
from inference.engines.probes import probes
from inference.errors import BundleError
from inference.forward import Network
from inference.input_spec import InputSpec
from inference.network import load_network
from inference.networks import SliceNetwork
from inference.windows import BRAIN, SOFT, SUBDURAL

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

SIZE = 96
NAMES = ("one", "two")


Make = Callable[..., Bundle]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a bundle of a small network whose last maps are 12 x 12."""

    def write(name: str = "dense", *, seed: int = 3, **preread: Any) -> Bundle:
        spec = InputSpec("radiograph", SIZE)
        return small_bundle(tmp_path / name, *small_dense(seed), spec, NAMES, **preread)

    return write


@pytest.fixture
def settings(tmp_path: Path) -> EngineSettings:
    # One alone would pass row by row.
    return EngineSettings(tmp_path / "engines", threads=2)


def _rows(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, SIZE, SIZE), dtype=np.float32)


def test_a_cpu_runs_onnx_runtime_and_gives_what_torch_gives(
    make: Make, settings: EngineSettings
) -> None:
    bundle = make()
    chosen = choose_engine(bundle, "cpu", settings)
    plain = choose_engine(make("other", engine="torch"), "cpu", settings)
    assert (chosen.engine.identity.name, chosen.instead) == ("onnxruntime", "")
    assert plain.engine.identity.name == "torch"
    for count in (1, 2, 5):
        rows = _rows(count)
        found, told = chosen.engine.run(rows), plain.engine.run(rows)
        np.testing.assert_allclose(found.tensors[0], told.tensors[0], rtol=0, atol=1e-5)
        assert found.class_maps is not None
        assert told.class_maps is not None
        np.testing.assert_allclose(found.class_maps, told.class_maps, rtol=0, atol=1e-4)
        assert found.made_with.batch == count
        assert found.made_with.device == "cpu"


def test_one_thread_passes_row_by_row(make: Make, settings: EngineSettings) -> None:
    bundle, rows = make(), _rows(5)
    alone = choose_engine(bundle, "cpu", replace(settings, threads=1)).engine
    beside = choose_engine(bundle, "cpu", settings).engine
    assert alone.identity == beside.identity
    found, told = alone.run(rows), beside.run(rows)
    assert (found.made_with.batch, told.made_with.batch) == (1, 5)
    np.testing.assert_allclose(found.tensors[0], told.tensors[0], rtol=0, atol=1e-5)
    assert found.class_maps is not None
    assert found.class_maps.shape[0] == 5
    for row in range(5):
        by_itself = alone.run(rows[row : row + 1])
        assert np.array_equal(found.tensors[0][row], by_itself.tensors[0][0])
        assert by_itself.class_maps is not None
        assert np.array_equal(found.class_maps[row], by_itself.class_maps[0])


def test_results_do_not_depend_on_the_batch(make: Make, settings: EngineSettings) -> None:
    network = Network(make(), "cpu", settings)
    rows = _rows(9)
    whole = network.probabilities(rows)
    for size in (1, 2, 4):
        parts = [network.probabilities(rows[i : i + size]) for i in range(0, 9, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-5)


def test_an_export_is_made_once(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make()
    open_onnx(bundle, settings)
    assert settings.cache is not None
    (folder,) = settings.cache.iterdir()
    assert folder.name == key_of(bundle)
    about = json.loads((folder / "about.json").read_text())
    assert about["drift"] <= 1e-4
    assert about["class_maps"] is True
    before = (folder / "network.onnx").stat()

    def never(*_: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(OnnxCache, "keep", never)
    open_onnx(bundle, settings)
    assert (folder / "network.onnx").stat() == before


def test_other_weights_another_definition_or_input_have_another_place(make: Make) -> None:
    first = make("a")
    others = [
        make("b", seed=4),
        make("c", input=InputSpec("radiograph", 64).to_dict()),
        make("d", activation="softmax"),
    ]
    keys = {key_of(bundle) for bundle in (first, *others)}
    assert len(keys) == 4
    assert key_of(make("e")) == key_of(first)  # the same under another name


def test_a_damaged_export_is_made_anew(make: Make, settings: EngineSettings) -> None:
    bundle = make()
    open_onnx(bundle, settings)
    assert settings.cache is not None
    path = settings.cache / key_of(bundle) / "network.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert OnnxCache(settings.cache).find(bundle) is None
    open_onnx(bundle, settings).run(_rows(1))
    assert OnnxCache(settings.cache).find(bundle) is not None
    assert [one.name for one in settings.cache.iterdir()] == [key_of(bundle)]  # nothing left over


def test_workers_that_export_at_the_same_time_share_one(
    make: Make, settings: EngineSettings
) -> None:
    bundle = make()
    found: list[np.ndarray] = []

    def work() -> None:
        found.append(open_onnx(bundle, settings).run(_rows(1)).tensors[0])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(np.array_equal(one, found[0]) for one in found)
    assert settings.cache is not None
    assert [one.name for one in settings.cache.iterdir()] == [key_of(bundle)]


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_weights_that_were_changed_meanwhile_are_not_run_under_the_name_of_others(
    make: Make, settings: EngineSettings, engine: str
) -> None:
    old = make(seed=3, engine=engine)
    content = old.weights_path.read_bytes()
    expected = choose_engine(old, "cpu", EngineSettings(threads=1)).engine.run(_rows(1))
    new = make(seed=4, engine=engine)  # written in the place of the other
    assert new.weights_path == old.weights_path
    with pytest.raises(BundleError, match="was changed after the bundle was opened"):
        choose_engine(old, "cpu", settings)
    # Nor does the cache keep the one as the other, for whoever goes back to it.
    old.weights_path.write_bytes(content)
    found = choose_engine(old, "cpu", settings).engine.run(_rows(1))
    np.testing.assert_allclose(found.tensors[0], expected.tensors[0], rtol=0, atol=1e-5)


def test_what_drifts_runs_on_torch_and_says_why(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference.engines import onnx_export

    monkeypatch.setattr(onnx_export, "DRIFT", -1.0)
    bundle = make()
    chosen = choose_engine(bundle, "cpu", settings)
    assert chosen.engine.identity.name == "torch"
    assert "differs from torch by" in chosen.instead
    monkeypatch.undo()
    # Kept: it is not exported and compared at every start.
    again = choose_engine(bundle, "cpu", settings)
    assert again.instead == chosen.instead
    assert settings.cache is not None
    assert not list(settings.cache.glob("*/network.onnx"))


@pytest.mark.parametrize("call", [0, 1, 2])
def test_an_export_that_gives_no_numbers_for_one_of_its_inputs_is_refused(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    from inference.engines import onnx_export
    from inference.engines.onnx_engine import OnnxEngine

    calls = iter(range(9))

    class Failing(OnnxEngine):
        def _outputs(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
            outputs = super()._outputs(rows)
            if next(calls) == call:
                outputs[0][-1] = np.nan
            return outputs

    monkeypatch.setattr(onnx_export, "OnnxEngine", Failing)
    chosen = choose_engine(make(), "cpu", settings)
    assert chosen.engine.identity.name == "torch"
    assert "differs from torch by nan" in chosen.instead


def test_an_output_of_no_numbers_behind_one_that_agrees_counts() -> None:
    made = MadeWith("torch", "1", "cpu", "float32", 1)
    numbers, maps = np.zeros((1, 2), np.float32), np.zeros((1, 2, 4, 4), np.float32)
    told = RawOutputs((numbers, maps), None, made)
    found = RawOutputs((numbers, maps + np.float32(np.nan)), None, made)
    bundle = cast(Bundle, SimpleNamespace(activation="sigmoid"))
    assert np.isnan(drift_between(bundle, told, found))
    assert drift_between(bundle, told, told) == 0.0


def test_what_cannot_be_exported_runs_on_torch_and_says_why(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(rows.mean((2, 3)))  # ONNX has none

    monkeypatch.setattr("inference.network.load_network", lambda *_: Odd().eval())
    chosen = choose_engine(make(), "cpu", settings)
    assert chosen.engine.identity.name == "torch"
    assert "cannot be exported" in chosen.instead
    with pytest.raises(EngineUnavailableError, match="the engine onnx, and the network cannot"):
        choose_engine(make("pinned", engine="onnx"), "cpu", settings)


def test_want_of_memory_is_not_remembered_as_a_property_of_the_network(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make("classifier")
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

        patch.setattr(torch.onnx, "export", full)
        chosen = choose_engine(bundle, "cpu", settings)
        assert chosen.engine.identity.name == "torch"
        assert "no memory" in chosen.instead
    assert choose_engine(bundle, "cpu", settings).engine.identity.name == "onnxruntime"


@pytest.mark.parametrize("cached", [True, False])
def test_a_network_that_mixes_its_rows_gets_one_at_a_time(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """It takes the spread of all rows: of another study's, where they share a batch."""

    class Spread(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            scaled = (rows - rows.mean()) / rows.std()
            return scaled.flatten(1)[:, :2] * 3.0

    monkeypatch.setattr("inference.network.load_network", lambda *_: Spread().eval())
    chosen = choose_engine(make(), "cpu", settings if cached else EngineSettings(threads=1))
    assert chosen.engine.identity.name == ("onnxruntime" if cached else "torch")
    assert chosen.engine.identity.best_batch == 1
    rows = _rows(3) * np.array([1.0, 20.0, 400.0], np.float32)[:, None, None, None]
    together = chosen.engine.run(rows).tensors[0]
    alone = [chosen.engine.run(rows[row : row + 1]).tensors[0] for row in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize("cores", [1, 2])
def test_what_an_export_is_found_to_be_is_no_matter_of_cores(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    """It is kept, and another process may have more of them."""

    class Leaning(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            seen = rows.flatten(1)[:, :2]
            return seen + 0.003 * (seen - seen.mean(0, keepdim=True))

    monkeypatch.setattr("inference.network.load_network", lambda *_: Leaning().eval())
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(cores)))
    assert choose_engine(make(), "cpu", settings).instead == ""


class Whole(ExportedEngine):
    """Gives an output that has no row for each of those that were passed."""

    library, raised = "a library", ()

    def __init__(self) -> None:
        super().__init__(EngineIdentity("whole", "1", "cpu", "float32", 4), class_maps=False)
        self.given: list[int] = []

    def _outputs(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self.given.append(len(rows))
        return [rows.mean((1, 2, 3)), rows.mean(dtype=np.float32)]

    def _at_once(self, rows: int) -> int:
        return 1


def test_an_output_without_rows_is_what_the_batch_gives() -> None:
    engine, rows = Whole(), _rows(3)
    each, all_of_them = engine.run(rows).tensors
    assert each.shape == (3,)
    assert all_of_them == rows.mean(dtype=np.float32)
    assert engine.given == [1, 1, 1, 3]


def test_what_killed_exports_leave_behind_goes(make: Make, settings: EngineSettings) -> None:
    assert settings.cache is not None
    for name, age in ((".new-old", 2 * 86400), (".new-now", 0)):
        folder = settings.cache / name
        folder.mkdir(parents=True)
        (folder / "network.onnx").write_bytes(b"part")
        os.utime(folder, (time.time() - age, time.time() - age))
    choose_engine(make("classifier"), "cpu", settings)
    assert {path.name for path in settings.cache.glob(".new-*")} == {".new-now"}


def test_without_the_package_a_node_runs_on_torch(
    make: Make, settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose_module, "find_spec", lambda _name: None)
    chosen = choose_engine(make(), "cpu", settings)
    assert chosen.engine.identity.name == "torch"
    assert chosen.instead == "the package onnxruntime is not installed"
    with pytest.raises(EngineUnavailableError, match="onnxruntime is not installed; with"):
        choose_engine(make("pinned", engine="onnx"), "cpu", settings)


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    chosen = choose_engine(make(), "cpu", EngineSettings(tmp_path / "file"))
    assert chosen.engine.identity.name == "torch"
    assert "cannot be stored" in chosen.instead


def test_without_a_folder_torch_runs_unless_the_bundle_insists(make: Make) -> None:
    assert choose_engine(make(), "cpu", EngineSettings()).engine.identity.name == "torch"
    pinned = choose_engine(make("pinned", engine="onnx"), "cpu", EngineSettings())
    assert pinned.engine.identity.name == "onnxruntime"
    assert pinned.engine.run(_rows(1)).tensors[0].shape == (1, 2)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("triton", "engine is 'triton', not one of auto, onnx, torch"),
        ({"name": "torch", "precision": "int8"}, "engine.precision is 'int8', not one of"),
        ({"name": "onnx", "precision": "bfloat16"}, "engine onnx computes in float32"),
        ({"nmae": "onnx"}, "engine has unknown keys: nmae"),
        (3, "engine is 3, neither a name nor"),
        ({"name": ["onnx"]}, r"engine is \['onnx'\], not one of"),
    ],
)
def test_an_engine_that_does_not_exist_is_an_error_that_names_it(
    make: Make, engine: object, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        make(engine=engine)


def test_a_precision_changes_the_configuration_and_an_engine_does_not(make: Make) -> None:
    plain, torch_only = make("a"), make("b", engine="torch")
    half = make("c", engine={"precision": "bfloat16"})
    assert torch_only.engine == EngineSpec("torch")
    assert plain.configuration_digest == torch_only.configuration_digest
    assert plain.configuration_digest != half.configuration_digest
    # A CPU computes in single precision all the same.
    assert choose_engine(half, "cpu", EngineSettings()).engine.identity.precision == "float32"


def test_a_network_says_what_it_computed_with(make: Make, settings: EngineSettings) -> None:
    network = Network(make(), "cpu", settings)
    assert network.made_with is None
    network.probabilities(_rows(3))
    import onnxruntime

    made = MadeWith("onnxruntime", onnxruntime.__version__, "cpu", "float32", 3)
    assert network.made_with == made
    assert json.loads(json.dumps(made.facts))["batch"] == 3
    assert EngineIdentity("a", "1", "cpu", "float32", 4).made(2) == MadeWith(
        "a", "1", "cpu", "float32", 2
    )


def test_rows_of_another_shape_are_a_typed_error(make: Make, settings: EngineSettings) -> None:
    wrong = np.zeros((1, 3, SIZE, SIZE), dtype=np.float32)
    for bundle in (make(), make("plain", engine="torch")):
        engine = choose_engine(bundle, "cpu", settings).engine
        with pytest.raises(PoisonedRowsError) as caught:
            engine.run(wrong)
        assert isinstance(caught.value.__cause__, EngineRunError)
        assert caught.value.code == "poisoned_input"


def test_maps_beside_the_numbers_are_those_of_torch(
    tmp_path: Path, settings: EngineSettings
) -> None:
    torch.manual_seed(2)
    windows = (BRAIN, SUBDURAL, SOFT)
    names = [*NAMES, "three"]
    sizes = {"in_channels": 3, "num_classes": 3, "num_maps": 2}
    for name, engine in (("auto", "auto"), ("plain", "torch")):
        torch.manual_seed(2)
        small_bundle(
            tmp_path / name,
            SliceNetwork(**sizes),
            {"_target_": "inference.networks.SliceNetwork", **sizes},
            InputSpec("ct_slices", 64, windows),
            names,
            masks=names,
            engine=engine,
        )
    rows = np.random.default_rng(4).random((2, 3, 64, 64), dtype=np.float32)
    (numbers, maps), (plain, plain_maps) = (
        Network(open_bundle(tmp_path / name), "cpu", settings).both(rows)
        for name in ("auto", "plain")
    )
    assert maps.shape == (2, 3, 64, 64)
    np.testing.assert_allclose(numbers, plain, rtol=0, atol=1e-5)
    np.testing.assert_allclose(maps, plain_maps, rtol=0, atol=1e-5)


def test_probes_have_the_shape_and_the_range_of_the_input(make: Make) -> None:
    spec = InputSpec("radiograph", 64, value_range=(-1024.0, 1024.0), copies=3)
    soft, three = probes(make(input=spec.to_dict()))
    assert (soft.shape, three.shape) == ((1, 3, 64, 64), (3, 3, 64, 64))
    for rows in (soft, three):
        assert rows.dtype == np.float32
        assert -1024.0 <= rows.min() < rows.max() <= 1024.0
        # A blank picture is rounding alone to a network that normalises it.
        assert (rows.std(axis=(1, 2, 3)) > 1.0).all()


def test_a_network_that_normalises_each_picture_is_exported(tmp_path: Path) -> None:
    dense = small_dense(norm=["INSTANCE", {"affine": True}])
    bundle = small_bundle(tmp_path / "instance", *dense, InputSpec("radiograph", SIZE), NAMES)
    made = OnnxCache(tmp_path / "engines").keep(
        bundle,
        lambda path: export_checked(bundle, load_network(bundle, torch.device("cpu")), path),
    )
    assert made.about.refused == ""
    assert made.about.drift < 1e-4


def test_two_engines_are_compared_on_pictures_that_came_the_way_of_images(make: Make) -> None:
    chest = probe_pictures(make())
    assert (chest.shape, chest.min(), chest.max()) == ((2, 1, SIZE, SIZE), 0.0, 1.0)
    spec = InputSpec("ct_slices", SIZE, windows=(BRAIN, SUBDURAL, SOFT)).to_dict()
    head = probe_pictures(make("head", input=spec))
    assert (head.shape, head.min(), head.max()) == ((3, 3, SIZE, SIZE), 0.0, 1.0)
    # A head is seen in each window, and windows show it differently.
    assert (head.std(axis=(2, 3)) > 0.1).all()
    assert np.abs(head[:, 0] - head[:, 2]).mean() > 0.02


def test_probes_of_a_plane_have_the_range_of_its_own_steps(tmp_path: Path) -> None:
    steps = [
        *plane_bundles.LOADED,
        plane_bundles.one("ScaleIntensityRanged", a_min=0, a_max=4095, b_min=-200.0, b_max=600.0),
        plane_bundles.STRETCHED,
    ]
    bundle = plane_bundles.served(plane_bundles.written(tmp_path / "plane", steps))
    soft, three = probes(bundle)
    assert (soft.shape, three.shape) == ((1, 1, 64, 64), (3, 1, 64, 64))
    assert -201.0 <= three.min() < -150.0 and 500.0 < soft.max() <= 601.0
    pictures = probe_pictures(bundle)
    assert pictures.shape == (2, 1, 64, 64)
    assert pictures.min() < 0.0 and 200.0 < pictures.max() <= 601.0


_START = """
import sys
from pathlib import Path
import numpy as np
from inference.bundle import open_bundle
from inference.engines.choose import EngineSettings
from inference.forward import Network
network = Network(open_bundle(Path(sys.argv[1])), "cpu", EngineSettings(Path(sys.argv[2]), 1))
print(network.probabilities(np.zeros((1, 1, 96, 96), dtype=np.float32)).shape)
print([name for name in ("torch", "monai", "onnx") if name in sys.modules])
"""


def test_a_process_that_finds_the_export_imports_neither_torch_nor_monai(
    make: Make, settings: EngineSettings
) -> None:
    bundle = make()
    open_onnx(bundle, settings)
    command = [sys.executable, "-c", _START, str(bundle.path), str(settings.cache)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-2:] == ["(1, 2)", "[]"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}


def test_an_export_that_is_no_network_is_an_error_that_names_it(tmp_path: Path) -> None:
    from inference.engines.onnx_engine import OnnxEngine

    path = tmp_path / "network.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(ExportError, match=r"network\.onnx cannot be loaded"):
        OnnxEngine(path, class_maps=False)
