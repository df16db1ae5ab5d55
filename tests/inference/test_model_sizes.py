"""What a model was found to take is there after a restart, by its weights and engine."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from inference import model_sizes
from inference.bundle import Bundle, open_bundle
from inference.engine_spec import EngineSpec
from inference.model_sizes import ModelSizes
from inference.readers import WarmReaders
from inference.settings import shipped_bundles


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundles()[0])


def test_the_smallest_is_kept_for_each_model_engine_and_kind_of_device(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ModelSizes(tmp_path / "models", "cpu")
    assert sizes.of(bundle) is None
    for n_bytes in (50, 13, 40):
        sizes.keep(bundle, n_bytes)
    again = ModelSizes(tmp_path / "models", "cpu")
    assert again.of(bundle) == 13
    assert len(list((tmp_path / "models").iterdir())) == 1
    assert again.of(replace(bundle, engine=EngineSpec("torch"))) is None
    assert again.of(replace(bundle, identity=replace(bundle.identity, weights_sha256="0"))) is None
    assert ModelSizes(tmp_path / "models", "cuda:0").of(bundle) is None
    monkeypatch.setattr(model_sizes, "_version", lambda _package: "another")
    assert again.of(bundle) is None


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"bytes": "x"}', '{"bytes": -1}', '{"bytes": 1e999}']
)
def test_a_damaged_file_counts_for_nothing(bundle: Bundle, tmp_path: Path, content: str) -> None:
    sizes = ModelSizes(tmp_path, "cpu")
    sizes.keep(bundle, 13)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert sizes.of(bundle) is None
    sizes.keep(bundle, 14)
    assert sizes.of(bundle) == 14


def test_a_folder_that_cannot_be_written_costs_nothing(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    sizes = ModelSizes(tmp_path / "models", "cpu")
    sizes.keep(bundle, 13)
    assert sizes.of(bundle) is None


def test_a_second_process_knows_what_the_first_one_measured(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What models really take is measured in `test_readers_memory.py`.
    taken = [100 << 20]
    monkeypatch.setattr("inference.readers.bytes_in_use", lambda _device: taken[0])

    def load(*_arguments: object) -> SimpleNamespace:
        taken[0] += 8 << 20
        return SimpleNamespace(decoding=None)

    def readers() -> WarmReaders:
        return WarmReaders("cpu", 1, sizes=ModelSizes(tmp_path, "cpu"), load=load)  # type: ignore[arg-type]

    first = readers()
    first.warm({bundle.name: bundle})
    assert ModelSizes(tmp_path, "cpu").of(bundle) == 8 << 20
    second = readers()
    second._bundles[bundle.name] = bundle
    assert second._size(bundle.name) == 8 << 20


def test_a_full_disk_leaves_nothing_behind(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ModelSizes(tmp_path / "models", "cpu")

    def full(path: Path, text: str, **_how: object) -> None:
        path.write_bytes(text[:5].encode())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_text", full)
        sizes.keep(bundle, 50)
    assert sizes.of(bundle) is None
    assert list((tmp_path / "models").iterdir()) == []
