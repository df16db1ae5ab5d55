"""Torch on a GPU of NVIDIA: batches of fixed sizes, each launched at once as a CUDA graph.

Small networks are bound by the launches of their layers: EfficientNet-B0 has some 300. Rows come
from the host through pinned memory, on a stream of their own, or lie on the device already; results
go back while the next batch is computed. This thread waits once, at the end, and lets others run.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..device_input.lanes import finish, lane_on
from ..device_input.staging import Staging
from ..engine_spec import Precision
from .class_maps import tensors_of
from .engine import EngineIdentity, RawOutputs, Rows
from .graphs import Capture, Graphs, Outputs, Replay, replay_plainly
from .static_shapes import parts_of, sizes_up_to
from .torch_engine import DTYPES, in_precision, mapped_or_not, raw_outputs, reproducible
from .torch_faults import faults_typed


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """A batch of one size.

    Attributes
    ----------
    rows : Tensor, (size, channels, rows, columns)
        The first of those that all sizes share.
    """

    rows: torch.Tensor
    replay: Replay


class CudaEngine:
    """Runs a module of torch on a GPU.

    Parameters
    ----------
    network : torch.nn.Module
        On `device`, in evaluation mode.
    device : torch.device
    probe : Tensor of float32, (rows, channels, size, size)
        Anything that the network can read; its shape is that of all rows to come.
    precision : {"float32", "bfloat16", "float16"}
        Of convolutions and products; sums that need it stay in single precision.
    largest : int
        Rows of the largest batch.
    class_maps : bool
        Whether to ask for class maps.
    capture : callable
        Makes a replay of a network; `Graphs` but in tests.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        probe: torch.Tensor,
        *,
        precision: Precision = "float32",
        largest: int = 32,
        class_maps: bool = True,
        capture: Capture | None = None,
    ) -> None:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        probe = probe.to(device).contiguous(memory_format=torch.channels_last)
        self._network = network
        mapped = mapped_or_not(network, probe) if class_maps else None
        self._with_maps = mapped is not None
        self._device = device
        self._precision = precision
        self._carried_out: nn.Module = network if mapped is None else mapped
        if precision != "float32":
            self._carried_out = self._lighter(self._carried_out, probe)
        self._shape = tuple(probe.shape[1:])
        self._sizes = sizes_up_to(largest)
        if capture is None:
            capture = Graphs(device) if device.type == "cuda" else replay_plainly
        self._capture: Capture = capture
        self._plans: dict[int, _Plan] = {}
        self._rows: torch.Tensor | None = None
        self._lane = lane_on(device)
        self._staging = Staging(self._lane)
        # A graph has one input and one output: batches go one after the other.
        self._running = threading.Lock()
        self._identity = EngineIdentity(
            "torch-cuda", torch.__version__, str(device), precision, largest
        )

    @property
    def identity(self) -> EngineIdentity:
        """What it is."""
        return self._identity

    @property
    def network(self) -> nn.Module:
        """The network itself, in float32, for those who need its gradients."""
        return self._network

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; see `Engine.run`.

        Rows on the device must be there for what this thread's stream is given now.
        """
        given = torch.as_tensor(rows)
        parts: list[Outputs] = []
        most = 0
        with self._running, torch.inference_mode(), reproducible(), faults_typed():
            for part, size in parts_of(len(given), self._sizes):
                parts.append(self._launched(given[part], size))
                most = max(most, size)
            finish(self._device)
            # Copied out of pinned memory, which is scarce.
            joined = tuple(torch.cat(same) for same in zip(*parts, strict=True))
            return raw_outputs(joined, self._with_maps, self._identity.made(most))

    def release(self) -> None:
        """Forget the graphs, and give back the memory that torch holds for later."""
        with self._running:
            self._plans.clear()
            self._rows = None
            if isinstance(self._capture, Graphs):
                self._capture.forget()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _launched(self, rows: torch.Tensor, size: int) -> Outputs:
        """Launch a batch of up to `size` rows; its outputs are on their way to the host."""
        plan = self._plan(size)
        count = len(rows)
        plan.rows[:count].copy_(self._on_device(rows))
        # Rows do not know of each other; zeros are there that no number of before is.
        plan.rows[count:].zero_()
        # On the stream of the network: the next replay, into the same memory, comes after it.
        return tuple(
            one[:count].float().to("cpu", non_blocking=True, copy=True) for one in plan.replay()
        )

    def _on_device(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.device.type == self._device.type != "cpu":
            return rows.to(self._device)
        (there,) = self._staging.upload([rows.numpy().astype(np.float32, copy=False)])
        self._lane.mark().follow(there)
        return there

    def _plan(self, size: int) -> _Plan:
        if size not in self._plans:
            if self._rows is None:
                shape = (self._sizes[-1], *self._shape)
                self._rows = torch.zeros(shape, device=self._device).contiguous(
                    memory_format=torch.channels_last
                )
            rows = self._rows[:size]
            self._plans[size] = _Plan(rows, self._capture(self._forward, rows))
        return self._plans[size]

    def _forward(self, rows: torch.Tensor) -> Outputs:
        with in_precision(self._precision, self._device):
            return tensors_of(self._carried_out(rows))

    def _lighter(self, network: nn.Module, probe: torch.Tensor) -> nn.Module:
        """Return the network with lowered weights, if it gives the same with them."""
        made = lowered(network, DTYPES[self._precision])
        precision = in_precision(self._precision, self._device)
        with torch.inference_mode(), reproducible(), precision:
            try:
                told, found = tensors_of(network(probe)), tensors_of(made(probe))
            except RuntimeError:  # it does something of its own with its weights
                return network
        return made if all(map(torch.equal, told, found)) else network


def lowered(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a network whose convolutions and products have weights of a lower precision.

    Autocast makes them of the others in every pass, with the same result; a pass over a small batch
    reads its weights, and little else.
    """
    made = copy.deepcopy(network)
    for layer in made.modules():
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
            layer.to(dtype)
    return made
