"""Networks that have the columns of a picture as their rows, on every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plane_bundles
import pytest
import torch
from plane_bundles import LOADED, STRETCHED, one
from torch import nn

from inference.bundle import Bundle
from inference.engines.choose import EngineSettings
from inference.forward import Network
from inference.placement import Placement

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

RANGE = one("ScaleIntensityRanged", a_min=0, a_max=1000, b_min=0, b_max=1, clip=True)


class Lines(nn.Module):
    """Sees where a row of its own begins, not where a column does; pooled by a mean if told so."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.step = nn.Conv2d(1, 2, (2, 1), bias=False)
        self.step.weight.data = torch.tensor([-1.0, 1.0, 0.0, 1.0]).view(2, 1, 2, 1)
        self.head = nn.Linear(2, 1)
        self.head.weight.data = torch.tensor([[90.0, 0.0]])
        self.head.bias.data = torch.tensor([-2.0])
        self.pooled = pooled

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.step(images).relu()
        if self.pooled:
            features = nn.functional.adaptive_avg_pool2d(features, 1)
        given: torch.Tensor = self.head(features.flatten(2).mean(2))
        return given


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    made = plane_bundles.written(tmp_path / "b", [*LOADED, STRETCHED, RANGE])
    opened = plane_bundles.served(made, masks=False)
    assert opened.spec.plane is not None and opened.spec.plane.transposed
    return opened


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_a_turned_network_looks_where_its_source_shows_it(
    engine: str, pooled: bool, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Lines(pooled).eval()
    monkeypatch.setattr("inference.network.load_network", lambda *_: module)
    settings: dict[str, Any] = {"cache": tmp_path / "engines"} if engine == "onnxruntime" else {}
    network = Network(bundle, "cpu", EngineSettings(**settings))
    tensor = torch.zeros((1, 1, 64, 64))
    tensor[0, 0, 8:16, 40:60] = 1.0
    told = network.probabilities(tensor)
    assert network.made_with is not None and network.made_with.engine == engine
    # A row of the network begins where a column of the picture does: 8 places of 63 x 64.
    expected = 1 / (1 + np.exp(2.0 - 90.0 * 8 / (63 * 64)))
    np.testing.assert_allclose(told, [[expected]], atol=1e-5)
    looked = network.looked_at(tensor, 0, Placement.whole((64, 64), 64))
    assert looked is not None
    rows, columns = np.nonzero(looked > 0.5)
    assert (rows.min(), rows.max()) == (8, 15)
    assert set(columns) <= {38, 39, 40, 41}
    np.testing.assert_array_equal(network.probabilities(tensor.numpy()), told)
