"""The two networks of the tutorials as bundles: their shape and cost, and weights of chance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks import nets

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.engines.probes import probes
from inference.input_spec import InputSpec
from inference.windows import BRAIN, SOFT, SUBDURAL

HEAD, CHEST = "head", "chest"
TITLES: Mapping[str, str] = {HEAD: "EfficientNet-B0 at 256", CHEST: "DenseNet-121 at 224"}
_SEED = 6
_NETWORKS: Mapping[str, tuple[str, Mapping[str, Any], InputSpec, tuple[str, ...]]] = {
    # As of the first three of the RSNA challenge of 2019: three windows, six labels.
    HEAD: (
        "EfficientNetBN",
        {
            "model_name": "efficientnet-b0",
            "pretrained": False,
            "spatial_dims": 2,
            "in_channels": 3,
            "num_classes": 6,
        },
        InputSpec("ct_slices", 256, (BRAIN, SUBDURAL, SOFT)),
        ("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"),
    ),
    CHEST: (
        "DenseNet121",
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 1},
        InputSpec("radiograph", 224),
        ("pneumothorax",),
    ),
}


def make(folder: Path, name: str) -> Bundle:
    """Write the bundle of a network into a folder, and open it."""
    class_name, arguments, _, _ = _NETWORKS[name]
    torch.manual_seed(_SEED)
    network = getattr(nets, class_name)(**arguments)
    bundle = _written(folder, name, network)
    _settle(network, torch.from_numpy(np.concatenate(probes(bundle))))
    return _written(folder, name, network)


def _settle(network: torch.nn.Module, rows: torch.Tensor) -> None:
    """Give layers of normalisation the statistics of some rows.

    Numbers are then about 1 in every layer, as in a trained network: without, they fade to nothing,
    and no two ways to compute them differ.
    """
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(rows)


def _written(folder: Path, name: str, network: torch.nn.Module) -> Bundle:
    class_name, arguments, spec, labels = _NETWORKS[name]
    write_bundle(
        folder,
        name=name,
        version="1",
        network_def={"_target_": f"monai.networks.nets.{class_name}", **arguments},
        state_dict=network.state_dict(),
        preread={"input": spec.to_dict(), "labels": [_label(one) for one in labels]},
        metadata={},
        card="# Weights of chance\n",
    )
    return open_bundle(folder)


def _label(name: str) -> dict[str, Any]:
    code = {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"}
    return {"name": name, "code": code, "thresholds": {"low": 0.1, "high": 0.5}}
