"""torchxrayvision's own network definition, and its way from a file to the network's input.

The package itself imports torchvision, which does not load beside a CPU build of torch: here its
``models`` and ``utils`` are imported alone, with empty modules in place of what the definition
does not use.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

PACKAGE = "torchxrayvision"
_NOT_NEEDED = ("torchvision", "skimage", "tqdm", "tqdm.auto")


@dataclass(frozen=True)
class Published:
    """What the package says."""

    models: Any
    utils: Any
    outputs: tuple[str, ...]
    center_crop: Any

    def network(self, seed: int = 0) -> torch.nn.Module:
        """Return its DenseNet-121 with made weights, none of which is as it begins.

        Batch normalisation has seen some pictures, and the last layer gives outputs around the
        operating points, which lie between 0.002 and 0.2: a network that says 0 or 1 of everything
        would agree with any other.
        """
        torch.manual_seed(seed)
        network: torch.nn.Module = self.models.DenseNet()
        norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.data.uniform_(0.7, 1.3)
            norm.bias.data.normal_(0.0, 0.1)
        coarse = torch.empty(2, 1, 7, 7).uniform_(-1024, 1024)
        pictures = torch.nn.functional.interpolate(coarse, size=(224, 224), mode="bilinear")
        with torch.no_grad():
            features = network.train().features2(pictures + torch.randn(2, 1, 224, 224) * 50)
        network.classifier.weight.data *= 2.0 / float(network.classifier(features).detach().std())
        network.classifier.bias.data.uniform_(-4.5, -1.5)
        for norm in norms:
            norm.momentum = 0.1
        return network.eval()

    def calibrated(self, network: torch.nn.Module, weights: str) -> torch.nn.Module:
        """Return the network as the package has it once it has loaded weights of that name."""
        facts = self.models.model_urls[weights]
        network.op_threshs = torch.tensor(facts["op_threshs"])
        network.input_resolution = facts["input_resolution"]
        return network

    def read(self, path: Path, network: torch.nn.Module) -> NDArray[np.float32]:
        """Return what the package makes of a DICOM file: its reader, its crop, its network."""
        picture = self.center_crop()(self.utils.read_xray_dcm(path)[None])
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(picture)[None]).numpy()[0])


@contextmanager
def published() -> Iterator[Published | None]:
    """Import the definition for a while; None where the package is not installed.

    Modules that it saves name their classes, so that they are importable until the end.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        yield None
        return
    root = Path(spec.origin).parent
    before = set(sys.modules)
    package, datasets = ModuleType(PACKAGE), ModuleType(f"{PACKAGE}.datasets")
    package.__path__ = [str(root)]
    source = ast.parse((root / "datasets.py").read_text(encoding="utf-8"))
    _define(datasets, source, "default_pathologies", "XRayCenterCrop")
    package.datasets = datasets  # type: ignore[attr-defined]
    stubs = {name: ModuleType(name) for name in _NOT_NEEDED if name not in sys.modules}
    if "tqdm.auto" in stubs:
        stubs["tqdm.auto"].tqdm = None  # type: ignore[attr-defined]
    sys.modules.update({PACKAGE: package, datasets.__name__: datasets, **stubs})
    try:
        models = importlib.import_module(f"{PACKAGE}.models")
        utils = importlib.import_module(f"{PACKAGE}.utils")
        for name in stubs:
            del sys.modules[name]
        yield Published(
            models,
            utils,
            tuple(datasets.default_pathologies),
            datasets.XRayCenterCrop,
        )
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in (PACKAGE, *_NOT_NEEDED):
                del sys.modules[name]


def _define(module: ModuleType, source: ast.Module, *names: str) -> None:
    """Run the definitions of some names alone."""
    module.__dict__["np"] = np
    for node in source.body:
        targets = node.targets if isinstance(node, ast.Assign) else ()
        defined = {t.id for t in targets if isinstance(t, ast.Name)} | {getattr(node, "name", "")}
        if defined & set(names):
            code = compile(ast.Module([node], []), f"{PACKAGE}.datasets", "exec")
            exec(code, module.__dict__)  # the package's own lines
