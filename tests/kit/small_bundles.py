"""Bundles of networks that a test makes, written as training writes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DenseNet
from torch import nn

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.input_spec import InputSpec

HEMORRHAGE = {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"}
PNEUMOTHORAX = {"value": "36118008", "scheme": "SCT", "meaning": "Pneumothorax"}


def small_dense(seed: int = 3, **changes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Return a small network and its definition; of 96 pixels its last maps are 12 x 12."""
    arguments = {
        "spatial_dims": 2, "in_channels": 1, "out_channels": 2,
        "init_features": 8, "growth_rate": 4, "block_config": [2, 2],
        **changes,
    }  # fmt: skip
    torch.manual_seed(seed)
    return DenseNet(**arguments), {"_target_": "monai.networks.nets.DenseNet", **arguments}


def small_bundle(
    path: Path,
    network: nn.Module,
    network_def: dict[str, Any],
    spec: InputSpec,
    labels: Iterable[str],
    *,
    code: dict[str, str] = HEMORRHAGE,
    thresholds: tuple[float, float] = (0.1, 0.5),
    **preread: Any,
) -> Bundle:
    """Write a bundle with the name of its folder, all labels with one code, and open it."""
    low, high = thresholds
    write_bundle(
        path,
        name=path.name,
        version="1",
        network_def=network_def,
        state_dict=network.state_dict(),
        preread={
            "input": spec.to_dict(),
            "labels": [
                {"name": name, "code": code, "thresholds": {"low": low, "high": high}}
                for name in labels
            ],
            **preread,
        },
        metadata={},
        card="# For tests\n",
    )
    return open_bundle(path)
