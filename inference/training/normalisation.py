"""Batch normalisation of a network whose weights were learnt elsewhere.

In service it uses the averages that it gathered. Those of the start speak of photographs, and a
short training does not outweigh them layer after layer: so they are gathered anew before it begins.
"""

from __future__ import annotations

import torch
from torch import nn

from .recipes import TrainSettings
from .samples import Part
from .sampling import epoch_batches

_BATCHES = 32


def gather_statistics(network: nn.Module, training: Part, settings: TrainSettings) -> None:
    """Replace the running averages of `network` by plain ones over up to 32 batches.

    Weights stay as they are. The network ends in evaluation mode, on the device of the settings.

    Parameters
    ----------
    network : Module
    training : Part
        Its images, unchanged.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    device = torch.device(settings.device)
    network.to(device).eval()
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    batches = epoch_batches(training, settings.batch, 1.0, False, settings.seed, 0)[:_BATCHES]
    with torch.no_grad():
        for rows, images in training.batches(batches):
            if len(rows) > 1:
                network(images.to(device).float() / 255)
    for norm, usual in zip(norms, momentum, strict=True):
        norm.momentum = usual
    network.eval()
