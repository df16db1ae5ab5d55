"""Occlusion: what covering costs, by functions whose answer is known, and beside captum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import DenseNet
from pooled_bundle import bright, write

from inference.engines.choose import EngineSettings
from inference.errors import InferenceError
from inference.explaining import Wanted
from inference.explanation import Method
from inference.forward import Network
from inference.input_spec import InputSpec
from inference.occlusion import Patches, occlusion

SIZE = 32
LESION = (slice(20, 26), slice(9, 13))


def _painted() -> np.ndarray:
    row = np.full((1, 2, SIZE, SIZE), 0.2, dtype=np.float32)
    row[0, 0][LESION] = 1.0
    return row


def _linear(rows: np.ndarray) -> np.ndarray:
    """Return the sum over the lesion's place in the first channel, and its negative."""
    told = rows[:, 0][:, LESION[0], LESION[1]].sum(axis=(1, 2))
    return np.stack([told, -told], axis=1)


@pytest.mark.parametrize(("patch", "stride"), [(4, 4), (8, 4), (8, 2), (6, 3), (5, 5), (32, 8)])
def test_the_lesion_is_found_and_nothing_else(patch: int, stride: int) -> None:
    patches = Patches(SIZE, patch, stride)
    found = occlusion(_linear, _painted(), 0, "sigmoid", patches, baseline=0.0)
    assert found.shape == (patches.cells, patches.cells)
    row, column = np.unravel_index(found.argmax(), found.shape)
    reach = patch  # a patch over a place counts for all of its cells
    assert 20 - reach <= row * stride <= 26 + reach
    assert 9 - reach <= column * stride <= 13 + reach
    if patch < SIZE:
        assert found.min() == 0.0
    against = occlusion(_linear, _painted(), 1, "sigmoid", patches, baseline=0.0)
    np.testing.assert_allclose(against, -found, atol=1e-5)


def test_patches_that_do_not_overlap_add_up_to_all_that_covering_everything_costs() -> None:
    found = occlusion(_linear, _painted(), 0, "sigmoid", Patches(SIZE, 4, 4), baseline=0.0)
    assert float(found.sum()) == pytest.approx(24.0, abs=1e-4)


def test_under_softmax_it_is_the_log_odds_that_are_lost() -> None:
    found = occlusion(_linear, _painted(), 0, "softmax", Patches(SIZE, 32, 32), baseline=0.0)
    assert found[0, 0] == pytest.approx(48.0, abs=1e-4)  # 24 for it, 24 against the other


