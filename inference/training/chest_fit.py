"""How a reader of chests learns from pairs of pictures, each seen once.

Three things are learnt at once: whether there is a pneumothorax, which of two twins has it, and
where the free air is. The map of the last is for learning alone and is not kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from monai.networks.blocks.activation import MemoryEfficientSwish
from monai.networks.nets.efficientnet import EfficientNetBN
from numpy.typing import NDArray
from torch import nn

from .painted_chests import Twins

# The features of EfficientNet-B0 from which the map of air is read: 112 maps of 1/16 the size.
_STAGE, _MAPS = 4, 112
# What each thing that is learnt counts, beside the finding itself.
_TWIN_WEIGHT, _MAP_WEIGHT = 0.5, 0.5
# Air covers a few per cent of a picture: where it is counts more.
_RARE = 3.0
# The head that reads the map is new in each stage and learns faster; it begins with few odds.
_HEAD_RATE, _NOWHERE = 10.0, -3.0
_WEIGHT_DECAY = 1e-2


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures, the first with a pneumothorax.

    Attributes
    ----------
    images : ndarray of uint8, (2, size, size)
    air : ndarray of bool, (size, size), or None
        Where the first shows free air; None where nobody knows.
    """

    images: NDArray[np.uint8]
    air: NDArray[np.bool_] | None

    @classmethod
    def of(cls, twins: Twins) -> Pair:
        """Return twins as a pair."""
        return cls(twins.images, twins.air)


Draw = Callable[[int], list[Pair]]
"""Gives the pairs of a step, counted from 0."""
OnStep = Callable[[int, int, float, float], None]
"""Is told the step, how many there are, the loss and the seconds since the start."""


def learn(
    network: EfficientNetBN,
    draw: Draw,
    steps: int,
    rate: float,
    device: torch.device,
    seed: int,
    on_step: OnStep | None = None,
) -> None:
    """Train `network` in place for `steps` steps; it is left in evaluation mode.

    Parameters
    ----------
    network : EfficientNetBN
        EfficientNet-B0 with one input channel and one output.
    draw : callable
    steps : int
    rate : float
        Peak of the one-cycle schedule.
    device : torch.device
    seed : int
        Of what the network does at random.
    on_step : callable, optional
    """
    torch.manual_seed(seed)
    network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    _plain_swish(network)
    head = _map_head().to(device)
    seen: list[torch.Tensor] = []
    watch = network._blocks[_STAGE].register_forward_hook(lambda *_: seen.append(_[2]))
    rates = [rate, _HEAD_RATE * rate]
    groups = [{"params": part.parameters()} for part in (network, head)]
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rates, total_steps=steps, pct_start=0.2
    )
    started = time.monotonic()
    for step in range(steps):
        pairs = draw(step)
        images = np.stack([pair.images for pair in pairs])
        batch = torch.from_numpy(images).to(device).float().flatten(0, 1)[:, None] / 255
        seen.clear()
        logits = network(batch.contiguous(memory_format=torch.channels_last)).view(-1, 2)
        loss = _finding_loss(logits) + _MAP_WEIGHT * _map_loss(head(seen[0]), pairs)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if on_step:
            on_step(step + 1, steps, float(loss.detach()), time.monotonic() - started)
    watch.remove()
    network.eval()


def _map_head() -> nn.Sequential:
    """Return what reads a map of air from features; it begins with: nowhere."""
    last = nn.Conv2d(_MAPS, 1, 1)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.constant_(last.bias, _NOWHERE)
    return nn.Sequential(nn.BatchNorm2d(_MAPS), last)


def _finding_loss(logits: torch.Tensor) -> torch.Tensor:
    """Return the loss of the finding and of the order of each pair; `logits` of (pairs, 2)."""
    present, absent = logits[:, 0], logits[:, 1]
    alone = F.softplus(-present).mean() + F.softplus(absent).mean()
    return alone / 2 + _TWIN_WEIGHT * F.softplus(absent - present).mean()


def _map_loss(maps: torch.Tensor, pairs: list[Pair]) -> torch.Tensor:
    """Return the loss of the maps of air, (2 * pairs, 1, h, w); unknown ones count for nothing."""
    truth, known = torch.zeros_like(maps), torch.ones(len(maps), device=maps.device)
    for row, pair in enumerate(pairs):
        if pair.air is None:
            known[2 * row] = 0
        else:
            air = torch.from_numpy(pair.air).to(maps.device).float()[None]
            truth[2 * row] = F.adaptive_avg_pool2d(air, (maps.shape[-2], maps.shape[-1]))
    rare = torch.full((1,), _RARE, device=maps.device)
    each = F.binary_cross_entropy_with_logits(maps, truth, reduction="none", pos_weight=rare)
    return (each.mean(dim=(1, 2, 3)) * known).sum() / known.sum().clamp(min=1)


def _plain_swish(network: nn.Module) -> None:
    """Use torch's own swish: the same function, a third faster on a CPU."""
    for name, module in list(network.named_modules()):
        if isinstance(module, MemoryEfficientSwish):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.SiLU(inplace=True))
