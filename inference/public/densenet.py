"""torchxrayvision's DenseNet-121 as MONAI's: the same layers under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from monai.networks.nets.densenet import DenseNet121
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import BundleError
from .published import OUTPUTS, Offer
from .stored_tensors import read_state_dict

NETWORK_DEF: Final[Mapping[str, Any]] = {
    "_target_": "monai.networks.nets.DenseNet121",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": len(OUTPUTS),
}
# A buffer that the package fills once it has loaded its weights; ours stand in the offer.
_OPERATING_POINTS: Final = "op_threshs"
_LAYER: Final = re.compile(r"(features\.denseblock\d+\.denselayer\d+)\.(norm|conv)(\d)\.")
_MONAI_LAYER: Final = re.compile(r"(features\.denseblock\d+\.denselayer\d+)\.layers\.(norm|conv)")


def to_monai(name: str) -> str:
    """Return MONAI's name of a parameter or buffer of the package's network."""
    if name.startswith("classifier."):
        return name.replace("classifier.", "class_layers.out.", 1)
    return _LAYER.sub(r"\1.layers.\2\3.", name)


def from_monai(name: str) -> str:
    """Return the package's name of a parameter or buffer of MONAI's network."""
    if name.startswith("class_layers.out."):
        return name.replace("class_layers.out.", "classifier.", 1)
    return _MONAI_LAYER.sub(r"\1.\2", name)


def read_weights(path: Path, offer: Offer) -> dict[str, torch.Tensor]:
    """Read a file of the package's weights as a state dict of MONAI's DenseNet-121.

    Parameters
    ----------
    path : Path
        The published file, a state dict saved by ``torch.save``, or one in safetensors.
    offer : Offer
        Whose weights they are said to be.

    Returns
    -------
    dict of str to Tensor
        Complete, with the shapes of the network; floating-point numbers in single precision.

    Raises
    ------
    BundleError
        If the file cannot be read without running it, or its weights are not exactly those of
        the network.
    """
    return convert(_read(path), offer, path)


def convert(
    weights: Mapping[str, torch.Tensor], offer: Offer, path: Path
) -> dict[str, torch.Tensor]:
    """Rename weights and check them; see `read_weights`."""
    weights = dict(weights)
    _check_points(weights.pop(_OPERATING_POINTS, None), offer, path)
    shapes = _shapes()
    for what, names in (
        ("lacks", shapes.keys() - weights.keys()),
        ("has, and should not have,", weights.keys() - shapes.keys()),
        ("has in another shape", {n for n in shapes.keys() & weights.keys()
                                  if weights[n].shape != shapes[n]}),
    ):  # fmt: skip
        if names:
            raise BundleError(
                f"{path} is not {offer.name}: it {what} {len(names)} of the weights, such as "
                f"{min(names)[:100]}"
            )
    converted = {}
    for name, tensor in weights.items():
        values = tensor.float() if tensor.is_floating_point() else tensor
        if not bool(values.isfinite().all()):
            raise BundleError(f"{path}: {name} holds values that are no numbers")
        converted[to_monai(name)] = values.contiguous()
    return converted


@lru_cache(maxsize=1)
def _shapes() -> Mapping[str, torch.Size]:
    """Return the package's names of all parameters and buffers, and their shapes."""
    network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=len(OUTPUTS))
    return {from_monai(name): tensor.shape for name, tensor in network.state_dict().items()}


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    if path.suffix != ".safetensors":
        return read_state_dict(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def _check_points(found: torch.Tensor | None, offer: Offer, path: Path) -> None:
    if found is None:
        return
    points = torch.tensor(offer.operating_points)
    if found.shape != points.shape or not torch.allclose(found.float(), points, equal_nan=True):
        raise BundleError(f"{path} is not {offer.name}: its operating points are others")
