"""Torch on a GPU of NVIDIA: batches of fixed sizes, each launched at once as a CUDA graph.

Small networks are bound by the launches of their layers: EfficientNet-B0 has some 300. A graph
replays them all in one, from the memory and into the memory that it was captured with. Rows come
from the host through pinned memory, or from tensors that lie on the device already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import torch
from torch import nn

from ..engine_spec import Precision
from .class_maps import tensors_of
from .engine import EngineIdentity, RawOutputs, Rows
from .static_shapes import parts_of, sizes_up_to
from .torch_engine import in_precision, mapped_or_not, raw_outputs, reproducible
from .torch_faults import faults_typed

_log = structlog.get_logger()
# Runs before a graph is captured: libraries choose their kernels and take their memory in them.
_WARM_UP = 3

Forward = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
# Runs a network again on what lies in the tensor that it was made for.
Replay = Callable[[], tuple[torch.Tensor, ...]]
Capture = Callable[[Forward, torch.Tensor], Replay]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """A batch of one size.

    Attributes
    ----------
    staged, rows : Tensor, (size, channels, rows, columns)
        Pinned on the host, and on the device.
    """

    staged: torch.Tensor
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
        Makes a replay of a network; `capture_graph` but in tests.
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
        self._mapped = mapped_or_not(network, probe) if class_maps else None
        self._device = device
        self._precision = precision
        self._shape = tuple(probe.shape[1:])
        self._sizes = sizes_up_to(largest)
        self._capture: Capture = capture or capture_graph
        self._plans: dict[int, _Plan] = {}
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
        """The network itself, for those who need its gradients."""
        return self._network

    def run(self, rows: Rows) -> RawOutputs:
        """Carry the network out; see `Engine.run`."""
        given = torch.as_tensor(rows)
        parts: list[tuple[torch.Tensor, ...]] = []
        most = 0
        with self._running, torch.inference_mode(), reproducible(), faults_typed():
            for part, size in parts_of(len(given), self._sizes):
                parts.append(self._one(given[part], size))
                most = max(most, size)
            joined = tuple(torch.cat(same) for same in zip(*parts, strict=True))
            return raw_outputs(joined, self._mapped is not None, self._identity.made(most))

    def release(self) -> None:
        """Forget the graphs, and give back the memory that torch holds for later."""
        with self._running:
            self._plans.clear()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _one(self, rows: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
        """Return the outputs of up to `size` rows, in the host's memory."""
        plan = self._plan(size)
        count = len(rows)
        if rows.device.type == "cpu":
            plan.staged[:count].copy_(rows)
            plan.rows[:count].copy_(plan.staged[:count], non_blocking=True)
        else:
            plan.rows[:count].copy_(rows)
        # Rows do not know of each other; zeros are there that no number of before is.
        plan.rows[count:].zero_()
        # Copied, for the next replay writes into the same memory; that waits for all before it.
        return tuple(one[:count].to("cpu", torch.float32, copy=True) for one in plan.replay())

    def _plan(self, size: int) -> _Plan:
        if size not in self._plans:
            shape = (size, *self._shape)
            pinned = self._device.type == "cuda"
            rows = torch.zeros(shape, device=self._device)
            rows = rows.contiguous(memory_format=torch.channels_last)
            replay = self._capture(self._forward, rows)
            self._plans[size] = _Plan(torch.zeros(shape, pin_memory=pinned), rows, replay)
        return self._plans[size]

    def _forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        network = self._network if self._mapped is None else self._mapped
        with in_precision(self._precision, self._device):
            return tensors_of(network(rows))


def capture_graph(forward: Forward, rows: torch.Tensor) -> Replay:
    """Capture a network as a CUDA graph; one that cannot be is launched layer by layer.

    Parameters
    ----------
    forward : callable
        The network.
    rows : Tensor, (size, channels, rows, columns)
        Where its input will lie, on the device.
    """
    stream = torch.cuda.Stream(rows.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(rows.device))
    with torch.cuda.device(rows.device), torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            forward(rows)
    torch.cuda.current_stream(rows.device).wait_stream(stream)
    torch.cuda.synchronize(rows.device)
    graph = torch.cuda.CUDAGraph()
    # What other threads do on the device, such as preparing pictures, must not end the capture.
    capturing = torch.cuda.graph(graph, capture_error_mode="thread_local")
    try:
        with torch.cuda.device(rows.device), capturing:
            outputs = forward(rows)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # such as a copy from the host in the midst of the network
        said = (str(error).splitlines() or [""])[0][:200]
        _log.warning("engine.not_captured", rows=len(rows), reason=said)
        return replay_plainly(forward, rows)

    def replay() -> tuple[torch.Tensor, ...]:
        graph.replay()
        return outputs

    return replay


def replay_plainly(forward: Forward, rows: torch.Tensor) -> Replay:
    """Return what runs a network layer by layer, on the same memory each time."""
    return lambda: forward(rows)
