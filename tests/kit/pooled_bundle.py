"""A bundle whose network ends in global pooling and a linear layer, and whose answer is known.

It sees how bright each quarter of a stripe of its input is: what is bright in the first channel
speaks for the first label, and against the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DenseNet

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.input_spec import InputSpec

CODE = {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"}
_EPS = 1e-5


def _shape(channels: int) -> dict[str, Any]:
    return {
        "spatial_dims": 2, "in_channels": channels, "out_channels": 2, "init_features": 1,
        "growth_rate": 1, "block_config": [1], "bn_size": 1,
    }  # fmt: skip


def bright(channels: int, above: float = 0.6, factor: float = 60.0) -> DenseNet:
    """Return one that sees nothing in places darker than `above`, 0 to 1.

    Its maps have a quarter of the rows and columns of its input.
    """
    network = DenseNet(**_shape(channels))
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.fill_(1.0 - _EPS)
            elif "norm" in name and name.endswith("weight"):
                value.fill_(1.0)
            elif value.is_floating_point():
                value.zero_()
        network.features.conv0.weight[0, 0] = 1.0 / 49
        network.features.norm0.running_mean.fill_(above)
        last = network.class_layers.out
        last.weight[:, 0] = torch.tensor([factor, -factor])
        last.bias.copy_(torch.tensor([-1.0, 1.0]))
    return network.eval().requires_grad_(False)


def write(
    path: Path,
    spec: InputSpec,
    *,
    above: float = 0.6,
    name: str = "bright",
    labels: Sequence[str] = ("bright", "dark"),
    **preread: Any,
) -> Bundle:
    """Write and open it."""
    write_bundle(
        path,
        name=name,
        version="1.0",
        network_def={"_target_": "monai.networks.nets.DenseNet", **_shape(spec.channels)},
        state_dict=bright(spec.channels, above).state_dict(),
        preread={
            "input": spec.to_dict(),
            "labels": [
                {"name": one, "code": CODE, "thresholds": {"low": 0.3, "high": 0.5}}
                for one in labels
            ],
            **preread,
        },
        metadata={},
        card="# For tests\n",
    )
    return open_bundle(path)
