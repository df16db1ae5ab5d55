"""Where a network looked, by networks whose answer is known."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import Classifier, DenseNet, EfficientNetBN
from torch import nn

from inference.evidence import enlarged
from inference.networks import SliceNetwork
from inference.saliency import Saliency

SIZE = 32
# Two places of the input, as slices of it.
UPPER_LEFT = (slice(4, 12), slice(4, 12))
LOWER_RIGHT = (slice(20, 28), slice(18, 26))


def _blobs() -> torch.Tensor:
    """Return a row with a spot in the first channel and another in the second."""
    row = torch.zeros(1, 2, SIZE, SIZE)
    row[0, 0][UPPER_LEFT] = 1.0
    row[0, 1][LOWER_RIGHT] = 1.0
    return row


def _ready(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def _pooled(pool: nn.Module, last: list[list[float]]) -> nn.Module:
    """Return a network that sees each channel by itself, pools it and weighs it by `last`."""
    see = nn.Conv2d(2, 2, 4, stride=4, bias=False)
    see.weight.data = torch.eye(2)[:, :, None, None].expand(2, 2, 4, 4) / 16.0
    weigh = nn.Linear(2, len(last))
    weigh.weight.data, weigh.bias.data = torch.tensor(last), torch.zeros(len(last))
    return _ready(nn.Sequential(see, nn.ReLU(), pool, nn.Flatten(), weigh))


def _shown(looked: Saliency, row: torch.Tensor, output: int, activation: Any) -> Any:
    """Return what speaks for an output, 0 to 1 and as large as the input."""
    evidence = looked.of(row, output, activation)
    assert evidence is not None
    full = enlarged(np.maximum(evidence, 0.0), (row.shape[-2], row.shape[-1]))
    return full / max(full.max(), 1e-9)


def _share_in(saliency: np.ndarray, place: tuple[slice, slice]) -> float:
    return float(saliency[place].sum() / saliency.sum())


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)])
def test_the_map_is_high_where_the_evidence_is(pool: nn.Module) -> None:
    looked = Saliency(_pooled(pool, [[1.0, -1.0], [-2.0, 0.5]]))
    for output, here, elsewhere in ((0, UPPER_LEFT, LOWER_RIGHT), (1, LOWER_RIGHT, UPPER_LEFT)):
        saliency = _shown(looked, _blobs(), output, "sigmoid")
        assert saliency is not None
        assert saliency.shape == (SIZE, SIZE)
        assert saliency.dtype == np.float32
        assert (saliency.min(), saliency.max()) == (0.0, 1.0)
        assert _share_in(saliency, here) > 0.6
        assert saliency[elsewhere].max() == 0.0
        assert np.unravel_index(saliency.argmax(), saliency.shape)[0] in range(SIZE)[here[0]]


def test_a_network_without_pooling_is_followed_by_its_gradient() -> None:
    weigh = nn.Linear(2 * 64, 1)
    weigh.weight.data.zero_()
    weigh.weight.data.view(2, 8, 8)[1, 5:7, 5:7] = 1.0  # looks at the lower right alone
    see = _pooled(nn.AdaptiveAvgPool2d(1), [[1.0, 1.0]])[0]
    looked = Saliency(_ready(nn.Sequential(see, nn.ReLU(inplace=True), nn.Flatten(), weigh)))
    saliency = _shown(looked, _blobs() + 0.1, 0, "sigmoid")
    assert saliency is not None
    assert _share_in(saliency, LOWER_RIGHT) > 0.6
    assert saliency[UPPER_LEFT].max() == 0.0


def test_it_is_the_class_activation_map_where_there_is_one() -> None:
    torch.manual_seed(3)
    network = _ready(DenseNet(2, 1, 3, init_features=8, growth_rate=4, block_config=(2, 2)))
    row = torch.rand(1, 1, 96, 96)
    maps = network.class_layers.relu(network.features(row))  # 12 x 12
    cam = torch.einsum("c,chw->hw", network.class_layers.out.weight[1], maps[0])
    evidence = Saliency(network).of(row, 1, "sigmoid")
    np.testing.assert_allclose(evidence, (cam / 144).numpy(), rtol=0, atol=1e-5)
    cam = cam.clamp(min=0)
    cam = nn.functional.interpolate(cam[None, None], size=(96, 96), mode="bilinear")[0, 0]
    saliency = _shown(Saliency(network), row, 1, "sigmoid")
    np.testing.assert_allclose(saliency, (cam / cam.max()).numpy(), rtol=0, atol=1e-4)


def test_within_a_residual_block_only_the_sum_is_asked() -> None:
    """The branch sees nothing at all; what the label needs goes around it."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Conv2d(2, 2, 1)
            self.branch.weight.data.zero_()
            self.branch.bias.data.fill_(0.1)

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps + self.branch(maps)

    see = nn.Conv2d(2, 2, 2, stride=2, bias=False)
    see.weight.data = torch.eye(2)[:, :, None, None].expand(2, 2, 2, 2) / 4.0
    weigh = nn.Linear(2, 1)
    weigh.weight.data, weigh.bias.data = torch.tensor([[1.0, 0.0]]), torch.zeros(1)
    padded = nn.Sequential(nn.AvgPool2d(8), nn.ConstantPad2d(6, 0.0), nn.AdaptiveAvgPool2d(1))
    looked = Saliency(_ready(nn.Sequential(see, Block(), *padded, nn.Flatten(), weigh)))
    saliency = _shown(looked, _blobs(), 0, "sigmoid")
    assert saliency is not None
    assert _share_in(saliency, UPPER_LEFT) > 0.3  # evenly spread it would be 0.06
    assert np.unravel_index(saliency.argmax(), saliency.shape)[0] in range(SIZE)[UPPER_LEFT[0]]


