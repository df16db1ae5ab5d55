"""Where uploads run: a stream of their own beside the network, with pinned memory; or a CPU.

The only file of this folder that knows CUDA. What is done here on a CPU is the same, without a
stream: so the rest is tested there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch


class Mark(Protocol):
    """A point in the work of a lane."""

    def wait(self) -> None:
        """Wait, in this thread, until everything before it is done."""
        ...

    def follow(self, tensor: torch.Tensor) -> None:
        """Let what this thread launches from now on come after it, and keep `tensor` for that."""
        ...


class Lane(Protocol):
    """Where uploads, and what is made of them, run one after the other."""

    @property
    def device(self) -> torch.device:
        """Where the results lie."""
        ...

    def memory(self, size: int) -> torch.Tensor:
        """Return so many bytes of the host's memory, uint8, that can be uploaded from."""
        ...

    def entered(self) -> AbstractContextManager[object]:
        """Launch here what is launched within the block."""
        ...

    def upload(self, memory: torch.Tensor) -> torch.Tensor:
        """Begin to copy bytes to the device; they must stay as they are until a mark after it."""
        ...

    def mark(self) -> Mark:
        """Return the point after all that was launched here so far."""
        ...


def lane_on(device: torch.device) -> Lane:
    """Return a lane for a device."""
    return CudaLane(device) if device.type == "cuda" else CpuLane()


class CpuLane:
    """Does everything at once."""

    device = torch.device("cpu")

    def memory(self, size: int) -> torch.Tensor:
        """Return memory of the host."""
        return torch.empty(size, dtype=torch.uint8)

    def entered(self) -> AbstractContextManager[object]:
        """Change nothing."""
        return nullcontext()

    def upload(self, memory: torch.Tensor) -> torch.Tensor:
        """Copy."""
        return memory.clone()

    def mark(self) -> Mark:
        """Return a point that is passed."""
        return _Passed()


class _Passed:
    def wait(self) -> None:
        """Return at once."""

    def follow(self, tensor: torch.Tensor) -> None:
        """Return at once."""


class CudaLane:
    """A stream of a GPU.

    Parameters
    ----------
    device : torch.device
        ``cuda:N``.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def device(self) -> torch.device:
        """The GPU."""
        return self._device

    def memory(self, size: int) -> torch.Tensor:
        """Return pinned memory: from any other the copy would wait for the host."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def entered(self) -> AbstractContextManager[object]:
        """Make the stream the current one of this thread."""
        return torch.cuda.stream(self._stream)

    def upload(self, memory: torch.Tensor) -> torch.Tensor:
        """Begin to copy on the stream."""
        with self.entered():
            return memory.to(self._device, non_blocking=True)

    def mark(self) -> Mark:
        """Record an event."""
        # One that waits without spinning: the core is for those who decode.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return _Event(event, self._device)


def finish(device: torch.device) -> None:
    """Wait for all that the current stream of this thread was given; without spinning."""
    if device.type == "cuda":
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        event.synchronize()


class _Event:
    def __init__(self, event: torch.cuda.Event, device: torch.device) -> None:
        self._event = event
        self._device = device

    def wait(self) -> None:
        """Wait for the event; other threads run meanwhile."""
        self._event.synchronize()

    def follow(self, tensor: torch.Tensor) -> None:
        """Let the current stream wait, which is no wait of this thread."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._event)
        # Its memory belongs to the other stream, which must not have it back before.
        tensor.record_stream(stream)
