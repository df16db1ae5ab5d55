"""A mean before a 1x1 convolution: less work, the same numbers; and where it must stay behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from inference.engines.onnx_engine import OnnxEngine
from inference.engines.onnx_export import export
from inference.engines.pool_first import pool_first


def _saved(network: nn.Module, rows: torch.Tensor, path: Path) -> list[str]:
    export(network.eval(), rows, path)
    return [node.op_type for node in onnx.load(path).graph.node]


def _agrees(network: nn.Module, rows: torch.Tensor, path: Path) -> bool:
    (found,) = OnnxEngine(path, class_maps=False, threads=1).run(rows).tensors
    return np.allclose(found, network(rows).detach().numpy(), atol=1e-5)


def test_the_mean_goes_first_and_the_numbers_stay(tmp_path: Path) -> None:
    network = nn.Sequential(nn.ReLU(), nn.Conv2d(6, 4, 1), nn.AvgPool2d(2), nn.Flatten())
    rows = torch.randn(3, 6, 9, 8)  # nine rows: the last one is in no square
    assert _saved(network, rows, tmp_path / "a.onnx") == ["Relu", "AveragePool", "Conv", "Flatten"]
    assert _agrees(network, rows, tmp_path / "a.onnx")


def test_several_in_a_row_are_all_exchanged(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.AvgPool2d(2), nn.Conv2d(4, 3, 1), nn.AvgPool2d((1, 2), (2, 2))
    )
    rows = torch.randn(2, 2, 16, 16)
    assert _saved(network, rows, tmp_path / "a.onnx") == ["AveragePool", "Conv"] * 2
    onnx.checker.check_model(tmp_path / "a.onnx", full_check=True)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d(2)),  # looks at nine places
        nn.Sequential(nn.Conv2d(2, 3, 1, padding=1), nn.AvgPool2d(2)),
        nn.Sequential(nn.Conv2d(2, 3, 1, stride=2), nn.AvgPool2d(2)),
        nn.Sequential(nn.Conv2d(2, 3, 1), nn.AvgPool2d(2, padding=1)),
        nn.Sequential(nn.Conv2d(2, 3, 1), nn.AvgPool2d(3, 1)),  # as many means as places
        nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.AvgPool2d(2)),  # not linear
        nn.Sequential(nn.Conv2d(2, 3, 1), nn.MaxPool2d(2)),
    ],
)
def test_what_does_not_commute_or_saves_nothing_is_left(network: nn.Module, tmp_path: Path) -> None:
    rows = torch.randn(1, 2, 11, 11)
    export(network.eval(), rows, tmp_path / "a.onnx")
    before = onnx.load(tmp_path / "a.onnx")
    assert next(n.op_type for n in before.graph.node) == "Conv"
    assert pool_first(before) == 0
    assert _agrees(network, rows, tmp_path / "a.onnx")


class _UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 3, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        made = self.one(rows)
        return nn.functional.avg_pool2d(made, 2).flatten(1).mean(1) + made.flatten(1).amax(1)


def test_a_convolution_that_others_use_too_stays_first(tmp_path: Path) -> None:
    assert _saved(_UsedTwice(), torch.randn(1, 2, 8, 8), tmp_path / "a.onnx")[0] == "Conv"
