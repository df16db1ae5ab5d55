"""From a bundle to a network with its weights, without running a line that the bundle brings."""

from __future__ import annotations

import pickle
import pydoc
from collections.abc import Mapping
from typing import Any

import torch
from monai.bundle.config_parser import ConfigParser
from safetensors import SafetensorError
from safetensors.torch import load_file

from .bundle import Bundle
from .errors import BundleError

# A configuration of MONAI can name any callable of Python; a hospital's node runs only networks.
_ALLOWED = ("monai.networks.", "torch.nn.", "inference.networks.")
# What makes MONAI evaluate a string: expressions, references, macros.
_EVALUATED = ("$", "@", "%")


def load_network(bundle: Bundle, device: torch.device) -> torch.nn.Module:
    """Build the network of a bundle and load its weights strictly.

    Parameters
    ----------
    bundle : Bundle
    device : torch.device

    Returns
    -------
    torch.nn.Module
        In evaluation mode, in single precision, without gradients.

    Raises
    ------
    BundleError
        If the definition asks for anything but modules of MONAI and torch, or the weights do not
        fit it.
    """
    definition = dict(bundle.network_def)
    try:
        _require_harmless(definition)
        network = ConfigParser({"network_def": definition}).get_parsed_content("network_def")
    except (TypeError, ValueError, RuntimeError, ImportError, AttributeError, KeyError) as error:
        where = bundle.path / "configs" / "inference.json"
        raise BundleError(f"{where}: network_def cannot be built: {error}") from error
    try:
        network.load_state_dict(_weights(bundle), strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()
        raise BundleError(
            f"{bundle.weights_path} does not fit the network: {' '.join(first[:3])}"
        ) from error
    network = network.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
    assert isinstance(network, torch.nn.Module)
    return network


def _weights(bundle: Bundle) -> Mapping[str, Any]:
    path = bundle.weights_path
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    except pickle.UnpicklingError as error:
        raise BundleError(f"{path} holds more than weights and is not loaded") from error
    if isinstance(loaded, Mapping):
        loaded = _unwrapped(loaded)
    if not isinstance(loaded, Mapping):
        raise BundleError(f"{path} holds a {type(loaded).__name__}, not a state dict")
    return loaded


def _unwrapped(loaded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights out of a checkpoint, by the names that they have on one device."""
    for name in ("model", "state_dict", "network"):
        if isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
            break
    if loaded and all(str(key).startswith("module.") for key in loaded):
        return {str(key).removeprefix("module."): value for key, value in loaded.items()}
    return loaded


def _require_harmless(node: object) -> None:
    """Raise ValueError if a part of a network definition could do more than build a module."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if str(key).startswith("_") and key not in ("_target_", "_desc_"):
                raise ValueError(f"{key} is not accepted")
            if key == "pretrained" and value:
                raise ValueError("pretrained must be false, weights come from the bundle alone")
            _require_harmless(value)
        if "_target_" in node:
            _require_module(str(node["_target_"]))
    elif isinstance(node, (list, tuple)):
        for value in node:
            _require_harmless(value)
    elif isinstance(node, str) and node.startswith(_EVALUATED):
        raise ValueError(f"{node!r} would be evaluated, which is not accepted")


def _require_module(target: str) -> None:
    # Where the name leads is checked too: monai.networks.nets.torch.hub.load begins well.
    found = pydoc.locate(target) if target.startswith(_ALLOWED) else None
    allowed = (
        isinstance(found, type)
        and issubclass(found, torch.nn.Module)
        and found.__module__.startswith(_ALLOWED)
    )
    if not allowed:
        raise ValueError(f"{target} is no module of monai.networks, torch.nn or inference.networks")
