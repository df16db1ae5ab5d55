"""Files to probabilities on a GPU; see `gpu`.

For each kind of file the whole way (gate, decoding in a pool of processes, upload of stored values,
input and network on the device) beside the bare network on rows that lie there already, in
interleaved rounds; and how long the GPU was idle meanwhile. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networks
import pictures
import torch
from markdown_tables import number, table
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from inference.admission import admitted, admitted_stack
from inference.bundle import Bundle
from inference.criteria import Criteria
from inference.decode_pool import DecodePool, PoolSettings
from inference.device import configure_torch
from inference.device_input.readings import FACT, DeviceReadings
from inference.engines.cuda_engine import CudaEngine
from inference.engines.probes import probes
from inference.errors import NotAnalysableError
from inference.network import load_network
from inference.open_source import index_file
from inference.reading import NotAnalysed, SourceImage

# What is measured: the network, the transfer syntax, and the least ratio to the bare network.
CASES = (
    ("CT, uncompressed", networks.HEAD, ExplicitVRLittleEndian, 0.9),
    ("CT, JPEG 2000", networks.HEAD, JPEG2000Lossless, None),
    ("X-ray, uncompressed", networks.CHEST, ExplicitVRLittleEndian, 0.9),
    ("X-ray, JPEG", networks.CHEST, JPEGBaseline8Bit, None),
)
_SAMPLE_MS = 50


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one case: images a second, the share of time that the GPU was idle, ways of pictures."""

    title: str
    whole: float
    bare: float
    idle: float | None
    paths: dict[str, int]
    goal: float | None

    @property
    def ratio(self) -> float:
        return self.whole / self.bare


