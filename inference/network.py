"""From a bundle to a network with its weights, without running a line that the bundle brings."""

from __future__ import annotations

import inspect
import pickle
import pydoc
from collections.abc import Mapping
from typing import Any

import torch
from monai.bundle.config_parser import ConfigParser
from safetensors import SafetensorError
from safetensors.torch import load_file

from .bundle import Bundle
from .device import configure_loaded_torch
from .errors import BundleError
from .unchanged import require_unchanged

# A configuration of MONAI can name any callable of Python; a hospital's node runs only networks.
_ALLOWED = ("monai.networks.", "torch.nn.", "inference.networks.")
# Endings of arguments that say where a module fetches files from.
_ELSEWHERE = ("url", "urls", "uri", "repo_id")
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
        fit it or are others than when the bundle was opened.
    """
    configure_loaded_torch()
    definition = dict(bundle.network_def)
    try:
        _require_harmless(definition)
        offline = _offline(definition)
        network = ConfigParser({"network_def": offline}).get_parsed_content("network_def")
    # A nesting too deep is a RuntimeError too.
    except (TypeError, ValueError, RuntimeError, ImportError, AttributeError, LookupError) as error:
        where = bundle.path / "configs" / "inference.json"
        raise BundleError(f"{where}: network_def cannot be built: {error}") from error
    try:
        network.load_state_dict(_weights(bundle), strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()
        raise BundleError(
            f"{bundle.weights_path} does not fit the network: {' '.join(first[:3])}"
        ) from error
    require_unchanged(bundle.weights_path, bundle.identity.weights_sha256)
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
        raise BundleError(
            f"{path} holds more than weights, or is damaged, and is not loaded: write it anew as "
            "torch.save(network.state_dict(), ...)"
        ) from error
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
            if value and _fetches(str(key)):
                raise ValueError(f"{key} must be false, weights come from the bundle alone")
            _require_harmless(value)
        if "_target_" in node:
            _module(str(node["_target_"]))
    elif isinstance(node, (list, tuple)):
        for value in node:
            _require_harmless(value)
    elif isinstance(node, str) and node.startswith(_EVALUATED):
        raise ValueError(f"{node!r} would be evaluated, which is not accepted")


def _fetches(name: str) -> bool:
    """Tell whether an argument names weights or files from elsewhere."""
    low = name.lower()
    return "pretrained" in low or low.startswith("weights") or low.endswith(_ELSEWHERE)


def _offline(node: Any) -> Any:
    """Say false to what modules fetch unless they are told not to."""
    if isinstance(node, (list, tuple)):
        return [_offline(one) for one in node]
    if not isinstance(node, Mapping):
        return node
    made = {key: _offline(value) for key, value in node.items()}
    if "_target_" in made:
        target = str(made["_target_"])
        for name, one in inspect.signature(_module(target)).parameters.items():
            if not _fetches(name) or one.default is one.empty or not one.default:
                continue
            if one.default is not True:
                raise ValueError(f"{target} fetches its {name}, which is not accepted")
            made.setdefault(name, False)
    return made


def _module(target: str) -> type[torch.nn.Module]:
    """Return the class of a module; ValueError if it is none that is accepted."""
    # Where the name leads is checked too: monai.networks.nets.torch.hub.load begins well.
    found = pydoc.locate(target) if target.startswith(_ALLOWED) else None
    if (
        isinstance(found, type)
        and issubclass(found, torch.nn.Module)
        and found.__module__.startswith(_ALLOWED)
    ):
        return found
    raise ValueError(f"{target} is no module of monai.networks, torch.nn or inference.networks")
