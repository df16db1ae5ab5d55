"""What a captured network must be, with a CUDA that only says what it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from inference.engines.graphs import Graphs, Outputs, differs, want_of_memory

DEVICE = torch.device("cuda:1")


def network(rows: torch.Tensor) -> Outputs:
    return (rows.sum((1, 2, 3), keepdim=True)[:, 0, 0], rows * 2)


class Recorder:
    """As much of torch.cuda as `Graphs` asks; a graph repeats what was launched in its capture."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.fails: BaseException | None = None
        self.ends_with: BaseException | None = None
        self._device = "none"
        self._stream = "default"

    def install(self, patch: pytest.MonkeyPatch) -> None:
        streams = iter(range(9))

        def stream_of(device: torch.device) -> Any:
            name = f"stream {next(streams)} of {device}"
            return SimpleNamespace(
                name=name, wait_stream=lambda other: self.said.append(f"{name} waits {other.name}")
            )

        current = SimpleNamespace(name="default")
        current.wait_stream = lambda other: self.said.append(f"default waits {other.name}")
        for name, made in {
            "Stream": stream_of,
            "current_stream": lambda _device: current,
            "synchronize": lambda device: self.said.append(f"synchronize {device}"),
            "device": self._on,
            "stream": lambda stream: self._in(stream.name),
            "graph_pool_handle": lambda: (0, 1),
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
            "graph": self._capture,
        }.items():
            patch.setattr(torch.cuda, name, made)

    @contextmanager
    def _on(self, device: torch.device) -> Iterator[None]:
        self._device = str(device)
        yield
        self._device = "none"

    @contextmanager
    def _in(self, name: str) -> Iterator[None]:
        self._stream = name
        yield
        self._stream = "default"

    @contextmanager
    def _capture(self, graph: Any, **how: Any) -> Iterator[None]:
        stream = how["stream"].name
        self.said.append(
            f"capture on {stream} with {self._device} current, pool {how['pool']}, "
            f"{how['capture_error_mode']}"
        )
        try:
            if self.fails is not None:
                raise self.fails
            yield
        finally:
            if self.ends_with is not None:
                raise self.ends_with
        graph.replay = lambda: self.said.append("replay")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    recorder.install(monkeypatch)
    return recorder


def test_a_network_is_captured_on_its_own_device_in_memory_that_sizes_share(
    cuda: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    monkeypatch.setattr(
        "inference.engines.graphs.differs", lambda f, r, rows: checked.append(len(rows))
    )
    graphs = Graphs(DEVICE)
    for size in (4, 2):
        replay = graphs(network, torch.rand(size, 1, 3, 3))
        assert replay()[0].shape == (size, 1)
    stream = "stream 0 of cuda:1"
    how = f"capture on {stream} with cuda:1 current, pool (0, 1), thread_local"
    once = [f"{stream} waits default", f"default waits {stream}", "synchronize cuda:1", how]
    assert cuda.said == [*once, "replay", *once, "replay"]
    assert checked == [4, 2]


def test_a_graph_that_launches_nothing_is_found_out(cuda: Recorder) -> None:
    """Its replay gives what the capture left, whatever the rows are."""
    rows = torch.rand(3, 1, 2, 2)
    with capture_logs() as logged:
        replay = Graphs(DEVICE)(network, rows)
    assert logged[0]["reason"] == "a replay gives something else than the network"
    for seed in (1, 2):
        torch.manual_seed(seed)
        rows.copy_(torch.rand(3, 1, 2, 2))
        assert all(map(torch.equal, replay(), network(rows)))


def test_what_cannot_be_captured_is_launched_layer_by_layer(cuda: Recorder) -> None:
    cuda.fails = RuntimeError("operation not permitted when stream is capturing")
    rows = torch.rand(2, 1, 2, 2)
    with capture_logs() as logged:
        replay = Graphs(DEVICE)(network, rows)
    assert logged == [
        {
            "event": "engine.not_captured",
            "log_level": "warning",
            "rows": 2,
            "reason": "operation not permitted when stream is capturing",
        }
    ]
    assert all(map(torch.equal, replay(), network(rows)))


def test_want_of_memory_is_one_even_where_the_end_of_the_capture_fails_too(
    cuda: Recorder,
) -> None:
    cuda.fails = torch.OutOfMemoryError("Tried to allocate 20 GiB")
    with pytest.raises(torch.OutOfMemoryError, match="20 GiB"):
        Graphs(DEVICE)(network, torch.rand(2, 1, 2, 2))
    cuda.ends_with = RuntimeError("capture was invalidated")
    with pytest.raises(torch.OutOfMemoryError, match="20 GiB"):
        Graphs(DEVICE)(network, torch.rand(2, 1, 2, 2))
    assert want_of_memory(ValueError("other")) is None


def test_a_replay_is_compared_on_what_it_was_not_captured_with() -> None:
    rows = torch.zeros(2, 1, 3, 3)
    first = tuple(one.clone() for one in network(rows))
    assert differs(network, lambda: network(rows), rows) is None
    assert not rows.any()
    assert differs(network, lambda: first, rows) is not None
    assert differs(network, lambda: first[:1], rows) == "a replay has outputs of other shapes"

    def baked(given: torch.Tensor) -> Outputs:  # a choice of the host, as of its first rows
        return (given * 2,) if float(given.sum()) >= 0 else (given * 3,)

    assert differs(baked, lambda: (rows * 2,), rows) is not None
