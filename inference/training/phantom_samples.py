"""Samples drawn from phantoms, through the same preparation as in service."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from multiprocessing import get_context
from typing import Protocol

import numpy as np
import torch

from ..input_spec import InputSpec
from ..tensors import prepare_ct, prepare_radiograph
from .phantoms import Bleed, BleedType, Chest, Grid, Head, Pneumothorax, Scanner, draw_bleed
from .samples import Sample, as_bytes

# Which output of the hemorrhage reader is which: as in the RSNA 2019 data set.
HEMORRHAGE_LABELS = ("any", *(str(kind) for kind in BleedType))

# Blood that covers less of a slice is left unlabelled: nobody could see it.
_VISIBLE_MM2 = 25.0
# A whole head, from the upper neck to above the vertex.
_LOWEST, _HIGHEST = -90.0, 88.0
_SERIES_HEIGHTS = tuple(float(z) for z in range(-60, 80, 5))
# Of findings: from all sizes to large ones only.
_SIZES = (0.0, 0.5, 1.0)
_CPU = torch.device("cpu")


class Draw(Protocol):
    """Draws the samples of one phantom."""

    def __call__(self, seed: int, spec: InputSpec) -> list[Sample]:
        """Return the samples of the phantom of `seed`, prepared as `spec` says."""
        ...


def draw_chests(seed: int, spec: InputSpec) -> list[Sample]:
    """Return a chest of `seed` with a pneumothorax and its twin without."""
    chest = Chest.draw(seed)
    rng = np.random.default_rng([seed, 3])
    finding = Pneumothorax.draw(rng, size=float(rng.choice(_SIZES)))
    size = round(1.25 * spec.size)
    # Films are not square: what was collimated away differs from film to film.
    top, left, bottom, right = (round(size * float(rng.uniform(0, 0.12))) for _ in range(4))
    samples = []
    for present in (finding, None):
        film = chest.radiograph(size, present)[top : size - bottom, left : size - right]
        prepared = prepare_radiograph(film, spec, _CPU)[0]
        labels = (float(present is not None),)
        samples.append(Sample(as_bytes(prepared), labels, f"chest-{seed}"))
    return samples


def draw_slices(seed: int, spec: InputSpec) -> list[Sample]:
    """Return some slices of the head of `seed`: with a bleed, its twin, and others.

    Slices with a trace of blood that nobody could see are left out.
    """
    rng = np.random.default_rng([seed, 4])
    head, bleeds, height = _draw_head(rng, chance_of_bleed=0.85)
    near = [height, height + float(rng.uniform(-8, 8))]
    elsewhere = [float(rng.uniform(_LOWEST, _HIGHEST)) for _ in range(2)]
    pictures = _Pictures(rng, head, spec, f"head-{seed}")
    return [
        *pictures.slices([*near, elsewhere[0]], bleeds),
        *pictures.slices([near[0], elsewhere[1]], ()),
    ]


def draw_series(seed: int, spec: InputSpec) -> list[Sample]:
    """Return a whole series of the head of `seed`, every 5 mm; about six in ten bleed."""
    rng = np.random.default_rng([seed, 5])
    head, bleeds, _ = _draw_head(rng, chance_of_bleed=0.6)
    pictures = _Pictures(rng, head, spec, f"series-{seed}")
    return list(pictures.slices(_SERIES_HEIGHTS, bleeds, keep_traces=True))


def draw_many(draw: Draw, seeds: Sequence[int], spec: InputSpec, workers: int = 1) -> list[Sample]:
    """Return the samples of all `seeds`, in their order, drawn by `workers` processes."""
    task = partial(draw, spec=spec)
    if workers <= 1:
        return list(chain.from_iterable(map(task, seeds)))
    # Spawned, not forked: the parent has threads of torch.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    with one_thread_each(), pool:
        return list(chain.from_iterable(pool.map(task, seeds, chunksize=8)))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes started meanwhile use one thread: several that each use all are far slower."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _draw_head(
    rng: np.random.Generator, chance_of_bleed: float
) -> tuple[Head, tuple[Bleed, ...], float]:
    """Draw a head, its bleeds (none, one, sometimes two) and the height of the first."""
    head = Head.draw(rng)
    height = float(rng.uniform(-35, 62))
    if rng.random() >= chance_of_bleed:
        return head, (), height
    kinds = rng.permutation(np.array(list(BleedType)))[: 2 if rng.random() < 0.25 else 1]
    if BleedType.INTRAVENTRICULAR in kinds:
        height = float(rng.uniform(-4, 26))
    size = float(rng.choice(_SIZES))
    bleeds = tuple(draw_bleed(rng, head, BleedType(kind), height, size) for kind in kinds)
    return head, bleeds, height


class _Pictures:
    """Slices of one head on one scanner."""

    def __init__(self, rng: np.random.Generator, head: Head, spec: InputSpec, group: str) -> None:
        self._rng, self._head, self._spec, self._group = rng, head, spec, group
        self._scanner = Scanner.draw(rng)
        size = round(1.2 * spec.size)
        self._spacing = float(rng.uniform(195, 260)) / size
        self._grid = Grid.centred(size, self._spacing)

    def slices(
        self, heights: Sequence[float], bleeds: Sequence[Bleed], keep_traces: bool = False
    ) -> Iterator[Sample]:
        """Yield the slices at `heights`; those with a mere trace of blood only if asked."""
        for height in heights:
            sample, trace = self._slice(height, bleeds)
            if keep_traces or not trace:
                yield sample

    def _slice(self, height: float, bleeds: Sequence[Bleed]) -> tuple[Sample, bool]:
        push = next((bleed.push for bleed in bleeds if bleed.push), None)
        head = self._head.slice(self._grid, height, push)
        area = dict.fromkeys(HEMORRHAGE_LABELS, 0.0)
        for bleed in bleeds:
            head, cover = bleed.paint(head)
            area[bleed.kind] = float((cover > 0.5).sum()) * self._spacing**2
        area["any"] = max(area.values())
        stored = self._scanner.acquire(head.hu, self._spacing, self._rng)
        prepared = prepare_ct(stored[None].astype(np.float32), self._spec, _CPU)[0]
        labels = tuple(float(area[name] >= _VISIBLE_MM2) for name in HEMORRHAGE_LABELS)
        trace = 0 < area["any"] < _VISIBLE_MM2
        return Sample(as_bytes(prepared), labels, self._group, height), trace
