"""The two public layouts made from a few phantoms, and bundles with tiny networks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import Classifier

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.input_spec import InputSpec
from inference.training.phantoms.files import write_chest, write_head_series
from inference.windows import BRAIN, SOFT, SUBDURAL

SUBTYPES = (
    "any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural",
)  # fmt: skip


def siim_layout(folder: Path, count: int = 8, size: int = 128) -> Path:
    """Write chests, every second with a pneumothorax; return the table."""
    rows = ["file,label"]
    for number in range(count):
        label = "Pneumothorax" if number % 2 else "No Pneumothorax"
        path = write_chest(folder / "train" / label, number, number % 2 == 1, size=size)
        path.rename(path.with_name(f"{number:06d}.dcm"))
        rows.append(f"train/{label}/{number:06d}.dcm,{label}")
    table = folder / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def rsna_layout(folder: Path, heads: int = 4, slices: int = 2, size: int = 64) -> Path:
    """Write slices of heads, every second with an epidural bleed; return the table."""
    rows = ["ID,Label"]
    for number in range(heads):
        bleed = "epidural" if number % 2 else None
        for path in write_head_series(folder / "dcm", number, bleed, slices=slices, size=size):
            image = f"ID_{number}{path.stem}"
            path.rename(path.with_name(f"{image}.dcm"))
            found = {"any", bleed}
            rows += [f"{image}_{name},{int(bool(bleed) and name in found)}" for name in SUBTYPES]
    table = folder / "stage_1_train.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def chest_reader(path: Path, **preread: Any) -> Bundle:
    """Write a bundle that reads chest radiographs."""
    criteria = {"modalities": ["CR", "DX"], "body_parts": ["CHEST"], "refused_views": ["LL"]}
    spec = InputSpec("radiograph", 32, polarity="chest")
    return tiny(path, spec, ["pneumothorax"], suitability=criteria, **preread)


def head_reader(path: Path, **preread: Any) -> Bundle:
    """Write a bundle that reads slices of heads, by series of four or more."""
    spec = InputSpec("ct_slices", 32, (BRAIN, SUBDURAL, SOFT))
    criteria = {"modalities": ["CT"], "body_parts": ["HEAD"], "min_slices": 4, "max_gap": 1.6}
    return tiny(path, spec, SUBTYPES, suitability=criteria, **preread)


def volume_reader(path: Path) -> Bundle:
    """Write a bundle that reads whole volumes: a map that is high in bright voxels."""
    network = torch.nn.Conv3d(1, 1, 1)
    torch.nn.init.constant_(network.weight, 20.0)
    torch.nn.init.constant_(network.bias, -10.0)
    write_bundle(
        path,
        name=path.name,
        version="0.0.1",
        network_def={
            "_target_": "torch.nn.Conv3d",
            "in_channels": 1,
            "out_channels": 1,
            "kernel_size": 1,
        },
        state_dict=network.state_dict(),
        preread={
            "input": {
                "kind": "ct_volume",
                "spacing": [8.0, 8.0, 8.0],
                "intensity": [{"kind": "range", "source": [0, 80]}],
                "roi": [16, 16, 16],
            },
            "labels": [_label("any")],
            "masks": True,
        },
        metadata={},
        card="",
    )
    return open_bundle(path)


def tiny(path: Path, spec: InputSpec, labels: Sequence[str], **preread: Any) -> Bundle:
    """Write a bundle with a network of a few weights, the same every time."""
    torch.manual_seed(7)
    arguments = {
        "in_shape": [spec.channels, spec.size, spec.size],
        "classes": len(labels),
        "channels": [4, 8],
        "strides": [2, 2],
    }
    write_bundle(
        path,
        name=path.name,
        version="0.0.1",
        network_def={"_target_": "monai.networks.nets.Classifier", **arguments},
        state_dict=Classifier(**arguments).state_dict(),
        preread={"input": spec.to_dict(), "labels": [_label(one) for one in labels], **preread},
        metadata={"description": "A network for tests"},
        card="# For tests\n",
    )
    return open_bundle(path)


def _label(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "code": {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"},
        "thresholds": {"low": 0.3, "high": 0.5},
    }