@pytest.mark.parametrize("batch", [1, 3, 500])
def test_the_batch_changes_nothing(batch: int) -> None:
    sizes: list[int] = []

    def run(rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return _linear(rows)

    patches = Patches(SIZE, 8, 4)
    found = occlusion(run, _painted(), 0, "sigmoid", patches, baseline=0.1, batch=batch)
    again = occlusion(_linear, _painted(), 0, "sigmoid", patches, baseline=0.1)
    np.testing.assert_allclose(found, again, rtol=0, atol=1e-5)
    assert sum(sizes) == patches.count + 1
    assert max(sizes) <= max(batch, 1)


@given(st.integers(1, 400), st.one_of(st.none(), st.integers(1, 400)))
def test_defaults_fit_every_input(size: int, patch: int | None) -> None:
    if patch is not None and patch > size:
        with pytest.raises(ValueError, match="do not fit"):
            Patches.of(size, patch)
        return
    patches = Patches.of(size, patch)
    covered = np.zeros(patches.cells * patches.stride + patches.patch, dtype=int)
    for start in patches.starts:
        covered[start : start + patches.patch] += 1
    assert covered[:size].min() >= 1  # no place is left out
    assert patches.starts[-1] < size


def test_what_does_not_fit_is_said() -> None:
    for patch, stride, said in (
        (7, 3, "take a patch of 6 or 9, or a stride of 1"),
        (16, 9, "take a patch of 9 or 18, or a stride of 8"),
        (63, 31, "take a patch of 62, or a stride of 21"),
        (8, 9, "do not fit: a stride is at most as long as the patch"),
        (80, 8, "do not fit"),
    ):
        with pytest.raises(ValueError, match=said):
            Patches(64, patch, stride)


@pytest.mark.parametrize(
    ("patch", "stride", "taken"),
    [
        (None, 9, (18, 9)),  # odd
        (None, 64, (64, 64)),
        (None, 40, (40, 40)),  # no two of them fit
        (9, None, (9, 3)),
        (16, None, (16, 8)),
        (13, None, (13, 13)),  # a prime is moved by itself: by 1 would be 2,704 passes
    ],
)
def test_one_of_them_is_enough(
    patch: int | None, stride: int | None, taken: tuple[int, int]
) -> None:
    found = Patches.of(64, patch, stride)
    assert (found.patch, found.stride) == taken


@given(st.integers(1, 300), st.integers(1, 300))
def test_any_stride_that_fits_the_input_does_alone(size: int, stride: int) -> None:
    if stride > size:
        with pytest.raises(ValueError, match="do not fit"):
            Patches.of(size, None, stride)
        return
    assert Patches.of(size, None, stride).stride == stride


@pytest.mark.parametrize(("patch", "stride"), [(8, 4), (8, 8), (12, 4), (10, 5)])
def test_it_is_what_captum_gives(patch: int, stride: int) -> None:
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    torch.manual_seed(2)
    network = DenseNet(2, 1, 3, init_features=8, growth_rate=4, block_config=(2, 2)).eval()
    row = torch.rand(1, 1, SIZE, SIZE)
    with torch.no_grad():
        expected = attr.Occlusion(network).attribute(
            row, (1, patch, patch), (1, stride, stride), baselines=0.25, target=1
        )
        found = occlusion(
            lambda rows: network(torch.from_numpy(rows)).numpy(),
            row.numpy(),
            1,
            "sigmoid",
            Patches(SIZE, patch, stride),
            baseline=0.25,
        )
    full = np.kron(found, np.ones((stride, stride)))[:SIZE, :SIZE]
    np.testing.assert_allclose(full, expected[0, 0].numpy(), rtol=0, atol=1e-5)


def test_it_asks_the_engine_and_needs_no_torch_network(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    bundle = write(tmp_path / "b", InputSpec("radiograph", 64), engine="onnx")
    network = Network(bundle, "cpu", EngineSettings(tmp_path / "engines", 1))
    assert network._chosen.network is None
    row = torch.full((1, 1, 64, 64), 0.3)
    row[0, 0, 8:24, 40:56] = 1.0
    found = network.explained(row, 0, Wanted(Method.OCCLUSION, stride=8))
    assert found is not None
    assert found.parameters == {"patch": 16, "stride": 8, "baseline": 0.0}
    rows, columns = np.nonzero(found.values > 0.5 * found.values.max())
    assert set(rows) <= {0, 1, 2, 3} and set(columns) <= {4, 5, 6, 7}
    assert network._explainer._saliency is None
    with pytest.raises(InferenceError, match="take a patch of 24 or 32, or a stride of 10"):
        network.explained(row, 0, Wanted(Method.OCCLUSION, patch=30, stride=8))


def test_what_would_take_hours_is_refused_with_the_way_out(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", InputSpec("radiograph", 256))
    network = Network(bundle, "cpu", EngineSettings())
    row = np.zeros((1, 1, 256, 256), np.float32)
    with pytest.raises(InferenceError, match="takes 64516 passes"):
        network.explained(row, 0, Wanted(Method.OCCLUSION, patch=3))


def test_the_class_map_of_the_same_network_lies_there_too(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", InputSpec("radiograph", 64))
    network = Network(bundle, "cpu", EngineSettings())
    row = torch.full((1, 1, 64, 64), 0.3)
    row[0, 0, 8:24, 40:56] = 1.0
    found = network.explained(row, 0, Wanted())
    assert found is not None
    assert (found.method, found.values.shape) == (Method.CLASS_ACTIVATION, (16, 16))
    rows, columns = np.nonzero(found.values > 0.5 * found.values.max())
    assert set(rows) <= {1, 2, 3, 4, 5, 6}
    assert set(columns) <= {9, 10, 11, 12, 13, 14}
    against = network.explained(row, 1, Wanted())
    assert against is not None
    assert against.values.max() <= 0.0
    # All places together, and the layer's own number, are what the network says.
    assert float(found.values.sum()) - 1.0 == pytest.approx(float(bright(1)(row)[0, 0]), abs=1e-4)
