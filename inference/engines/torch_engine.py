"""Torch as it comes, layer by layer: it runs everything, and the other engines must equal it."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..engine_spec import Precision
from .class_maps import WithClassMaps, tensors_of, with_class_maps
from .engine import EngineIdentity, MadeWith, RawOutputs, Rows
from .errors import EngineError
from .torch_faults import faults_typed

# The same input gives the same output: cuDNN neither tries algorithms out nor rounds to TF32.
reproducible = functools.partial(
    torch.backends.cudnn.flags, benchmark=False, deterministic=True, allow_tf32=False
)
# Measured on CPU: beyond so many rows no network that was tried gains more.
_CPU_BATCH, _GPU_BATCH = 4, 32
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchEngine:
    """Runs a module of torch on any device.

    Parameters
    ----------
    network : torch.nn.Module
        On `device`, in evaluation mode.
    device : torch.device
    probe : Tensor of float32, (rows, channels, size, size), optional
        Anything that the network can read; given, it is asked for class maps too, where its head
        has them.
    precision : {"float32", "bfloat16", "float16"}
        On a GPU; a CPU computes in single precision.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        probe: torch.Tensor | None = None,
        precision: Precision = "float32",
    ) -> None:
        # Measured on CPU: 15 % less time for EfficientNet-B0.
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: nn.Module = network
        self._device = device
        self._mapped: WithClassMaps | None = None
        if probe is not None:
            self._mapped = mapped_or_not(self._network, self._moved(probe))
        on_cpu = device.type == "cpu"
        self._precision: Precision = "float32" if on_cpu else precision
        self._identity = EngineIdentity(
            "torch",
            torch.__version__,
            str(device),
            self._precision,
            _CPU_BATCH if on_cpu else _GPU_BATCH,
        )

    @property
    def identity(self) -> EngineIdentity:
        """What it is."""
        return self._identity

    @property
    def network(self) -> nn.Module:
        """The network itself, for those who need its gradients."""
        return self._network

    @property
    def has_class_maps(self) -> bool:
        """Whether it gives class maps."""
        return self._mapped is not None

    @property
    def traced(self) -> nn.Module:
        """What it runs: the network, with class maps as its last output where it has them."""
        return self._network if self._mapped is None else self._mapped

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; see `Engine.run`."""
        with torch.inference_mode(), reproducible(), faults_typed():
            with in_precision(self._precision, self._device):
                outputs = tensors_of(self.traced(self._moved(rows)))
            return raw_outputs(outputs, self.has_class_maps, self._identity.made(len(rows)))

    def release(self) -> None:
        """Give back memory that torch holds for later."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _moved(self, rows: Rows) -> torch.Tensor:
        return torch.as_tensor(rows).to(self._device).contiguous(memory_format=torch.channels_last)


def mapped_or_not(network: nn.Module, probe: torch.Tensor) -> WithClassMaps | None:
    """Return a network with its class maps; None where it has none, or fails.

    What fails here fails again with the first rows, where it costs their study and no other.
    """
    try:
        with reproducible(), faults_typed():
            return with_class_maps(network, probe)
    except EngineError:
        return None


def in_precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Compute convolutions and products in a precision; sums that need it stay in float32."""
    if precision == "float32":
        return nullcontext()
    # Casts of weights are part of a captured graph; the cache would hand out another one's memory.
    return torch.autocast(device.type, dtype=DTYPES[precision], cache_enabled=False)


def raw_outputs(
    outputs: tuple[torch.Tensor, ...], with_maps: bool, made_with: MadeWith
) -> RawOutputs:
    """Return tensors of any device as raw outputs; the last one are the class maps `with_maps`."""
    given = [_array(one) for one in outputs]
    maps = given.pop() if with_maps else None
    return RawOutputs(tuple(given), maps, made_with)


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
