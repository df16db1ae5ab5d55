"""Which learning rate to take: a short trial with an ever larger one (L. N. Smith, 2017)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from .augment import augment
from .recipes import Recipe, TrainSettings
from .samples import Part
from .sampling import Rows, epoch_batches, members, step_seed
from .scores import weighted_loss
from .sweep import Sweep, suggest

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
_SMOOTHING = 0.95
# A loss so many times the lowest ends the trial: nothing is learnt any more.
_DIVERGED = 4.0
_AUGMENTATION, _DROPOUT = 3, 4


def find_learning_rate(
    network: nn.Module, training: Part, recipe: Recipe, settings: TrainSettings
) -> Sweep:
    """Try rates from 1e-6 to 1 on a copy of `network`, all of which learns.

    Returns
    -------
    Sweep
        The same for the same seed.
    """
    device = torch.device(settings.device)
    trial = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trial.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(trial.parameters(), lr=LOWEST)
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    losses: list[float] = []
    smooth = 0.0
    for step, (chosen, images) in enumerate(training.batches(_batches(training, settings))):
        optimizer.param_groups[0]["lr"] = float(rates[step])
        generator = torch.Generator().manual_seed(step_seed(settings.seed, _AUGMENTATION, 0, step))
        torch.manual_seed(step_seed(settings.seed, _DROPOUT, 0, step))
        group = members(training, chosen)
        inputs = augment(images.to(device).float() / 255, generator, group, recipe.augmentation)
        labels = torch.from_numpy(training.labels[chosen]).float().to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.amp):
            logits = trial(inputs.contiguous(memory_format=torch.channels_last))
        loss = weighted_loss(logits.float(), labels, recipe.label_weights, recipe.positive_weight)
        smooth = _SMOOTHING * smooth + (1 - _SMOOTHING) * float(loss.detach())
        losses.append(smooth / (1 - _SMOOTHING ** (step + 1)))
        if not np.isfinite(losses[-1]) or losses[-1] > _DIVERGED * min(losses):
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return suggest(rates[: len(losses)], np.array(losses))


def _batches(training: Part, settings: TrainSettings) -> Sequence[Rows]:
    """Return as many batches as there are steps, over as many epochs as that takes."""
    batches: list[Rows] = []
    while len(batches) < STEPS:
        seed, epoch = settings.seed, len(batches)
        batches += epoch_batches(training, settings.batch, 1.0, settings.balanced, seed, epoch)
    return batches[:STEPS]
