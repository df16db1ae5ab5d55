"""How the slice network learns from painted slices: labels and maps together, resumable.

What is done to which slice in which step depends on the seed and the number of the step alone, so a
training that was interrupted goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import nn

from ..input_spec import InputSpec
from ..placement import Box, Placement
from ..tensors import prepare_ct
from .painted_heads import MASK_SIZE
from .painted_pool import Pool
from .phantoms.backgrounds import SIZE
from .phantoms.fields import between, chance
from .pictures import vary

_CPU = torch.device("cpu")
_CELL = SIZE // MASK_SIZE
# Share of the labels that is taken as wrong: painted blood can be too faint to see.
_SMOOTHING = 0.02
# `any` counts double, as in the RSNA 2019 metric; the sum of the weights is that of six ones.
_LABEL_WEIGHTS = (12 / 7, 6 / 7, 6 / 7, 6 / 7, 6 / 7, 6 / 7)
_MAP_POSITIVE, _DICE = 4.0, 0.3
_WARM_UP, _SLOWEST = 80, 1e-6


@dataclass(frozen=True, slots=True)
class PaintedSettings:
    """How the slice network learns.

    Attributes
    ----------
    steps, batch : int
        Steps, and slices in each.
    learning_rate : float
        After warming up; it falls to nothing as a half cosine.
    weight_decay : float
        Of kernels; norms and biases have none.
    picture_share : float
        How often a slice has been a picture of 8 bits (`pictures.vary`).
    seed : int
        Of everything that is random.
    device : str
        As torch names it.
    bfloat16 : bool
        Compute in bfloat16 where it is safe: half the time on processors that have it.
    workers : int
        Processes that prepare slices; the result does not depend on it.
    save_every : int
        Steps between checkpoints, and reports.
    """

    steps: int = 1600
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    picture_share: float = 0.8
    seed: int = 1
    device: str = "cpu"
    bfloat16: bool = False
    workers: int = 1
    save_every: int = 50


@dataclass(frozen=True, slots=True)
class StepReport:
    """Mean losses of the last steps: of labels, of maps, and 1 - Dice of maps."""

    step: int
    steps: int
    label_loss: float
    map_loss: float
    dice_loss: float


OnStep = Callable[[StepReport], None]


def fit_painted(
    network: nn.Module,
    pool: Pool,
    chosen: NDArray[np.int64],
    spec: InputSpec,
    settings: PaintedSettings,
    checkpoint: Path,
    on_step: OnStep,
) -> None:
    """Train `network` in place; it ends with averaged weights, in evaluation mode.

    Parameters
    ----------
    network : torch.nn.Module
        Gives logits (n, 6) and maps (n, 6, h, w): `SliceNetwork`.
    pool : Pool
    chosen : ndarray of int64
        Which slices of the pool to learn from.
    spec : InputSpec
        Of kind ``ct_slices``.
    settings : PaintedSettings
    checkpoint : Path
        Written now and then; if it is there the training goes on from it. Removed at the end.
    on_step : callable
        Called with every checkpoint.
    """
    device = torch.device(settings.device)
    torch.manual_seed(settings.seed)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(network, settings)
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = _restored(checkpoint, network, optimizer, average)
    losses: list[tuple[float, ...]] = []
    for step, (images, masks, labels) in _batches(pool, chosen, spec, settings, first):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, settings)
        network.train()
        torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
            logits, maps = network(images)
        # The first map is made of the others.
        kinds = maps[:, 1:].float()
        parts = _losses(logits.float(), kinds, labels.to(device), masks.to(device))
        loss = parts[0] + parts[1] + _DICE * parts[2]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        _follow(average, network, min(0.995, (step + 1) / (step + 21)))
        losses.append(tuple(part.item() for part in parts))
        if (step + 1) % settings.save_every == 0:
            _save(checkpoint, network, optimizer, average, step + 1)
            means = np.mean(losses, axis=0)
            losses.clear()
            on_step(StepReport(step + 1, settings.steps, *(float(mean) for mean in means)))
    network.load_state_dict(average)
    network.eval()
    checkpoint.unlink(missing_ok=True)


def prepared(
    pool: Pool, index: int, place: int, spec: InputSpec, settings: PaintedSettings
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what is learnt from one slice: input, maps and labels.

    Parameters
    ----------
    index : int
        Of the slice in the pool.
    place : int
        Its number in the order of all that is learnt, on which all chance depends.

    Returns
    -------
    Tensor of float32, (channels, size, size)
    Tensor of float32, (5, size / 4, size / 4)
    Tensor of float32, (6,)
        `any`, then the kinds.
    """
    rng = np.random.default_rng([settings.seed, 31, place])
    hu = vary(rng, np.asarray(pool.hu[index]), settings.picture_share)
    box = _jittered(rng, pool.boxes[index])
    masks = torch.from_numpy(pool.masks[index].astype(np.float32) / 255)[None]
    placement = Placement((SIZE, SIZE), box, spec.size)
    image = prepare_ct(hu[None], spec, _CPU, (placement,))[0]
    small = _placed_masks(masks, box, spec.size // 4)[0]
    if chance(rng, 0.5):
        image, small = image.flip(-1), small.flip(-1)
    if chance(rng, 0.05):
        image, small = image.flip(-2), small.flip(-2)
    kinds = torch.from_numpy(pool.labels[index].astype(np.float32))
    return image, small, torch.cat([kinds.amax()[None], kinds])


def _jittered(rng: np.random.Generator, box: NDArray[np.int64]) -> Box:
    """Move and scale the box of the head a little, in whole cells of the masks."""
    top, left, bottom, right = (float(edge) for edge in box)
    longer = max(bottom - top, right - left)
    grow = between(rng, -0.05, 0.09) * longer
    down, across = (between(rng, -0.05, 0.05) * longer for _ in range(2))
    edges = (top + down - grow, left + across - grow, bottom + down + grow, right + across + grow)
    low = [max(0, min(SIZE - 4 * _CELL, _CELL * round(edge / _CELL))) for edge in edges[:2]]
    high = [
        min(SIZE, max(start + 4 * _CELL, _CELL * round(edge / _CELL)))
        for start, edge in zip(low, edges[2:], strict=True)
    ]
    return low[0], low[1], high[0], high[1]


def _placed_masks(masks: torch.Tensor, box: Box, size: int) -> torch.Tensor:
    top, left, bottom, right = (edge // _CELL for edge in box)
    place = Placement((MASK_SIZE, MASK_SIZE), (top, left, bottom, right), size)
    part = F.interpolate(
        masks[..., top:bottom, left:right],
        size=place.fitted,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    whole = torch.zeros((*masks.shape[:2], size, size))
    whole[(..., *place.inside)] = part
    return whole.clamp(0.0, 1.0)


class _Order(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """All that is learnt, in order: every pass over the slices in an order of its own."""

    def __init__(
        self,
        pool: Pool,
        chosen: NDArray[np.int64],
        spec: InputSpec,
        settings: PaintedSettings,
        first: int,
    ) -> None:
        self._pool, self._chosen, self._spec, self._settings = pool, chosen, spec, settings
        self._first = first * settings.batch
        passes = -(-settings.steps * settings.batch // len(chosen))
        orders = [
            np.random.default_rng([settings.seed, 32, number]).permutation(chosen)
            for number in range(passes)
        ]
        self._order = np.concatenate(orders)[: settings.steps * settings.batch]

    def __len__(self) -> int:
        return len(self._order) - self._first

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        place = self._first + position
        index = int(self._order[place])
        return prepared(self._pool, index, place, self._spec, self._settings)


def _batches(
    pool: Pool,
    chosen: NDArray[np.int64],
    spec: InputSpec,
    settings: PaintedSettings,
    first: int,
) -> Iterator[tuple[int, list[torch.Tensor]]]:
    if first >= settings.steps:
        return
    order = _Order(pool, chosen, spec, settings, first)
    loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
        order,
        settings.batch,
        shuffle=False,
        num_workers=settings.workers,
        prefetch_factor=6 if settings.workers else None,
        worker_init_fn=_one_thread,
    )
    yield from enumerate(loader, start=first)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _losses(
    logits: torch.Tensor, maps: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weights = torch.tensor(_LABEL_WEIGHTS, device=logits.device)
    wanted = labels * (1 - _SMOOTHING) + _SMOOTHING / 2
    of_labels = F.binary_cross_entropy_with_logits(logits, wanted, weight=weights)
    positive = torch.tensor(_MAP_POSITIVE, device=maps.device)
    of_maps = F.binary_cross_entropy_with_logits(maps, masks, pos_weight=positive)
    said = maps.sigmoid()
    both = (said * masks).sum((0, 2, 3))
    dice = 1 - ((2 * both + 5) / ((said + masks).sum((0, 2, 3)) + 5)).mean()
    return of_labels, of_maps, dice


def _optimizer(network: nn.Module, settings: PaintedSettings) -> torch.optim.AdamW:
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": kernels, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )


def _rate(step: int, settings: PaintedSettings) -> float:
    done = step / settings.steps
    warm = min(1.0, (step + 1) / _WARM_UP)
    return settings.learning_rate * warm * (0.5 + 0.5 * float(np.cos(np.pi * done))) + _SLOWEST


@torch.no_grad()
def _follow(average: dict[str, torch.Tensor], network: nn.Module, share: float) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.dtype.is_floating_point:
            average[name].mul_(share).add_(tensor, alpha=1 - share)
        else:
            average[name].copy_(tensor)


def _save(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
    step: int,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average,
            "step": step,
        },
        temporary,
    )
    temporary.rename(path)


def _restored(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
) -> int:
    if not path.is_file():
        return 0
    saved = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    for name, tensor in saved["average"].items():
        average[name].copy_(tensor)
    return int(saved["step"])
