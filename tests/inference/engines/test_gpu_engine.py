"""What of the engine for GPUs needs no GPU: sizes, padding, precision, and its errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import DenseNet
from torch import nn

from inference.engines import DeviceLostError, EngineError, EngineOutOfMemoryError
from inference.engines.cuda_engine import CudaEngine, lowered
from inference.engines.errors import EngineRunError
from inference.engines.graphs import Forward, Replay, replay_plainly
from inference.engines.static_shapes import parts_of, sizes_up_to
from inference.engines.torch_engine import TorchEngine
from inference.engines.torch_faults import faults_typed, typed

CPU = torch.device("cpu")


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(1)
    made = DenseNet(2, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2))
    return made.eval().requires_grad_(False)


@given(st.integers(1, 300), st.integers(1, 70))
def test_parts_cover_the_rows_with_less_than_half_of_padding(count: int, largest: int) -> None:
    sizes = sizes_up_to(largest)
    parts = list(parts_of(count, sizes))
    assert [row for part, _ in parts for row in range(count)[part]] == list(range(count))
    for part, size in parts:
        filled = part.stop - part.start
        assert size in sizes
        assert filled <= size < 2 * filled


def test_sizes_are_few() -> None:
    assert sizes_up_to(32) == (1, 2, 4, 8, 16, 32)
    assert sizes_up_to(24) == (1, 2, 4, 8, 16, 24)
    assert sizes_up_to(1) == (1,)
    with pytest.raises(ValueError, match="0 rows"):
        sizes_up_to(0)


class Captures:
    """Keeps the shapes that were captured, and counts replays."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.replays = 0

    def __call__(self, forward: Forward, rows: torch.Tensor) -> Replay:
        self.shapes.append(tuple(rows.shape))
        assert rows.is_contiguous(memory_format=torch.channels_last)
        # As a graph has it: one memory for the results of all replays.
        results = tuple(torch.empty_like(one) for one in forward(rows))

        def replay() -> tuple[torch.Tensor, ...]:
            self.replays += 1
            for one, other in zip(results, forward(rows), strict=True):
                one.copy_(other)
            return results

        return replay


def test_batches_are_padded_to_what_was_captured_and_cut_again(network: nn.Module) -> None:
    captures = Captures()
    engine = CudaEngine(network, CPU, torch.rand(1, 1, 64, 64), largest=4, capture=captures)
    plain = TorchEngine(network, CPU, torch.rand(1, 1, 64, 64))
    for count, size in ((3, 4), (1, 1), (2, 2), (9, 4), (3, 4)):
        rows = np.random.default_rng(count).random((count, 1, 64, 64), dtype=np.float32)
        found, told = engine.run(rows), plain.run(rows)
        assert found.tensors[0].shape == (count, 2)
        np.testing.assert_allclose(found.tensors[0], told.tensors[0], rtol=0, atol=1e-5)
        assert found.class_maps is not None
        assert told.class_maps is not None
        np.testing.assert_allclose(found.class_maps, told.class_maps, rtol=0, atol=1e-5)
        assert found.made_with.batch == size
    assert sorted(captures.shapes) == [(1, 1, 64, 64), (2, 1, 64, 64), (4, 1, 64, 64)]
    assert captures.replays == 1 + 1 + 1 + 3 + 1
    engine.release()
    engine.run(torch.rand(1, 1, 64, 64))
    assert len(captures.shapes) == 4  # captured anew


def test_a_batch_does_not_see_the_rows_of_the_one_before(network: nn.Module) -> None:
    engine = CudaEngine(network, CPU, torch.rand(1, 1, 64, 64), largest=4, capture=replay_plainly)
    rows = torch.rand(3, 1, 64, 64)
    first = engine.run(rows).tensors[0]
    engine.run(torch.full((4, 1, 64, 64), torch.nan))
    np.testing.assert_array_equal(engine.run(rows).tensors[0], first)


