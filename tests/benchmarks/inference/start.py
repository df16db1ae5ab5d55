"""From spawning ``preread worker`` to its first finding in the database, with a warm engine cache.

``python tests/benchmarks/inference/start.py`` prints the medians; `measure` gives them to others.
Each start is a process of its own that finds one film in its queue. The seconds and the CPU time
are those of the worker as it is; the split comes from other starts, in which it is watched.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[3]
# The rooms of this very tree, and what tests share.
sys.path[1:1] = [str(_ROOT), str(_ROOT / "tests" / "kit")]

from asked import Asking, asking  # noqa: E402 - found on the path just set

from deploy.settings import load  # noqa: E402
from inference.training.phantoms.files import write_chest  # noqa: E402

_MODEL = "pneumothorax"
_LOOK_SECONDS = 0.003
_LONGEST_SECONDS = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")

# Run instead of ``-m deploy``: the same with clocks around what the split tells. Modules are
# watched as they are loaded, so that nothing is imported earlier than by the worker itself.
_WATCHED = """
import builtins, importlib.abc, importlib.machinery, json, os, sys, threading, time
import pathlib
_stat = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
_ticks = os.sysconf("SC_CLK_TCK")
_begin = int(_stat[19]) / _ticks
now = lambda: time.clock_gettime(time.CLOCK_BOOTTIME) - _begin
spent, began, local = {}, {}, threading.local()
plain = builtins.__import__
def watched(*args, **kwargs):
    local.depth = getattr(local, "depth", 0) + 1
    start = time.perf_counter()
    try:
        return plain(*args, **kwargs)
    finally:
        local.depth -= 1
        if local.depth == 0:
            local.imports = getattr(local, "imports", 0.0) + time.perf_counter() - start
            if threading.current_thread() is threading.main_thread():
                spent["imports"] = local.imports
            else:
                took = time.perf_counter() - start
                spent["imports beside"] = spent.get("imports beside", 0.0) + took
builtins.__import__ = watched
def clocked(name, function):
    def run(*args, **kwargs):
        imports = getattr(local, "imports", 0.0)
        start = now()
        began.setdefault(name, start)
        try:
            return function(*args, **kwargs)
        finally:
            lost = getattr(local, "imports", 0.0) - imports
            spent[name] = spent.get(name, 0.0) + now() - start - lost
            if name == "commit" and "finding" not in began:
                began["finding"] = now()
                os.write(int(os.environ["START_SPLIT"]), json.dumps([spent, began]).encode())
    return run
PLACES = {
    "deploy.settings": [("settings", "load")],
    "deploy.ground": [("database", "_hold_schema"), ("database", "create_engine")],
    "inference.catalogue": [("catalogue", "open_catalogue")],
    "inference.model": [("engine", "load_reader")],
    "inference.job_runner": [
        ("job engine", "JobRunner.start"), ("job engine", "JobRunner.__init__"),
    ],
    "inference.reader": [("first reading", "Reader.read")],
    "inference.analyst": [("first report", "Analyst._objects"), ("commit", "Analyst._record")],
}
class Loader(importlib.abc.Loader):
    def __init__(self, inner): self.inner = inner
    def create_module(self, spec): return self.inner.create_module(spec)
    def exec_module(self, module):
        self.inner.exec_module(module)
        for name, place in PLACES[module.__name__]:
            holder = module
            *path, last = place.split(".")
            for part in path: holder = getattr(holder, part)
            if hasattr(holder, last):
                setattr(holder, last, clocked(name, getattr(holder, last)))
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PLACES: return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader: spec.loader = Loader(spec.loader)
        return spec
