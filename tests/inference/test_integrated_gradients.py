"""Integrated gradients: complete, the same each time, and missing with a clear word."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as shaped
from monai.networks.nets import DenseNet
from pooled_bundle import bright, write
from torch import nn

from inference.engines.choose import EngineSettings
from inference.errors import InferenceError
from inference.explaining import Wanted
from inference.explanation import Method
from inference.extras import installed_by
from inference.forward import Network
from inference.input_spec import InputSpec
from inference.integrated_gradients import integrated_gradients, summed
from inference.scheduling.turn import Turn, as_current


@pytest.fixture
def captum() -> None:
    pytest.importorskip("captum.attr", reason="captum is not installed")


def _dense() -> nn.Module:
    torch.manual_seed(4)
    network = DenseNet(2, 1, 3, init_features=8, growth_rate=4, block_config=(2, 2))
    return network.eval().requires_grad_(False)


@pytest.mark.usefixtures("captum")
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_all_of_it_adds_up_to_the_difference(activation: Any) -> None:
    network, row = _dense(), torch.rand(1, 1, 32, 32)
    found = integrated_gradients(network, row, 1, activation, steps=100, baseline=0.0)
    told = network(torch.cat([row, torch.zeros_like(row)]))
    if activation == "softmax":
        told = told.softmax(1).logit()
    difference = float(told[0, 1] - told[1, 1])
    assert found.difference == pytest.approx(difference, abs=1e-4)
    assert abs(difference) > 0.01
    assert float(found.values.sum()) == pytest.approx(difference, abs=0.05 * abs(difference))
    assert found.gap == pytest.approx(float(found.values.sum()) - difference, abs=1e-4)


@pytest.mark.usefixtures("captum")
def test_of_a_linear_network_it_is_what_each_pixel_adds() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(2 * 36, 2)).eval().requires_grad_(False)
    row = torch.rand(1, 2, 6, 6)
    found = integrated_gradients(network, row, 0, "sigmoid", steps=3, baseline=0.5)
    expected = ((row[0] - 0.5) * network[1].weight[0].view(2, 6, 6)).sum(0)
    np.testing.assert_allclose(found.values, expected.numpy(), rtol=0, atol=1e-5)
    assert abs(found.gap) < 1e-5


@pytest.mark.usefixtures("captum")
def test_it_is_the_same_each_time_and_within_inference_mode() -> None:
    network, row = _dense(), torch.rand(1, 1, 32, 32)
    one = integrated_gradients(network, row, 0, "sigmoid", steps=8, baseline=0.0)
    with torch.inference_mode():
        other = integrated_gradients(network, row.clone(), 0, "sigmoid", steps=8, baseline=0.0)
    assert one.values.tobytes() == other.values.tobytes()
    assert one.difference == other.difference


@pytest.mark.usefixtures("captum")
def test_a_painted_lesion_is_found_through_the_network_of_a_bundle(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", InputSpec("radiograph", 64))
    network = Network(bundle, "cpu", EngineSettings())
    row = torch.full((1, 1, 64, 64), 0.3)
    row[0, 0, 8:24, 40:56] = 1.0
    found = network.explained(row, 0, Wanted(Method.INTEGRATED_GRADIENTS, steps=20, cell=8))
    assert found is not None
    assert found.values.shape == (8, 8)
    rows, columns = np.nonzero(found.values > 0.3 * found.values.max())
    assert set(rows) <= {0, 1, 2, 3}
    assert set(columns) <= {4, 5, 6, 7}
    told = found.parameters
    assert (told["steps"], told["cell"], told["baseline"]) == (20, 8, 0.0)
    assert float(found.values.sum()) == pytest.approx(
        float(told["difference"]) + float(told["gap"]), abs=1e-3
    )
    with pytest.raises(InferenceError, match="cells of 1 to 64"):
        network.explained(row, 0, Wanted(Method.INTEGRATED_GRADIENTS, cell=65))


@pytest.mark.usefixtures("captum")
def test_stat_need_not_wait_for_all_points_of_a_routine_analysis(tmp_path: Path) -> None:
    network = Network(write(tmp_path / "b", InputSpec("radiograph", 64)), "cpu", EngineSettings())
    pauses: list[None] = []
    turn = Turn("routine", is_stat=False, began=0.0, pause=lambda: pauses.append(None))
    with as_current(turn):
        network.explained(torch.rand(1, 1, 64, 64), 0, Wanted(Method.INTEGRATED_GRADIENTS))
    assert len(pauses) > 10  # of 50 points


@given(shaped.arrays(np.float32, (13, 13), elements=st.floats(-1, 1, width=32)), st.integers(1, 13))
def test_cells_keep_the_sum(values: np.ndarray, cell: int) -> None:
    cells = summed(values, cell)
    assert cells.shape == (-(-13 // cell),) * 2
    assert float(cells.sum()) == pytest.approx(float(values.sum()), abs=1e-3)


def test_without_captum_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(InferenceError, match=re.escape(installed_by("explain"))):
        integrated_gradients(
            bright(1), torch.rand(1, 1, 16, 16), 0, "sigmoid", steps=2, baseline=0.0
        )