def test_a_precision_is_that_of_the_arithmetic_and_the_results_are_float32(
    network: nn.Module,
) -> None:
    probe = torch.rand(1, 1, 64, 64)
    engine = CudaEngine(network, CPU, probe, precision="bfloat16", capture=replay_plainly)
    rows = torch.rand(2, 1, 64, 64)
    found = engine.run(rows)
    told = TorchEngine(network, CPU).run(rows).tensors[0]
    assert found.tensors[0].dtype == np.float32
    assert found.made_with.precision == "bfloat16"
    assert 0 < np.abs(found.tensors[0] - told).max() < 0.1
    # Who needs gradients has the weights as they were.
    assert all(one.dtype == torch.float32 for one in engine.network.parameters())


def test_weights_that_are_lowered_once_give_what_autocast_gives(network: nn.Module) -> None:
    made = lowered(network, torch.bfloat16)
    layers = [one for one in made.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    assert all(one.weight.dtype == torch.bfloat16 for one in layers)
    rows = torch.rand(2, 1, 64, 64)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        assert torch.equal(made(rows), network(rows))


class Weighing(nn.Module):
    """Takes its weights for something that autocast does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (
            torch.stack([rows.mean((1, 2, 3)), rows.amax((1, 2, 3))], 1) * self.layer.weight.std()
        )


def test_a_network_that_looks_at_its_weights_keeps_them() -> None:
    network = Weighing().eval().requires_grad_(False)
    rows = torch.rand(2, 1, 4, 4)
    engine = CudaEngine(network, CPU, rows, precision="bfloat16")
    np.testing.assert_array_equal(engine.run(rows).tensors[0], network(rows).numpy())


def test_rows_of_any_kind_are_taken_and_the_results_are_ones_own(network: nn.Module) -> None:
    engine = CudaEngine(network, CPU, torch.rand(1, 1, 64, 64), largest=2)
    rows = np.random.default_rng(2).random((5, 64, 64, 1)).transpose(0, 3, 1, 2)
    first = engine.run(rows)
    kept = first.tensors[0].copy()
    engine.run(torch.zeros(5, 1, 64, 64))
    np.testing.assert_array_equal(first.tensors[0], kept)
    plain = TorchEngine(network, CPU).run(rows.astype(np.float32)).tensors[0]
    np.testing.assert_allclose(kept, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("Tried to allocate 2 GiB"), EngineOutOfMemoryError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to "
                      "allocate 8 bytes"), EngineOutOfMemoryError),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), EngineOutOfMemoryError),
        (MemoryError(), EngineOutOfMemoryError),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
         DeviceLostError),
        (torch.AcceleratorError("CUDA error: unknown error"), DeviceLostError),
        (RuntimeError("CUDA error: device-side assert triggered"), DeviceLostError),
        (RuntimeError("The size of tensor a (3) must match"), EngineRunError),
    ],
)  # fmt: skip
def test_what_torch_raises_has_a_type(error: Exception, kind: type[EngineError]) -> None:
    assert isinstance(error, (RuntimeError, MemoryError))
    assert type(typed(error)) is kind
    with pytest.raises(kind) as caught, faults_typed():
        raise error
    assert caught.value.__cause__ is error


def test_want_of_memory_of_a_real_allocation_has_its_type() -> None:
    def ask() -> torch.Tensor:
        return torch.empty(2**60, dtype=torch.float32)

    asked: Callable[[], torch.Tensor] = ask
    with pytest.raises(EngineOutOfMemoryError), faults_typed():
        asked()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_gpu_gives_what_the_cpu_gives(network: nn.Module) -> None:
    device = torch.device("cuda:0")
    rows = torch.rand(5, 1, 64, 64)
    told = TorchEngine(network, CPU, rows[:1]).run(rows)
    engine = CudaEngine(network.to(device), device, rows[:1], largest=4)
    for asked in (rows, rows.to(device), rows):
        found = engine.run(asked)
        np.testing.assert_allclose(found.tensors[0], told.tensors[0], rtol=0, atol=1e-4)
