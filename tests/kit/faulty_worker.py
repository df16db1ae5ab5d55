"""A worker whose machine is broken as a plan says: ``faulty_worker.py PLAN worker --config X``.

It is the worker of the node, composed with engines that stand on "cuda:0" and fail, and with the
CPU engines of the bundles behind them. The plan is a JSON file that each process reads when it
starts:

``rows``      list of ``[low, high, fault, times]``: a batch with a row whose mean lies between
              meets the fault, so many times in the life of a process
``gpus``      how many GPUs the machine has when a process starts; 1
``loads``     whether networks can be loaded onto a GPU; true
``notes``     a file that each batch is written down in when it begins
``held``      a file; while it is there, batches that have begun wait
``no_spare``  whether there is no engine on the CPU behind the GPU
``lives``     by number of the process that reads the plan, from 1: a plan in the place of this one
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy import node
from deploy.cli import main
from deploy.machine import Machine
from inference.bundle import Bundle
from inference.endings import Ending
from inference.engines import (
    DeviceLostError,
    Engine,
    EngineIdentity,
    EngineOutOfMemoryError,
    RawOutputs,
    Rows,
)
from inference.engines.choose import Chosen, EngineSettings, choose_engine
from inference.engines.engine import on_host
from inference.engines.errors import EngineRunError
from inference.engines.ladder import Ladder
from inference.errors import InferenceError

DEVICE = "cuda:0"
PAUSE_SECONDS = 0.4


@dataclass
class FaultyEngine:
    """A GPU of which each batch meets what the plan says."""

    inner: Engine
    plan: Mapping[str, Any]
    met: Counter[int] = field(default_factory=Counter)

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("faulty", "1", DEVICE, "float32", 8)

    def run(self, rows: Rows) -> RawOutputs:
        means = on_host(rows).reshape(len(rows), -1).mean(axis=1)
        note(self.plan, rows)
        hold(self.plan)
        for number, (low, high, fault, times) in enumerate(self.plan.get("rows", ())):
            if np.any((means >= low) & (means <= high)) and self.met[number] < times:
                self.met[number] += 1
                fail(fault)
        return replace(self.inner.run(rows), made_with=self.identity.made(len(rows)))

    def release(self) -> None:
        pass


def note(plan: Mapping[str, Any], rows: Rows) -> None:
    """Write down that a batch begins: when, in which process, how many rows of which size."""
    if "notes" in plan:
        with Path(plan["notes"]).open("a") as notes:
            notes.write(f"{time.time()} {os.getpid()} {len(rows)} {rows.shape[-1]}\n")


def hold(plan: Mapping[str, Any]) -> None:
    """Wait as long as the plan says."""
    while "held" in plan and Path(plan["held"]).exists():
        time.sleep(0.02)


def fail(fault: str) -> None:
    """Do what a broken machine does."""
    if fault == "out_of_memory":
        raise EngineOutOfMemoryError("CUDA out of memory")
    if fault == "lost":
        raise DeviceLostError("the GPU is lost: fallen off the bus")
    if fault == "poison":
        raise EngineRunError("a kernel fails")
    if fault == "stuck":
        time.sleep(10_000)
    if fault == "pause":
        time.sleep(PAUSE_SECONDS)
    if fault == "slow":
        time.sleep(4)
    if fault == "leak":
        LEAKED.append(np.ones(256 << 20, dtype=np.uint8))


LEAKED: list[Any] = []


def machine_of(plan: Mapping[str, Any]) -> Machine:
    """Return the machine of a plan."""

    def device(setting: str) -> str:
        if plan.get("gpus", 1):
            return DEVICE
        if setting == "auto":
            return "cpu"
        raise InferenceError(f"inference.device is {setting}, but torch sees 0 GPU")

    places: list[str] = []

    def place(on: str) -> str:
        places.append(on)
        return "cpu"  # there is no such GPU: only the engine says that it is one

    def compose(bundle: Bundle, _place: str, settings: EngineSettings) -> Chosen:
        cpu = choose_engine(bundle, "cpu", replace(settings, compose=None))
        if places[-1:] == ["cpu"]:
            return cpu
        if not plan.get("loads", True):
            raise RuntimeError("CUDA unknown error - this may be due to an incorrect environment")
        engine = FaultyEngine(cpu.engine, plan)
        spare = None if plan.get("no_spare") else lambda: cpu.engine
        return Chosen(Ladder(engine, spare, settings.tell), cpu.network)

    return Machine(device, place, compose)


def read_plan(path: Path) -> Mapping[str, Any]:
    """Return the plan of this process, and count that it read it."""
    plan: Mapping[str, Any] = json.loads(path.read_text())
    lives = path.with_suffix(".lives")
    number = len(lives.read_text()) + 1 if lives.exists() else 1
    with lives.open("a") as file:
        file.write("x")
    found: Mapping[str, Any] = plan.get("lives", {}).get(str(number), plan)
    return found


def run(plan_path: str, *arguments: str) -> None:
    """Run the command line of Preread, of which the worker has the machine of the plan."""
    from deploy import analysing

    plain = analysing.serve_worker

    def serve_worker(base: Any, stop: threading.Event, place: Any = None) -> Ending:
        return plain(base, stop, place, machine_of(read_plan(Path(plan_path))))

    def part(name: str) -> node.Part:
        command = [sys.executable, __file__, plan_path, name]
        return node.Part(name, command if name == "worker" else plain_part(name).command)

    plain_part = node._part
    analysing.serve_worker = serve_worker  # type: ignore[assignment]
    node._part = part
    sys.argv = ["preread", *arguments]
    main()


if __name__ == "__main__":
    run(*sys.argv[1:])
