"""Bundles in the layout of MONAI's Model Zoo, with weights that are made here.

Their configurations have the form of those of ``spleen_ct_segmentation`` and of a classification
of volumes; their networks are small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DenseNet121, UNet

ROI = [32, 32, 32]
SPACING = [3.0, 3.0, 3.0]
UNET: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [8, 16],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}
DENSENET: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "init_features": 8,
    "growth_rate": 4,
    "block_config": [2, 2],
}


def write_files(
    path: Path,
    config: Mapping[str, Any],
    metadata: Mapping[str, Any],
    weights: Mapping[str, Any],
) -> Path:
    for folder in ("configs", "models", "docs"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    (path / "configs" / "inference.json").write_text(json.dumps(config))
    (path / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (path / "docs" / "README.md").write_text("# For tests\n")
    torch.save(dict(weights), path / "models" / "model.pt")
    return path


def spleen_config() -> dict[str, Any]:
    image = {"keys": "image"}
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "output_dtype": "$numpy.float32",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "spatial_dims": 3,
        "window": {"side": 16},
        "network_def": {**UNET, "_target_": "UNet", "spatial_dims": "@spatial_dims"},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **image},
                {"_target_": "EnsureChannelFirstd", **image},
                {"_target_": "Orientationd", **image, "axcodes": "RAS"},
                {"_target_": "Spacingd", **image, "pixdim": SPACING, "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged", **image, "a_min": -57, "a_max": 164,
                    "b_min": 0, "b_max": 1, "clip": True,
                },
                {"_target_": "EnsureTyped", **image},
            ],
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": "$[@window#side * 2] + [32, 32]",
            "sw_batch_size": 4,
            "overlap": 0.5,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing",
                    "orig_keys": "image", "nearest_interp": False, "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
            ],
        },
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def metadata(
    task: str, outputs: Mapping[str, str], kind: str, shape: list[int], **changes: Any
) -> dict[str, Any]:
    return {
        "version": "0.5.3",
        "task": task,
        "authors": "Équipe MONAI",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image", "format": "hounsfield", "modality": "CT", "num_channels": 1,
                    "spatial_shape": ROI, "channel_def": {"0": "image"},
                },
            },
            "outputs": {
                "pred": {
                    "type": "image", "format": kind, "num_channels": len(outputs),
                    "spatial_shape": shape, "channel_def": dict(outputs),
                },
            },
        },
        **changes,
    }  # fmt: skip


def write_spleen(path: Path, weights: Mapping[str, Any] | None = None) -> Path:
    """Write a segmentation bundle; without weights those of a network that never learnt."""
    torch.manual_seed(11)
    return write_files(
        path,
        spleen_config(),
        metadata("Spleen segmentation", {"0": "background", "1": "spleen"}, "segmentation", ROI),
        UNet(**UNET).state_dict() if weights is None else weights,
    )


def classifier_config() -> dict[str, Any]:
    image = {"keys": ["image"]}
    return {
        "network_def": {**DENSENET, "_target_": "monai.networks.nets.DenseNet121"},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **image},
                {"_target_": "EnsureChannelFirstd", **image},
                {"_target_": "Orientationd", **image, "axcodes": "LPS"},
                {
                    "_target_": "ScaleIntensityRanged", **image, "a_min": -100, "a_max": 200,
                    "b_min": 0.0, "b_max": 1.0, "clip": True,
                },
                {
                    "_target_": "Resized", **image, "spatial_size": [32, 40, 32],
                    "mode": "trilinear",
                },
                {"_target_": "CastToTyped", **image, "dtype": "$torch.float32"},
            ],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}],
        },
    }  # fmt: skip


def write_classifier(path: Path) -> Path:
    """Write a bundle that classifies a volume, with weights of a network that never learnt."""
    torch.manual_seed(12)
    return write_files(
        path,
        classifier_config(),
        metadata("Nodules", {"0": "nodule", "1": "pneumothorax"}, "classification", [1, 2]),
        DenseNet121(**DENSENET).state_dict(),
    )


def trained_unet(seed: int = 3, steps: int = 60, weight: float = 4.0) -> dict[str, Any]:
    """Teach the network what is bright and large, on boxes of noise: a few seconds."""
    torch.manual_seed(seed)
    network = UNet(**UNET)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    weights = torch.tensor([1.0, weight])
    grid = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij"))
    for _ in range(steps):
        center = 8.0 + 8.0 * torch.rand(2, 3, 1, 1, 1)
        radius = 3.0 + 6.0 * torch.rand(2, 1, 1, 1)
        inside = ((grid[None] - center) ** 2).sum(1) <= radius**2
        # Edges as they are after resampling: half of a voxel is inside.
        soft = torch.nn.functional.avg_pool3d(inside[:, None].float(), 3, 1, padding=1)[:, 0]
        values = 0.25 + 0.45 * soft + 0.03 * torch.randn(2, 24, 24, 24)
        loss = torch.nn.functional.cross_entropy(
            network(values[:, None].clamp(0, 1)), inside.long(), weights
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return dict(network.state_dict())
