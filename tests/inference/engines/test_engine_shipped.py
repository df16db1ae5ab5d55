"""The engines of the bundles that ship, and of the networks that users bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.networks.nets
import numpy as np
import pytest
import torch

from inference.bundle import Bundle, open_bundle
from inference.bundle_writing import write_bundle
from inference.engines.choose import EngineSettings, choose_engine, open_onnx
from inference.engines.onnx_cache import OnnxCache
from inference.engines.onnx_export import drift_of
from inference.input_spec import InputSpec
from inference.settings import shipped_bundles

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.name)
def test_a_shipped_bundle_runs_on_onnx_runtime(path: Path, tmp_path: Path) -> None:
    bundle = open_bundle(path)
    chosen = choose_engine(bundle, "cpu", EngineSettings(tmp_path))
    assert (chosen.engine.identity.name, chosen.instead) == ("onnxruntime", "")
    exported = OnnxCache(tmp_path).find(bundle)
    assert exported is not None
    assert 0 < exported.about.drift <= 1e-4
    # The network with maps of its own has no others.
    assert exported.about.class_maps == (not bundle.mapped)


def _brought(path: Path, target: str, arguments: dict[str, Any], spec: InputSpec) -> Bundle:
    torch.manual_seed(4)
    network = getattr(monai.networks.nets, target)(**arguments)
    # As trained ones have it: numbers of the size of one, which differ from row to row.
    last = [one for one in network.modules() if isinstance(one, torch.nn.Linear)][-1]
    last.weight.data.mul_(20)
    network.train()
    with torch.no_grad():  # statistics of batches, without which deep layers see almost nothing
        for _ in range(4):
            network(torch.rand(4, spec.channels, spec.size, spec.size))
    labels = [
        {
            "name": f"label {number}",
            "code": {"value": "50960005", "scheme": "SCT", "meaning": "Hemorrhage"},
            "thresholds": {"low": 0.1, "high": 0.5},
        }
        for number in range(4)
    ]
    write_bundle(
        path,
        name=path.name,
        version="1",
        network_def={"_target_": f"monai.networks.nets.{target}", **arguments},
        state_dict=network.state_dict(),
        preread={"input": spec.to_dict(), "labels": labels},
        metadata={},
        card="# For tests\n",
    )
    return open_bundle(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "arguments", "size", "channels"),
    [
        (
            "EfficientNetBN",
            {
                "model_name": "efficientnet-b0",
                "pretrained": False,
                "spatial_dims": 2,
                "in_channels": 3,
                "num_classes": 4,
            },
            256,
            3,
        ),
        ("DenseNet121", {"spatial_dims": 2, "in_channels": 1, "out_channels": 4}, 224, 1),
    ],
)
def test_a_network_that_users_bring_gives_what_torch_gives(
    target: str, arguments: dict[str, Any], size: int, channels: int, tmp_path: Path
) -> None:
    spec = InputSpec("radiograph", size, copies=channels)
    bundle = _brought(tmp_path / target.lower(), target, arguments, spec)
    settings = EngineSettings(tmp_path / "engines", 1)
    engine = open_onnx(bundle, settings)
    plain = choose_engine(bundle, "cpu", EngineSettings()).engine
    rows = np.random.default_rng(9).random((5, channels, size, size), dtype=np.float32)
    told = plain.run(rows)
    assert np.ptp(told.tensors[0]) > 0.1  # what is compared is not all the same
    assert told.class_maps is not None
    assert drift_of(bundle, plain, engine, rows) <= 1e-4
