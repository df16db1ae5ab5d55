"""The metric of RSNA 2019 and the network of the tutorial, against known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle.config_parser import ConfigParser

from inference.training.recipes import HEMORRHAGE
from inference.training.scores import weighted_log_loss, weighted_loss

WEIGHTS = (2.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_weighted_log_loss_by_hand() -> None:
    probabilities = np.array([[0.8, 0.5, 0.5, 0.5, 0.5, 0.5], [0.1, 0.5, 0.5, 0.5, 0.5, 0.5]])
    truth = np.array([[True] + [False] * 5, [False] * 6])
    first = (2 * -math.log(0.8) + 5 * -math.log(0.5)) / 7
    second = (2 * -math.log(0.9) + 5 * -math.log(0.5)) / 7
    assert weighted_log_loss(probabilities, truth, WEIGHTS) == pytest.approx((first + second) / 2)


def test_certainty_that_is_wrong_costs_no_more_than_the_clip() -> None:
    found = weighted_log_loss(np.array([[1.0, 0.0]]), np.array([[False, True]]), (2.0, 1.0))
    assert found == pytest.approx(-math.log(1e-15), rel=1e-3)


@given(st.lists(st.floats(-8, 8), min_size=6, max_size=6), st.integers(0, 63))
def test_loss_and_metric_are_one_number(logits: list[float], bits: int) -> None:
    values = torch.tensor([logits], dtype=torch.float32)
    truth = np.array([[bool(bits >> i & 1) for i in range(6)]])
    loss = float(weighted_loss(values, torch.from_numpy(truth).float(), WEIGHTS))
    metric = weighted_log_loss(torch.sigmoid(values.double()).numpy(), truth, WEIGHTS)
    assert loss == pytest.approx(metric, rel=1e-4, abs=1e-6)


def test_efficientnet_b0_is_the_network_it_was() -> None:
    torch.manual_seed(11)
    parser = ConfigParser({"network_def": dict(HEMORRHAGE.network_def)})
    network = parser.get_parsed_content("network_def").eval()
    # 5,288,548 as published for 1,000 classes, less 994 outputs of 1,280 weights and a bias.
    parameters = sum(tensor.numel() for tensor in network.parameters())
    assert parameters == 5_288_548 - 994 * 1281
    # Normalised by the batch: with statistics never learnt nothing would reach the last layer.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
    with torch.inference_mode():
        places = torch.arange(2 * 3 * 64 * 64, dtype=torch.float32)
        outputs = network((places * 0.37).sin().reshape(2, 3, 64, 64))[0].double().numpy()
    assert outputs == pytest.approx(EFFICIENTNET_OUTPUTS, abs=2e-3)


EFFICIENTNET_OUTPUTS = [0.2003, -0.6999, -6.8455, 0.5774, 1.0191, 2.5209]
