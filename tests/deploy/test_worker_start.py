"""A worker whose networks are exported reads without torch: behaviour, not time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from asked import Asking, asking
from monai.networks.nets import DenseNet
from safetensors.torch import save_file
from tiny_layouts import SUBTYPES, chest_reader, head_reader
from typer.testing import CliRunner

from deploy.cli import app
from deploy.settings import load
from inference.endings import Ending
from inference.engines.choose import EngineSettings, open_onnx
from inference.training.phantoms.files import write_chest, write_head_series

# The worker itself, and a thread that looks at it from within when its results are there.
_CODE = """
import ctypes, os, signal, sqlite3, sys, threading, time
def product_threads():
    with open("/proc/self/maps") as maps:
        libraries = {line.split()[-1] for line in maps if "openblas" in line.lower()}
    for library in libraries:
        for name in ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads"):
            if hasattr(ctypes.CDLL(library), name):
                return getattr(ctypes.CDLL(library), name)()
    return 1
database, wanted = sys.argv.pop(), int(sys.argv.pop())
def watch():
    connection = sqlite3.connect(database, timeout=30)
    done = "SELECT COUNT(*) FROM analysis WHERE state <> 'pending'"
    while connection.execute(done).fetchone()[0] < wanted:
        time.sleep(0.05)
    unwanted = {"torch", "monai", "onnx", "alembic", "pynetdicom", "typer", "prometheus_client"}
    print(sorted(unwanted & set(sys.modules)), product_threads())
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from deploy.cli import main
main()
"""


def exportable(path: Path, channels: int, outputs: int) -> None:
    """Give a bundle another network: one whose export gives the same as torch."""
    arguments = {
        "spatial_dims": 2,
        "in_channels": channels,
        "out_channels": outputs,
        "init_features": 8,
        "growth_rate": 4,
        "block_config": [2, 2],
    }
    torch.manual_seed(3)
    save_file(DenseNet(**arguments).state_dict(), path / "models" / "model.safetensors")
    definition = {"network_def": {"_target_": "monai.networks.nets.DenseNet", **arguments}}
    (path / "configs" / "inference.json").write_text(json.dumps(definition))


def configured(folder: Path) -> Path:
    """Write settings with two small models that find nothing: what they looked at takes torch."""
    chest_reader(folder / "chest")
    exportable(folder / "chest", 1, 1)
    head_reader(folder / "head")
    exportable(folder / "head", 3, len(SUBTYPES))
    never = "{ low = 0.9999, high = 1.0 }"
    heads = ", ".join(f"{label} = {never}" for label in SUBTYPES)
    config = folder / "preread.toml"
    config.write_text(
        f'data_dir = "{folder / "data"}"\n'
        '[inference]\nshipped = false\ndevice = "cpu"\nthreads = 1\n'
        f'[[model]]\nname = "chest"\npath = "{folder / "chest"}"\n'
        f"thresholds = {{ pneumothorax = {never} }}\n"
        f'[[model]]\nname = "head"\npath = "{folder / "head"}"\nthresholds = {{ {heads} }}\n'
    )
    return config


def test_a_warm_worker_reads_films_and_heads_without_torch(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with asking(load(config)) as node:
        engines = EngineSettings(cache=node.base.settings.data_dir / "engines")
        for bundle in node.bundles.values():
            open_onnx(bundle, engines)
        node.ask("chest", [write_chest(tmp_path / "film", 1, size=128)])
        node.ask("head", write_head_series(tmp_path / "series", 1, slices=6, size=64))
        told = worker(config, node, wanted=2)
        assert told.splitlines() == ["[] 1"]
        assert states(node) == ["done", "done"]


def test_a_model_whose_weights_are_damaged_costs_no_other_one(tmp_path: Path) -> None:
    config = configured(tmp_path)
    weights = tmp_path / "chest" / "models" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with asking(load(config)) as node:
        failed = node.ask("chest", [write_chest(tmp_path / "film", 1, size=128)])
        node.ask("head", write_head_series(tmp_path / "series", 1, slices=6, size=64))
        worker(config, node, wanted=2)
        assert states(node) == ["done", "failed"]
        with node.base.engine.connect() as connection:
            said = connection.exec_driver_sql(
                "SELECT reason_code, reason FROM analysis WHERE state = 'failed'"
            ).one()
        assert said[0] == "bundle_unusable"
        assert f"{weights} cannot be read" in said[1]

        # Mended it is another model than was asked for; a retry asks for that one, once.
        weights.write_bytes(whole)
        retry = ["jobs", "retry", failed, "--config", str(config)]
        told = CliRunner().invoke(app, retry, catch_exceptions=False)
        assert "chest was changed since" in told.output
        again = CliRunner().invoke(app, retry)
        assert "in the place of" in str(again.exception)
        worker(config, node, wanted=3)
        assert states(node) == ["done", "done", "failed"]


def worker(config: Path, node: Asking, wanted: int) -> str:
    database = node.base.settings.data_dir / "preread.sqlite"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    arguments = ["worker", "--config", str(config), str(wanted), str(database)]
    ended = subprocess.run(
        [sys.executable, "-c", _CODE, *arguments],
        capture_output=True, text=True, timeout=120, check=False, env=environment,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def states(node: Asking) -> list[str]:
    with node.base.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT state FROM analysis ORDER BY state").fetchall()
    return [str(row[0]) for row in rows]


@pytest.mark.parametrize("command", ["worker", "scp", "results", "rules"])
def test_a_command_brings_its_own_modules_alone(command: str) -> None:
    code = (
        "import sys; sys.argv = ['preread', sys.argv[1], '--help']\n"
        "from deploy.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    print(sorted({'torch', 'monai', 'highdicom', 'alembic', 'dbos'} & set(sys.modules)),"
        " file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    ended = subprocess.run(
        [sys.executable, "-c", code, command],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert f"preread {command}" in ended.stdout
    assert ended.stderr.splitlines() == ["[]"]


def test_the_commands_of_each_module_are_known() -> None:
    from typer.main import get_command

    from deploy.cli import PARTS, command_line, part_of

    for part, commands in PARTS.items():
        listed = get_command(command_line(part)).list_commands(None)  # type: ignore[attr-defined, arg-type]
        assert sorted(listed) == sorted(commands)
    assert part_of(["worker", "--config", "x"]) == "serve"
    assert part_of(["--help"]) is None
    assert part_of([]) is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (None, None, None)),
        (["--config", "a b.toml"], (Path("a b.toml"), None, None)),
        (["--number", "03", "--data-dir", "/d"], (None, Path("/d"), 3)),
        (["--data-dir", "d", "--config", "c", "--number", "0"], (Path("c"), Path("d"), 0)),
    ],
)
def test_a_worker_understands_its_plain_options_as_typer_does(
    arguments: list[str], expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploy import node
    from deploy.cli import command_line
    from deploy.cli.direct import direct

    asked: list[tuple[object, ...]] = []

    def worker(*given: object) -> Ending:
        asked.append(given)
        return Ending.RECYCLED

    monkeypatch.setattr(node, "worker", worker)
    plain = direct(["worker", *arguments])
    assert plain is not None
    with pytest.raises(SystemExit) as ended:
        plain()
    told = CliRunner().invoke(command_line("serve"), ["worker", *arguments])
    assert [ended.value.code, told.exit_code] == [Ending.RECYCLED, Ending.RECYCLED]
    assert asked == [expected, expected]


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["--help"], ["results"], ["scp"], ["worker", "--help"], ["worker", "--number", "-1"],
        ["worker", "--number", "x"], ["worker", "--config"], ["worker", "--config", "--number"],
        ["worker", "--config=x"], ["worker", "--config", "a", "--config", "b"], ["worker", "a"],
        ["worker", "--port", "1"], ["worker", "--config", ""],
    ],
)  # fmt: skip
def test_all_else_is_left_to_typer(arguments: list[str]) -> None:
    from deploy.cli.direct import direct

    assert direct(arguments) is None