def test_coarse_maps_give_way_to_finer_ones_before_them() -> None:
    """Its last maps are 2 x 2; the spot is an eighth of the width."""
    weigh = nn.Linear(2, 1, bias=False)
    weigh.weight.data = torch.tensor([[1.0, 0.0]])
    see = _pooled(nn.AdaptiveAvgPool2d(1), [[1.0, 1.0]])[0]
    coarse = nn.Sequential(see, nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), weigh)
    saliency = _shown(Saliency(_ready(coarse)), _blobs(), 0, "sigmoid")
    assert saliency is not None
    assert _share_in(saliency, UPPER_LEFT) > 0.6


def test_under_softmax_what_speaks_for_another_label_speaks_against() -> None:
    """Both spots raise the first output; the second of them raises the other output more."""
    looked = Saliency(_pooled(nn.AdaptiveAvgPool2d(1), [[1.0, 1.0], [0.0, 3.0]]))
    alone = _shown(looked, _blobs(), 0, "sigmoid")
    among = _shown(looked, _blobs(), 0, "softmax")
    assert alone is not None
    assert among is not None
    assert alone[LOWER_RIGHT].max() > 0.9
    assert among[LOWER_RIGHT].max() == 0.0
    assert among[UPPER_LEFT].max() == 1.0


def test_where_nothing_speaks_for_a_label_the_map_is_dark() -> None:
    looked = Saliency(_pooled(nn.AdaptiveAvgPool2d(1), [[-1.0, -1.0]]))
    saliency = _shown(looked, _blobs(), 0, "sigmoid")
    assert saliency is not None
    assert not saliency.any()


@pytest.mark.parametrize(
    "network",
    [
        EfficientNetBN("efficientnet-b0", pretrained=False, in_channels=1, num_classes=2),
        DenseNet(2, 1, 2, block_config=(2, 2)),
        Classifier((1, 64, 64), 2, (4, 8), (2, 2)),
    ],
)
def test_networks_of_monai_give_the_same_map_each_time(network: nn.Module) -> None:
    _ready(network)
    row = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        plain = network(row)
        looked = Saliency(network)
        first, second = (looked.of(row, 1, "sigmoid") for _ in range(2))
        assert torch.equal(network(row), plain)
    assert first is not None
    assert second is not None
    assert first.tobytes() == second.tobytes()
    assert np.isfinite(first).all()


def test_maps_of_another_head_are_not_asked() -> None:
    """Its last and finest maps lead to its masks; the numbers come from those before them."""
    torch.manual_seed(2)
    network = _ready(SliceNetwork(2, 2, 2))
    evidence = Saliency(network).of(torch.rand(1, 2, 64, 64), 1, "sigmoid")
    assert evidence is not None
    assert min(evidence.shape) >= 4
    assert evidence.any()


def test_a_network_without_feature_maps_shows_none() -> None:
    network = _ready(nn.Sequential(nn.Flatten(), nn.Linear(2 * SIZE * SIZE, 1)))
    assert Saliency(network).of(_blobs(), 0, "sigmoid") is None


def test_two_threads_that_share_a_network_do_not_mix_their_maps() -> None:
    looked = Saliency(_pooled(nn.AdaptiveMaxPool2d(1), [[1.0, 0.0], [0.0, 1.0]]))
    expected = [looked.of(_blobs(), output, "sigmoid") for output in (0, 1)]
    wrong: list[int] = []

    def work(output: int) -> None:
        for _ in range(60):
            found = looked.of(_blobs(), output, "sigmoid")
            if not np.array_equal(found, expected[output]):  # type: ignore[arg-type]
                wrong.append(output)

    threads = [threading.Thread(target=work, args=(output,)) for output in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
