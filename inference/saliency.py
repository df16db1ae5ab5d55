"""Where a network looked: which parts of the input speak for a label.

The last feature maps of a network say what was seen where. How much each of their values adds to
the label's output is known exactly for a network that ends in global average pooling and a linear
layer (class activation map), and is a derivative for every other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from .bundle import Activation

# How well the mean of the maps must be what the linear layer is given: single precision.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4


@dataclass(slots=True)
class _Trace:
    """What was seen on one way through the network.

    Attributes
    ----------
    maps : Tensor of (1, channels, h, w), or None
        The last feature maps with more than one place.
    linear : torch.nn.Linear or None
        The last linear layer.
    given : Tensor of (1, channels), or None
        What the linear layer was given.
    """

    maps: torch.Tensor | None = None
    linear: torch.nn.Linear | None = None
    given: torch.Tensor | None = None


class Saliency:
    """Shows where a network looks.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode. It is watched from now on, by hooks that stay and do nothing but while
        `of` runs in the same thread: several analyses may share a network.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network
        self._local = threading.local()
        for module in network.modules():
            module.register_forward_hook(self._note)

    def of(
        self, row: torch.Tensor, output: int, activation: Activation
    ) -> NDArray[np.float32] | None:
        """Return how much each place of the input speaks for one output of the network.

        Parameters
        ----------
        row : Tensor of float32, (1, channels, size, size)
            On the device of the network.
        output : int
            Index of the output.
        activation : {"sigmoid", "softmax"}
            What makes probabilities of the outputs; under softmax what speaks for the others
            speaks against this one.

        Returns
        -------
        ndarray of float32, (size, size), or None
            0 to 1, high where the evidence is; evidence against counts as none, so that all is 0
            where nothing speaks for the output. None for a network without feature maps.

        Raises
        ------
        RuntimeError
            If torch cannot carry it out, such as for want of memory.
        """
        evidence = self._by_weights(row, output, activation)
        if evidence is None:
            evidence = self._by_gradient(row, output, activation)
        return None if evidence is None else _spread(evidence, row.shape[-2:])

    def _by_weights(
        self, row: torch.Tensor, output: int, activation: Activation
    ) -> torch.Tensor | None:
        """Weigh the maps as the linear layer does; None if that is not how the network ends."""
        with torch.inference_mode(), self._tracing() as trace:
            outputs = self._network(row).float()
            maps, linear, given = trace.maps, trace.linear, trace.given
            if maps is None or linear is None or given is None:
                return None
            if (linear.in_features, linear.out_features) != (maps.shape[1], outputs.shape[1]):
                return None
            pooled = maps.mean(dim=(2, 3))
            if not (_same(pooled, given) and _same(linear(given), outputs)):
                return None
            weights = _share(outputs[0], output, activation) @ linear.weight
            return torch.einsum("c,chw->hw", weights, maps[0])

    def _by_gradient(
        self, row: torch.Tensor, output: int, activation: Activation
    ) -> torch.Tensor | None:
        """Weigh every value of the maps by the derivative of the output with respect to it."""
        with torch.inference_mode(False), torch.enable_grad(), self._tracing() as trace:
            # Weights want no gradient; an input that does makes everything after it have one. The
            # second copy is no leaf, which a layer that works in place may change.
            outputs = self._network(row.clone().requires_grad_(True).clone()).float()
            if trace.maps is None:
                return None
            share = _share(outputs[0].detach(), output, activation)
            (gradient,) = torch.autograd.grad((outputs[0] * share).sum(), trace.maps)
            return (gradient * trace.maps.detach())[0].sum(dim=0)

    @contextmanager
    def _tracing(self) -> Iterator[_Trace]:
        trace = _Trace()
        self._local.trace = trace
        try:
            yield trace
        finally:
            self._local.trace = None

    def _note(self, module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        trace: _Trace | None = getattr(self._local, "trace", None)
        if trace is None or not isinstance(output, torch.Tensor):
            return
        if output.ndim == 4 and output.shape[-2] * output.shape[-1] > 1:
            trace.maps = output
        elif isinstance(module, torch.nn.Linear) and output.ndim == 2:
            trace.linear, trace.given = module, inputs[0]


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, _RELATIVE, _ABSOLUTE)


def _share(outputs: torch.Tensor, output: int, activation: Activation) -> torch.Tensor:
    """Return the derivative of the label's log-odds with respect to all outputs, (outputs,)."""
    share = torch.zeros_like(outputs)
    if activation == "softmax" and len(outputs) > 1:
        others = outputs.clone()
        others[output] = -torch.inf
        share = -others.softmax(dim=0)
    share[output] = 1.0
    return share


def _spread(evidence: torch.Tensor, size: torch.Size) -> NDArray[np.float32]:
    """Scale the evidence, (h, w), to 0 to 1 and to the size of the input."""
    evidence = evidence.detach().float().clamp(min=0.0)
    full = F.interpolate(evidence[None, None], size=size, mode="bilinear", align_corners=False)
    highest = full.amax()
    if highest > 0:
        full = full / highest
    return np.asarray(full[0, 0].cpu().numpy().clip(0.0, 1.0), dtype=np.float32)