class Run:
    """One network on a device, and the files that it reads."""

    def __init__(
        self, bundle: Bundle, files: Sequence[Path], device: torch.device, batch: int,
        pool: DecodePool, *, gpu_decoding: bool,
    ) -> None:  # fmt: skip
        self._bundle, self._device, self._batch, self._pool = bundle, device, batch, pool
        self._gpu_decoding = gpu_decoding
        # As a node keeps them: indexed after they were received.
        self._images = [
            SourceImage(n, str(n), "", "", path, index_file(path)) for n, path in enumerate(files)
        ]
        probe = torch.from_numpy(probes(bundle)[0])
        self._engine = CudaEngine(load_network(bundle, device), device, probe, largest=batch)
        self._rows = probe.to(device).repeat(batch, 1, 1, 1)
        self.paths: dict[str, int] = {}

    def whole(self) -> float:
        """Read all files and return images a second."""
        facts: dict[str, object] = {}
        started = time.perf_counter()
        count = 0
        for batch in self._batches(facts):
            count += len(self._engine.run(batch.tensor).tensors[0])
        seconds = time.perf_counter() - started
        assert count == len(self._images)
        self.paths = dict(facts[FACT])  # type: ignore[call-overload]
        return count / seconds

    def bare(self) -> float:
        """Run the network as often as for all files and return rows a second."""
        rounds = max(1, len(self._images) // self._batch)
        started = time.perf_counter()
        for _ in range(rounds):
            self._engine.run(self._rows)
        return rounds * self._batch / (time.perf_counter() - started)

    def _batches(self, facts: dict[str, object]) -> Iterator[Any]:
        made = DeviceReadings(
            self._bundle.spec, self._device, self._pool, self._batch, facts,
            gpu_decoding=self._gpu_decoding,
        )  # fmt: skip
        if self._bundle.spec.kind == "ct_slices":
            series = admitted_stack(self._images, self._bundle)
            sources = series.sources
            frames = [(sources[s.image.sop_instance_uid], s.frame) for s in series.stack.slices]
            yield from made.slices(frames, None, lambda *_: None)
            return
        for image in self._images:  # each is an analysis of its own
            admitted([image], self._bundle)
        yield from made.films(((image, 0) for image in self._images), _flat)


def _flat() -> NotAnalysableError:
    return NotAnalysableError(NotAnalysed.UNSUPPORTED_PIXELS, "a phantom has contrast")


@contextmanager
def idle_share(device: torch.device) -> Iterator[list[float]]:
    """Sample how busy the GPU is; the list has its idle share, 0 to 1, at the end, if known."""
    found: list[float] = []
    program = shutil.which("nvidia-smi")
    if device.type != "cuda" or program is None:
        yield found
        return
    command = [program, f"--id={device.index or 0}", "--query-gpu=utilization.gpu"]
    command += ["--format=csv,noheader,nounits", f"--loop-ms={_SAMPLE_MS}"]
    sampler = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    samples: list[float] = []
    assert sampler.stdout is not None
    reading = threading.Thread(
        target=lambda out: samples.extend(busy_of(out)), args=(sampler.stdout,)
    )
    reading.start()
    try:
        yield found
    finally:
        sampler.terminate()
        sampler.wait()
        reading.join()
        if samples:
            found.append(1.0 - statistics.fmean(samples))


def busy_of(lines: Iterator[str] | Any) -> list[float]:
    """Return the shares, 0 to 1, that lines of nvidia-smi say; what is no number is left out."""
    words = (line.strip() for line in lines)
    return [int(word) / 100 for word in words if word.isdigit()]


def measure(title: str, run: Run, device: torch.device, rounds: int, goal: float | None) -> Figures:
    """Warm up, then measure both in turn."""
    run.whole(), run.bare()
    whole, bare, idle = [], [], []
    for _ in range(rounds):
        with idle_share(device) as share:
            whole.append(run.whole())
        idle += share
        bare.append(run.bare())
    return Figures(
        title, statistics.median(whole), statistics.median(bare),
        statistics.fmean(idle) if idle else None, run.paths, goal,
    )  # fmt: skip


def report(figures: Sequence[Figures], device: str, decoders: int, batch: int) -> str:
    """Return what was measured as Markdown."""
    head = ["case", "images/s", "network alone", "ratio", "goal", "GPU idle", "ways"]
    rows = [
        [
            one.title,
            number(one.whole),
            number(one.bare),
            f"{one.ratio:.2f}",
            "" if one.goal is None else f"{one.goal:.2f}",
            "unknown" if one.idle is None else f"{one.idle:.0%}",
            ", ".join(f"{way} {count}" for way, count in sorted(one.paths.items())),
        ]
        for one in figures
    ]
    cores = len(os.sched_getaffinity(0))
    about = f"{device}, torch {torch.__version__}, {decoders} decode processes on {cores} cores"
    return f"{about}, batches of {batch}\n\n{table(head, rows)}"


def main() -> int:
    """Measure and print; 1 if a goal is missed."""
    asked = _arguments()
    device = torch.device(asked.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU: torch sees none; nothing is measured")
        return 0
    configure_torch()
    slices, films = (8, 4) if asked.quick else (512, 256)
    figures = []
    settings = PoolSettings(processes=asked.decoders)
    with tempfile.TemporaryDirectory() as place, DecodePool(settings) as pool:
        for title, network, syntax, goal in CASES:
            folder = Path(place) / title.replace(" ", "-")
            bundle = networks.make(Path(place) / network, network)
            object.__setattr__(bundle, "suitability", Criteria(min_rows=1))
            if network == networks.HEAD:
                files = pictures.head_series(folder, syntax, slices)
            else:
                files = pictures.films(folder, syntax, films, large=False)
            run = Run(bundle, files, device, asked.batch, pool, gpu_decoding=asked.gpu_decoding)
            figures.append(measure(title, run, device, 1 if asked.quick else 5, goal))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu, no figures"
    print(report(figures, name, asked.decoders, asked.batch))
    missed = [one for one in figures if one.goal is not None and one.ratio < one.goal]
    return int(bool(missed) and device.type == "cuda")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Files to probabilities on a GPU.")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batch", type=int, default=32)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--decoders", type=int, default=max(1, cores - 1))
    parser.add_argument("--gpu-decoding", action="store_true", help="nvImageCodec decodes too")
    parser.add_argument("--quick", action="store_true", help="a few images, one round")
    return parser.parse_args()
