"""A network as a CUDA graph: all of its launches replayed in one, on the same memory each time.

What a graph may not do is not found out by reading the network: it is captured, and must then give
what the network gives on inputs that it was not captured with. A network that asks for the values
of its rows, or copies from the host, does not, and is launched layer by layer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import torch

_log = structlog.get_logger()
# Runs before a graph is captured: libraries choose their kernels and take their memory in them.
_WARM_UP = 3
# Share of the largest output by which a replay may differ: kernels are the same, sums may not be.
_SAME = 1e-2
# One at a time in this process: a capture claims what the allocator is asked for meanwhile.
_CAPTURING = threading.Lock()

Outputs = tuple[torch.Tensor, ...]
Forward = Callable[[torch.Tensor], Outputs]
# Runs a network again on what lies in the tensor that it was made for.
Replay = Callable[[], Outputs]
Capture = Callable[[Forward, torch.Tensor], Replay]


class Graphs:
    """Captures the sizes of one network; for one device.

    Its graphs share their memory: they run one after the other, and what one gives is copied before
    the next one runs. So all sizes together take little more than the largest.

    Parameters
    ----------
    device : torch.device
        ``cuda:N``.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # By default graphs are captured on a stream of whatever device was first in the process,
        # where the kernels of another device would not be seen.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = None

    def __call__(self, forward: Forward, rows: torch.Tensor) -> Replay:
        """Capture a network; one that cannot be is launched layer by layer.

        Parameters
        ----------
        forward : callable
            The network.
        rows : Tensor, (size, channels, rows, columns)
            Where its input will lie, on the device. What lies there is lost.

        Raises
        ------
        torch.OutOfMemoryError
            If a smaller size may pass.
        """
        with _CAPTURING, torch.cuda.device(self._device):
            self._warm_up(forward, rows)
            try:
                replay = self._captured(forward, rows)
            except RuntimeError as error:  # such as a copy from the host amid the network
                if (wanting := want_of_memory(error)) is not None:
                    raise wanting from error
                return _plainly(forward, rows, (str(error).splitlines() or [""])[0][:200])
        if (said := differs(forward, replay, rows)) is not None:
            return _plainly(forward, rows, said)
        return replay

    def forget(self) -> None:
        """Let the memory of graphs that are gone go too."""
        self._pool = None

    def _warm_up(self, forward: Forward, rows: torch.Tensor) -> None:
        with self._beside():
            for _ in range(_WARM_UP):
                forward(rows)
        torch.cuda.synchronize(self._device)

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Launch on the stream that captures, after what was launched, and before what will be."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    def _captured(self, forward: Forward, rows: torch.Tensor) -> Replay:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # What other threads do on the device, such as making rows, must not end the capture.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            outputs = forward(rows)

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


def replay_plainly(forward: Forward, rows: torch.Tensor) -> Replay:
    """Return what runs a network layer by layer, on the same memory each time."""
    return lambda: forward(rows)


def differs(forward: Forward, replay: Replay, rows: torch.Tensor) -> str | None:
    """Say how a replay differs from the network, on noise of two kinds; None if it does not.

    What lies in `rows` is lost.
    """
    draw = torch.Generator(rows.device).manual_seed(6)
    for sign in (1.0, -1.0):
        noise = torch.rand(rows.shape, generator=draw, device=rows.device) * sign
        rows.copy_(noise)
        told = [one.float().clone() for one in forward(rows)]
        found = [one.float().clone() for one in replay()]
        if [one.shape for one in told] != [one.shape for one in found]:
            return "a replay has outputs of other shapes"
        for one, other in zip(told, found, strict=True):
            if not bool(((one - other).abs() <= _SAME * one.abs().amax() + 1e-6).all()):
                return "a replay gives something else than the network"
    rows.zero_()
    return None


def want_of_memory(error: BaseException) -> torch.OutOfMemoryError | None:
    """Return the want of memory that led to an error: the end of a capture raises its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, torch.OutOfMemoryError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _plainly(forward: Forward, rows: torch.Tensor, why: str) -> Replay:
    _log.warning("engine.not_captured", rows=len(rows), reason=why)
    return replay_plainly(forward, rows)
