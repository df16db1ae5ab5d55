"""Averages of normalisation are those of the data before a transferred network learns."""

from __future__ import annotations

import numpy as np
import torch

from inference.training.normalisation import gather_statistics
from inference.training.samples import Part, Sample, Samples
from inference.training.train_settings import TrainSettings


def test_averages_are_those_of_the_data_and_weights_stay() -> None:
    rng = np.random.default_rng(1)
    samples = Samples.of(
        Sample(rng.integers(100, 200, (2, 8, 8), np.uint8), (0.0,), f"{i}") for i in range(12)
    )
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.Dropout(0.5))
    network[0].running_mean.fill_(50.0)
    weights = [parameter.clone() for parameter in network.parameters()]
    gather_statistics(network, Part.of_samples(samples), TrainSettings(batch=4))
    norm = network[0]
    mean = (samples.images.float() / 255).mean(dim=(0, 2, 3))
    assert torch.allclose(norm.running_mean, mean, atol=1e-6)
    assert norm.momentum == 0.1
    assert not network.training
    assert all(map(torch.equal, weights, network.parameters()))
