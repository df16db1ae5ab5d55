"""Exported networks that nobody needs go in time, and never from under who loads them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from plain_ct import write_plain_bundle
from structlog.testing import capture_logs

from inference.bundle import Bundle, open_bundle
from inference.engine_spec import EngineSpec
from inference.engines import onnx_cache
from inference.engines.choose import EngineSettings
from inference.engines.onnx_cache import About, OnnxCache, key_of, version_of
from inference.engines.tensorrt_cache import TensorRtCache, built_key
from inference.readers import WarmReaders

MONTHS_AGO = time.time() - 40 * 86400
DEAD = "0123456789abcdef0123456789abcdef01234567"


def written(path: Path) -> About:
    path.write_bytes(b"network")
    return About()


def make_old(*places: Path) -> None:
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / "network.onnx").touch()
        os.utime(place, (MONTHS_AGO, MONTHS_AGO))


def bundle_in(folder: Path) -> Bundle:
    return open_bundle(write_plain_bundle(folder / "plain"))


def test_what_nobody_needs_and_has_used_for_a_month_goes(tmp_path: Path) -> None:
    bundle, folder = bundle_in(tmp_path), tmp_path / "engines"
    cache = OnnxCache(folder)
    assert cache.prune(lambda: ()) == ()  # there is none yet
    key = cache.keep(bundle, written).path.parent.name
    young = folder / DEAD.replace("0", "f")
    young.mkdir()
    make_old(folder / DEAD, folder / "tensorrt", folder / key)
    assert cache.prune(lambda: {key}) == (DEAD,)
    assert {one.name for one in folder.iterdir()} == {key, young.name, "tensorrt"}
    assert cache.find(bundle) is not None  # which counts as use
    assert cache.prune(lambda: ()) == ()
    make_old(folder / key)
    assert cache.prune(lambda: ()) == (key,)
    assert cache.find(bundle) is None


LOADER = """
import sys
from pathlib import Path
from inference.engines.onnx_cache import OnnxCache
with OnnxCache(Path(sys.argv[1])).in_use():
    print("loading", flush=True)
    sys.stdin.readline()
"""


def test_nothing_goes_while_another_process_loads(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    make_old(folder / DEAD)
    with subprocess.Popen(
        [sys.executable, "-c", LOADER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as loader:
        assert loader.stdout is not None
        assert loader.stdout.readline() == "loading\n"
        assert OnnxCache(folder).prune(lambda: ()) == ()
        assert loader.poll() is None  # it does not wait either
        with OnnxCache(folder).in_use():  # several load at the same time
            assert (folder / DEAD).exists()
        loader.communicate("\n")
    assert OnnxCache(folder).prune(lambda: ()) == (DEAD,)


def test_a_worker_tidies_up_when_it_has_loaded_its_models(tmp_path: Path) -> None:
    bundle, folder = bundle_in(tmp_path), tmp_path / "engines"
    make_old(folder / DEAD, folder / key_of(bundle))
    readers = WarmReaders("cpu", 8, EngineSettings(folder, 1))
    readers.warm({bundle.name: bundle})
    assert [one.name for one in folder.iterdir()] == [key_of(bundle)]


def test_what_another_process_has_just_stored_is_never_taken_from_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, folder = bundle_in(tmp_path), tmp_path / "engines"
    cache, place = OnnxCache(folder), folder / key_of(bundle)
    stored: list[int] = []
    remove = shutil.rmtree

    def later(path: Path, **how: Any) -> None:
        if Path(path) == place:  # between the look and the removal another one has stored it
            OnnxCache(folder).keep(bundle, written)
            stored.append((place / "network.onnx").stat().st_ino)
        remove(path, **how)

    monkeypatch.setattr(shutil, "rmtree", later)
    cache.keep(bundle, written)
    assert [(place / "network.onnx").stat().st_ino] * len(stored) == stored


def test_a_damaged_network_is_stored_anew(tmp_path: Path) -> None:
    bundle, folder = bundle_in(tmp_path), tmp_path / "engines"
    cache = OnnxCache(folder)
    path = cache.keep(bundle, written).path
    path.write_bytes(b"cut")
    assert cache.find(bundle) is None
    assert cache.keep(bundle, written).path.read_bytes() == b"network"
    assert cache.find(bundle) is not None
    assert [one.name for one in folder.iterdir()] == [key_of(bundle)]


def test_what_tensorrt_built_goes_when_its_model_runs_on_it_no_more(tmp_path: Path) -> None:
    bundle, folder = bundle_in(tmp_path), tmp_path / "engines"
    assert TensorRtCache(folder).prune(lambda: ()) == ()  # there is none yet
    built = replace(bundle, engine=EngineSpec("tensorrt"))
    half = replace(bundle, engine=EngineSpec("tensorrt", "float16"))
    cache = TensorRtCache(folder)
    places = [cache.place(one) for one in (built, half)]
    assert [one.name for one in places] == [built_key(built), built_key(half)]
    for place in places:
        (place / "TensorrtExecutionProvider_sm90.engine").write_bytes(b"engine")
    assert cache.prune(lambda: ()) == ()  # of today
    make_old(*places, folder / "tensorrt" / DEAD)
    assert set(cache.prune(lambda: [built])) == {DEAD, built_key(half)}
    assert [one.name for one in (folder / "tensorrt").iterdir()] == [built_key(built)]
    assert cache.place(built) == places[0]  # which counts as use
    assert (places[0] / "TensorrtExecutionProvider_sm90.engine").exists()
    assert cache.prune(lambda: [bundle]) == ()
    make_old(places[0])
    assert cache.prune(lambda: [bundle]) == (built_key(built),)  # another engine runs it now


def test_an_engine_is_kept_under_the_weights_and_the_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = replace(bundle_in(tmp_path), engine=EngineSpec("tensorrt"))
    identity = replace(bundle.identity, weights_sha256="0" * 64)
    keys = {built_key(bundle), built_key(replace(bundle, identity=identity))}
    versions = {"onnxruntime-gpu": "1.23.0", "tensorrt-cu12": "10.4.0", "torch": "2.13.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(onnx_cache.metadata, "version", version)
    for name in versions:
        version_of.cache_clear()
        keys.add(built_key(bundle))
        versions[name] += ".1"
    version_of.cache_clear()
    keys.add(built_key(bundle))
    assert len(keys) == 2 + 4
    monkeypatch.undo()
    version_of.cache_clear()


def test_a_worker_tidies_up_what_tensorrt_built_too(tmp_path: Path) -> None:
    bundle, folder = bundle_in(tmp_path), tmp_path / "engines"
    make_old(folder / "tensorrt" / DEAD)
    with capture_logs() as logged:
        WarmReaders("cpu", 8, EngineSettings(folder, 1)).warm({bundle.name: bundle})
    assert list((folder / "tensorrt").iterdir()) == []
    (told,) = (one for one in logged if one["event"] == "engine.pruned")
    assert (told["networks"], told["tensorrt"]) == ([], [DEAD])
