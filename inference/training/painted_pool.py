"""Many painted slices on disk: drawn once, in parallel, and learnt from several times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InferenceError
from ..heads import head_boxes
from .checkpoint import write_durably
from .painted_heads import KINDS, MASK_SIZE, PaintedSlice, draw_slices
from .phantom_samples import one_thread_each
from .phantoms.backgrounds import SIZE, Background, read_backgrounds

_PART = 250


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Painted slices as arrays.

    Attributes
    ----------
    hu : ndarray of int16, (n, 256, 256)
    masks : ndarray of uint8, (n, 5, 64, 64)
    labels : ndarray of uint8, (n, 5)
    grounds : ndarray of str, (n,)
        What each was painted on.
    boxes : ndarray of int64, (n, 4)
        Where the head is, as of `head_boxes`.
    """

    hu: Sequence[NDArray[np.int16]]
    masks: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    grounds: NDArray[np.str_]
    boxes: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many slices there are."""
        return len(self.labels)


def draw_pool(
    folder: Path,
    seeds: range,
    backgrounds: Sequence[Path],
    workers: int = 1,
    real_share: float = 0.5,
) -> Pool:
    """Draw the slices of `seeds` into a folder; parts that are there already are kept.

    Parameters
    ----------
    folder : Path
        Made if need be. It must have been drawn from the same backgrounds.
    seeds : range
        Of `draw_slices`, step 1.
    backgrounds : sequence of Path
        Folders with a head CT series each.
    workers : int
        Processes; the result does not depend on it.

    Raises
    ------
    InferenceError
        If the folder was drawn from other backgrounds, or with another share of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, {"backgrounds": [path.name for path in backgrounds], "real_share": real_share})
    starts = range(seeds.start, seeds.stop, _PART)
    parts = [range(start, min(start + _PART, seeds.stop)) for start in starts]
    task = partial(_draw_part, folder, tuple(backgrounds), real_share)
    if workers <= 1:
        paths = [task(part) for part in parts]
    else:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
        with one_thread_each(), pool:
            paths = list(pool.map(task, parts))
    return _opened(paths)


def _claim(folder: Path, stated: Mapping[str, object]) -> None:
    """Say what the parts of a folder are drawn from, unless it says something else already."""
    path = folder / "pool.json"
    if not path.is_file():
        write_durably(path, json.dumps(stated).encode())
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InferenceError(f"{path} cannot be read: remove {folder} to draw it anew") from error
    if there != stated:
        raise InferenceError(
            f"{folder} was drawn from other backgrounds, or another share of them: {path} says "
            f"{json.dumps(there):.200}, now {json.dumps(stated):.200}; remove the folder to draw "
            "it anew, or name another"
        )


def _draw_part(folder: Path, backgrounds: tuple[Path, ...], share: float, seeds: range) -> Path:
    path = folder / f"{seeds.start:08d}-{seeds.stop:08d}.npz"
    if path.is_file():
        return path
    torch.set_num_threads(1)
    grounds: list[Background] = read_backgrounds(backgrounds) if backgrounds else []
    slices = [one for seed in seeds for one in draw_slices(seed, grounds, share)]
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **_arrays(slices))
    temporary.rename(path)
    return path


def _arrays(slices: Sequence[PaintedSlice]) -> dict[str, NDArray[np.generic]]:
    hu = np.stack([one.hu for one in slices]) if slices else np.zeros((0, SIZE, SIZE), np.int16)
    masks = np.zeros((len(slices), len(KINDS), MASK_SIZE, MASK_SIZE), np.uint8)
    for index, one in enumerate(slices):
        masks[index] = one.masks
    boxes = [
        box
        for start in range(0, len(slices), 32)
        for box in head_boxes(hu[start : start + 32].astype(np.float32))
    ]
    return {
        "hu": hu,
        "masks": masks,
        "labels": np.array([one.labels for one in slices], np.uint8).reshape(-1, len(KINDS)),
        "grounds": np.array([one.ground for one in slices]),
        "boxes": np.array(boxes, np.int64).reshape(-1, 4),
    }


def _opened(paths: Sequence[Path]) -> Pool:
    parts = [np.load(path) for path in paths]
    hu: list[NDArray[np.int16]] = []
    for part in parts:
        hu.extend(part["hu"])
    return Pool(
        hu=hu,
        masks=np.concatenate([part["masks"] for part in parts]),
        labels=np.concatenate([part["labels"] for part in parts]),
        grounds=np.concatenate([part["grounds"] for part in parts]),
        boxes=np.concatenate([part["boxes"] for part in parts]),
    )