sys.meta_path.insert(0, Finder())
import runpy
sys.argv = ["deploy", *sys.argv[1:]]
runpy.run_module("deploy", run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One start.

    Attributes
    ----------
    seconds : float
        From the spawn of the process until its first finding can be read by others.
    cpu_seconds : float
        User and system time of all its threads until then.
    """

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class StartFigures:
    """Medians of several starts.

    Attributes
    ----------
    seconds, cpu_seconds : float
        As of `Start`, medians.
    starts : tuple of Start
        Each of them.
    split : mapping of str to float
        Seconds of the main thread in imports, and of what else the start does without the imports
        in it; medians of other, watched starts. What runs beside each other adds up to more.
    load : float
        What the machine had to do besides when it began: 1-minute load.
    """

    seconds: float
    cpu_seconds: float
    starts: tuple[Start, ...]
    split: Mapping[str, float]
    load: float

    @property
    def least_seconds(self) -> float:
        """The fastest start: on a busy machine the nearest to what it takes at rest."""
        return min(one.seconds for one in self.starts)


def measure(starts: int = 5, watched: int = 3) -> StartFigures:
    """Start a worker several times on a node of its own, with the engines that it needs exported.

    Parameters
    ----------
    starts : int
        Processes that are timed.
    watched : int
        Processes that tell the split; 0 leaves it empty.

    Raises
    ------
    AssertionError
        If a worker ends, or gives no finding in two minutes.
    """
    load_before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="preread-start-") as folder,
        _node(Path(folder)) as node,
    ):
        node.start()  # exports the networks, and brings all files into memory
        done = [node.start() for _ in range(starts)]
        splits = [node.split() for _ in range(watched)]
    names = dict.fromkeys(name for split in splits for name in split)
    return StartFigures(
        seconds=statistics.median(one.seconds for one in done),
        cpu_seconds=statistics.median(one.cpu_seconds for one in done),
        starts=tuple(done),
        split={name: statistics.median(one.get(name, 0.0) for one in splits) for name in names},
        load=load_before,
    )


@dataclass(frozen=True, slots=True)
class _Node:
    """A node without the other parts: a data directory, a database, and films to be read."""

    folder: Path
    asking: Asking
    film: Path

    def start(self) -> Start:
        """Start a worker on one film."""
        analysis = self.asking.ask(_MODEL, [self.film])
        began = time.perf_counter()
        with self._worker([sys.executable, "-m", "deploy"]) as process:
            self._await(analysis, process)
            seconds = time.perf_counter() - began
            return Start(seconds, _cpu_seconds(process.pid))

    def split(self) -> dict[str, float]:
        """Start a worker on one film and return what its start is made of."""
        self.asking.ask(_MODEL, [self.film])
        reading, writing = os.pipe()
        environment = {"START_SPLIT": str(writing)}
        with self._worker([sys.executable, "-c", _WATCHED], environment, (writing,)):
            os.close(writing)
            ready, _, _ = select.select([reading], [], [], _LONGEST_SECONDS)
            assert ready, (self.folder / "worker.log").read_text()[-2000:]
            spent, began = json.loads(os.read(reading, 1 << 16))
            os.close(reading)
        return {**spent, "until the worker runs": began["job engine"], "all": began["finding"]}

    @contextmanager
    def _worker(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        kept: tuple[int, ...] = (),
    ) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "worker", "--config", str(self.folder / "preread.toml")],
                stderr=log,
                cwd=self.folder,
                env={**_inherited(), "PYTHONPATH": str(_ROOT), **(environment or {})},
                pass_fds=kept,
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_LONGEST_SECONDS)

    def _await(self, analysis: str, process: subprocess.Popen[bytes]) -> None:
        """Return when another process sees a finding of the analysis."""
        deadline = time.monotonic() + _LONGEST_SECONDS
        connection = sqlite3.connect(
            self.asking.base.settings.data_dir / "preread.sqlite", timeout=30
        )
        try:
            seen = None
            while time.monotonic() < deadline:
                assert process.poll() is None, (self.folder / "worker.log").read_text()[-2000:]
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != seen:
                    seen = version
                    found = "SELECT COUNT(*) FROM finding WHERE analysis_id = ?"
                    if connection.execute(found, (analysis,)).fetchone()[0]:
                        return
                time.sleep(_LOOK_SECONDS)
        finally:
            connection.close()
        raise AssertionError((self.folder / "worker.log").read_text()[-2000:])


@contextmanager
def _node(folder: Path) -> Iterator[_Node]:
    config = folder / "preread.toml"
    config.write_text(f'data_dir = "{folder / "data"}"\n[log]\nformat = "json"\n')
    with asking(load(config)) as queue:
        yield _Node(folder, queue, write_chest(folder, 1, True))


def _inherited() -> dict[str, str]:
    """Return the environment; modules are kept as bytecode, as those of an installed node are."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def markdown(figures: StartFigures) -> str:
    """Return the figures as a table."""
    lines = [
        "| start of a CPU worker to its first finding | s |",
        "| --- | ---: |",
        f"| median of {len(figures.starts)} | {figures.seconds:.2f} |",
        f"| fastest | {figures.least_seconds:.2f} |",
        f"| CPU time, median | {figures.cpu_seconds:.2f} |",
        *(f"| of watched ones: {name} | {took:.2f} |" for name, took in figures.split.items()),
        "",
        f"Load of the machine before: {figures.load:.1f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--starts", type=int, default=5)
    arguments.add_argument("--watched", type=int, default=3)
    given = arguments.parse_args()
    print(markdown(measure(given.starts, given.watched)))
