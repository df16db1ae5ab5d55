"""Bundles in the layout of the Model Zoo whose network shows masks of pictures or slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import zoo_bundles

from inference.bundle import Bundle
from inference.catalogue import open_catalogue
from inference.settings import InferenceSettings, ModelSettings

SHAPE = [64, 64]
CODE = {"value": "129716005", "scheme": "SCT", "meaning": "Extremely dense"}


def one(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the definition of a transform."""
    return {"_target_": name, "keys": "image", **arguments}


LOADED = [one("LoadImaged"), one("EnsureChannelFirstd")]
STRETCHED = one("Resized", spatial_size=SHAPE, mode="bilinear")
CENTRED = one("ResizeWithPadOrCropd", spatial_size=SHAPE)


def written(
    path: Path,
    steps: Sequence[Mapping[str, Any]],
    modality: str = "CR",
    weight: Sequence[float] = (40.0,),
    bias: Sequence[float] = (-20.0,),
    after: Sequence[Mapping[str, Any]] = ({"_target_": "Activationsd", "sigmoid": True},),
) -> Path:
    """Write one whose outputs are weight * pixel + bias."""
    count = len(weight)
    network = torch.nn.Conv2d(1, count, 1)
    network.load_state_dict(
        {"weight": torch.tensor(weight).view(count, 1, 1, 1), "bias": torch.tensor(bias)}
    )
    names = {str(number): f"output {number}" for number in range(count)}
    metadata = zoo_bundles.metadata("Spots", names, "segmentation", SHAPE)
    metadata["network_data_format"]["inputs"]["image"] |= {
        "spatial_shape": SHAPE,
        "modality": modality,
    }
    config = {
        "network_def": {
            "_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": count,
            "kernel_size": 1,
        },
        "preprocessing": {"_target_": "Compose", "transforms": list(steps)},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": [{"keys": "pred", **one} for one in after],
    }  # fmt: skip
    return zoo_bundles.write_files(path, config, metadata, network.state_dict())


def served(path: Path, labels: Mapping[str, int] | None = None, **section: Any) -> Bundle:
    """Open one; labels are names by their outputs, and small pictures are read too."""
    named = labels or {"spot": 0}
    label = [{"name": name, "output": n, "code": CODE} for name, n in named.items()]
    said = {"label": label, "suitability": {"min_rows": 16}, **section}
    model = ModelSettings.model_validate({"name": "plane", "path": path, **said})
    return open_catalogue(InferenceSettings(shipped=False), (model,))["plane"]
