"""Class maps that come with the numbers, against gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from monai.networks.nets import Classifier, EfficientNetBN, resnet18
from small_bundles import small_bundle, small_dense
from torch import nn

from inference.activations import activated
from inference.bundle import Bundle
from inference.engines.choose import EngineSettings
from inference.engines.class_maps import find_head, with_class_maps
from inference.evidence import enlarged, evidence_for, log_odds, share_of
from inference.explaining import Wanted
from inference.explanation import Method
from inference.forward import Network
from inference.input_spec import InputSpec
from inference.networks import ChestNetwork, SliceNetwork
from inference.saliency import Saliency

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def _written(path: Path, size: int, **preread: Any) -> tuple[nn.Module, Bundle]:
    network, definition = small_dense(5, out_channels=3)
    spec = InputSpec("radiograph", size)
    bundle = small_bundle(path, network, definition, spec, ("one", "two", "three"), **preread)
    return network.eval().requires_grad_(False), bundle


@pytest.mark.parametrize(
    ("network", "channels", "size"),
    [
        (small_dense(out_channels=3)[0], 1, 96),
        (EfficientNetBN("efficientnet-b0", pretrained=False, in_channels=3, num_classes=4), 3, 64),
        (resnet18(spatial_dims=2, n_input_channels=1, num_classes=2), 1, 64),
    ],
)
def test_the_means_of_the_maps_are_the_numbers(
    network: nn.Module, channels: int, size: int
) -> None:
    network.eval().requires_grad_(False)
    rows = torch.rand(2, channels, size, size)
    mapped = with_class_maps(network, rows)
    assert mapped is not None
    with torch.inference_mode():
        told, maps = mapped(rows)
        assert torch.equal(told, network(rows))
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    np.testing.assert_allclose(maps.mean((2, 3)) + last.bias, told, rtol=0, atol=1e-5)


def test_what_is_added_behind_the_head_does_not_hide_it() -> None:
    """The chest network adds what it sees of both lungs, which no feature tells."""
    network = ChestNetwork(15.0).eval().requires_grad_(False)
    head = find_head(network, torch.rand(1, 1, 64, 64))
    assert head is not None
    assert head.weight.shape == (1, 1280)


class _Squared(nn.Module):
    """Its head looks like one of those, but its number is squared."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.weigh = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.weigh(F.relu(self.see(rows)).mean((2, 3))) ** 2


@pytest.mark.parametrize(
    ("network", "channels", "size"),
    [
        (SliceNetwork(3, 2, 2), 3, 64),
        (Classifier((1, 64, 64), 2, (4, 8), (2, 2)), 1, 64),
        (_Squared(), 1, 32),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten()), 1, 32),
        (nn.Sequential(nn.Flatten(), nn.Linear(1024, 2)), 1, 32),
        (nn.Conv2d(1, 2, 3), 1, 32),
    ],
)
def test_other_heads_have_none(network: nn.Module, channels: int, size: int) -> None:
    network.eval().requires_grad_(False)
    assert find_head(network, torch.rand(1, channels, size, size)) is None


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_the_map_of_the_pass_is_the_map_of_the_gradients(
    tmp_path: Path, activation: Any, engine: str
) -> None:
    network, bundle = _written(tmp_path / "b", 96, activation=activation, engine=engine)
    told = Network(bundle, "cpu", EngineSettings(tmp_path / "engines", 1))
    looked = Saliency(network)
    rows = torch.rand(3, 1, 96, 96)
    runs: list[int] = []
    run = told._chosen.engine.run

    def counted(given: Any) -> Any:
        runs.append(len(given))
        return run(given)

    told._chosen.engine.run = counted  # type: ignore[method-assign]
    told.probabilities(rows)
    for number in range(3):
        for column in range(3):
            row = rows[number : number + 1].clone()
            found = told.explained(row, column, Wanted())
            expected = looked.of(row, column, activation)
            assert found is not None
            assert expected is not None
            assert found.method is Method.CLASS_ACTIVATION
            np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-4)
    assert runs == [3]  # no further pass for any of the nine maps
    assert told._explainer._saliency is None
    # A row that was not among the last takes a pass of its own.
    other = torch.rand(1, 1, 96, 96)
    found = told.explained(other, 0, Wanted())
    assert found is not None
    np.testing.assert_allclose(found.values, looked.of(other, 0, activation), rtol=0, atol=1e-4)
    assert runs == [3, 1]


def test_coarse_maps_of_the_pass_are_shown_as_what_they_are(tmp_path: Path) -> None:
    """Those of the last layers are 4 x 4 here: one cell is an eighth of the picture's width."""
    network, bundle = _written(tmp_path / "b", 32)
    row = torch.rand(1, 1, 32, 32)
    told = Network(bundle, "cpu", EngineSettings(tmp_path / "engines", 1))
    found = told.explained(row, 0, Wanted())
    assert found is not None
    assert (found.method, found.values.shape) == (Method.CLASS_ACTIVATION, (4, 4))
    assert told._explainer._saliency is None
    by_gradients = told.explained(row, 0, Wanted(Method.GRADIENTS))
    assert by_gradients is not None
    np.testing.assert_allclose(
        by_gradients.values, Saliency(network).of(row, 0, "sigmoid"), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("known", "wanted"), [((12, 12), (96, 96)), ((5, 9), (13, 4)), ((1, 3), (8, 8))]
)
def test_maps_are_enlarged_as_torch_does(known: tuple[int, int], wanted: tuple[int, int]) -> None:
    maps = torch.rand(2, 3, *known)
    expected = F.interpolate(maps, size=wanted, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(enlarged(maps.numpy(), wanted), expected, rtol=0, atol=1e-6)


def test_probabilities_are_those_of_torch() -> None:
    outputs = torch.cat([torch.randn(4, 5) * 5, torch.tensor([[-500.0, -90.0, 0.0, 90.0, 500.0]])])
    np.testing.assert_allclose(
        activated(outputs.numpy(), "sigmoid"), outputs.sigmoid(), rtol=1e-5, atol=1e-30
    )
    np.testing.assert_allclose(
        activated(outputs.numpy(), "softmax"), outputs.softmax(1), rtol=1e-5, atol=1e-30
    )
    odd = np.array([[np.nan, 1.0], [np.inf, 1.0]], dtype=np.float32)
    assert np.isnan(activated(odd, "softmax")).all()
    assert np.isnan(activated(odd, "sigmoid")[0, 0])


def test_evidence_against_is_none_and_the_shares_are_the_derivative() -> None:
    outputs = torch.randn(4, requires_grad=True)
    odds = outputs.softmax(0)[1].logit()
    (expected,) = torch.autograd.grad(odds, outputs)
    share = share_of(outputs.detach().numpy(), 1, "softmax")
    np.testing.assert_allclose(share, expected, rtol=1e-4, atol=1e-6)
    assert share_of(np.zeros(3, dtype=np.float32), 2, "sigmoid").tolist() == [0, 0, 1]
    maps = np.stack([np.eye(4), -np.eye(4)]).astype(np.float32)
    against = evidence_for(maps, np.array([0, 1], dtype=np.float32))
    assert against.max() == 0.0
    assert against.sum() == pytest.approx(-0.25)  # the mean of the map
    for activation, expected in (("sigmoid", outputs[1]), ("softmax", odds)):
        found = log_odds(outputs[None].detach().numpy(), 1, activation)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, [expected.item()], rtol=1e-5)
