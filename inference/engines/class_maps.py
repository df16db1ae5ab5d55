"""Class activation maps as one more output of the network, in the pass that gives the numbers.

A head of a mean over feature maps and a linear layer weighs each feature by its mean. Weighing the
features themselves, at each place, gives maps of which the means are the numbers, less their bias.
Whether a network ends so is not read off its layers' names: what it calls is watched, and the
derivative of its outputs must be what such a head has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn
from torch.overrides import TorchFunctionMode

from ..bundle import Bundle
from ..errors import BundleError

# Functions that may give the mean of each feature map.
_MEANS = ("adaptive_avg_pool2d", "avg_pool2d", "mean")
# Share of the largest derivative by which they may differ: they are sums of few products.
_SAME = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class PooledHead:
    """The head of a network.

    Attributes
    ----------
    pool : int
        Which of the means over whole maps that the network takes is the one before the head; from
        0, in the order of the pass.
    weight : Tensor, (outputs, channels)
    """

    pool: int
    weight: torch.Tensor


class WithClassMaps(nn.Module):
    """A network that gives its class maps as its last output.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    head : PooledHead
        Its head.
    """

    weight: torch.Tensor

    def __init__(self, network: nn.Module, head: PooledHead) -> None:
        super().__init__()
        self.network = network
        self._pool = head.pool
        self.register_buffer("weight", head.weight.detach().clone()[:, :, None, None])
        self.eval()

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs of the network for `rows`, then maps, (rows, outputs, h, w)."""
        with _Means(self._pool) as means:
            outputs = tensors_of(self.network(rows))
        assert means.features is not None, "the network does not take the way that it took before"
        return *outputs, F.conv2d(means.features, self.weight)


def with_class_maps(network: nn.Module, probe: torch.Tensor) -> WithClassMaps | None:
    """Return the network with its class maps; None if its head is another one.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    probe : Tensor of float32, (rows, channels, size, size)
        Anything that it can read, on its device.
    """
    head = find_head(network, probe)
    return None if head is None else WithClassMaps(network, head)


def find_head(network: nn.Module, probe: torch.Tensor) -> PooledHead | None:
    """Return the head that gives a network's first output; None if it is no `PooledHead`."""
    with torch.inference_mode(False), torch.enable_grad():
        # The second copy is no leaf, which a layer that works in place may change.
        asked = probe.detach().clone().requires_grad_(True).clone()
        with _Calls() as calls:
            outputs = network(asked)
        first = outputs[0] if isinstance(outputs, tuple | list) and outputs else outputs
        if not isinstance(first, torch.Tensor) or first.ndim != 2 or not first.requires_grad:
            return None
        for given, weight in reversed(calls.linear):
            for pool, (features, mean) in enumerate(calls.means):
                if weight.shape[0] != first.shape[1] or not _equal(given, mean):
                    continue
                return PooledHead(pool, weight) if _tells(first, features, weight) else None
    return None


def tensors_of(outputs: object) -> tuple[torch.Tensor, ...]:
    """Return what a network gives as a tuple; BundleError if it is no tensor."""
    given = tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
    if given and all(isinstance(one, torch.Tensor) for one in given):
        return given
    raise BundleError(f"the network gives {type(outputs).__name__}, not tensors")


def wants_class_maps(bundle: Bundle) -> bool:
    """Tell whether a bundle has labels without maps of their own, and a picture to show them in."""
    flat = bundle.spec.volume is None
    return flat and not bundle.masks and len(bundle.mapped) < len(bundle.outputs)


def _tells(outputs: torch.Tensor, features: torch.Tensor, weight: torch.Tensor) -> bool:
    """Tell whether the weights are the derivative of the outputs by the means of the features."""
    if not features.requires_grad:
        return False
    # Of all outputs at once, each with a factor of its own.
    factors = torch.linspace(0.5, 1.5, outputs.shape[1], device=outputs.device)
    (found,) = torch.autograd.grad((outputs * factors).sum(), features, allow_unused=True)
    if found is None:
        return False
    places = features.shape[-2] * features.shape[-1]
    told = (factors @ weight / places)[None, :, None, None].expand_as(found)
    return bool(((found - told).abs().amax() <= _SAME * told.abs().amax()).item())


def _equal(given: torch.Tensor, mean: torch.Tensor) -> bool:
    return given.numel() == mean.numel() and torch.equal(given.flatten(), mean.flatten())


class _Calls(TorchFunctionMode):
    """Notes all means over whole maps, and all linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.linear: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = func(*args, **(kwargs or {}))
        if _averages(func, args, given):
            self.means.append((args[0], given))
        elif getattr(func, "__name__", "") == "linear" and len(args) >= 2:
            self.linear.append((args[0], args[1]))
        return given


class _Means(TorchFunctionMode):
    """Keeps the maps of which the network takes one of its means: no others, they are large."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.features: torch.Tensor | None = None
        self._left = wanted

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = func(*args, **(kwargs or {}))
        if _averages(func, args, given):
            if self._left == 0:
                self.features = args[0]
            self._left -= 1
        return given


def _averages(func: Callable[..., Any], args: Sequence[Any], given: object) -> bool:
    """Tell whether a call took the mean of each of some maps, (rows, channels, h, w)."""
    if getattr(func, "__name__", "") not in _MEANS or not args:
        return False
    maps = args[0]
    if not isinstance(maps, torch.Tensor) or not isinstance(given, torch.Tensor):
        return False
    whole = maps.ndim == 4 and given.ndim in (2, 4) and given.shape[:2] == maps.shape[:2]
    return whole and all(length == 1 for length in given.shape[2:])
