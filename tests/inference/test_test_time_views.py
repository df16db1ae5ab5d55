"""Test-time augmentation: which views there are, and that maps come back to where they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.bundle import Bundle
from inference.explaining import Wanted
from inference.explanation import Evidence
from inference.model import load_reader
from inference.placement import Placement
from inference.radiograph_reader import RadiographReader
from inference.several_views import SeveralViews
from inference.test_time import TestTime


class Mirror:
    """A network whose maps are its input, and whose numbers are the mean of the left half."""

    def maps(self, tensor: torch.Tensor) -> NDArray[np.float32]:
        return np.asarray(tensor.numpy())

    def probabilities(self, tensor: torch.Tensor) -> NDArray[np.float64]:
        return np.asarray(tensor[..., : tensor.shape[-1] // 2].mean(dim=(2, 3)), dtype=np.float64)

    def both(self, tensor: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        return self.probabilities(tensor), self.maps(tensor)

    def looked_at(
        self, row: torch.Tensor, column: int, place: Placement
    ) -> NDArray[np.float32] | None:
        return None

    def explained(self, row: torch.Tensor, column: int, wanted: Wanted) -> Evidence | None:
        return None


@pytest.fixture
def blob() -> torch.Tensor:
    """Two inputs with a smooth spot off the middle."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    spot = torch.exp(-((rows - 24) ** 2 + (columns - 38) ** 2) / 60)
    return torch.stack([spot, 0.5 * spot])[:, None]


def test_views_are_the_same_always_and_begin_with_the_input_and_its_mirror() -> None:
    first, again = TestTime(views=8).movements(), TestTime(views=8).movements()
    assert torch.equal(first, again)
    assert torch.equal(TestTime(views=4).movements(), first[:4])
    assert not torch.equal(TestTime(views=8, seed=2).movements()[2:], first[2:])
    assert torch.equal(first[0], torch.eye(2, 3))
    assert (first[1::2, 0, 0] < 0).all() and (first[::2, 0, 0] > 0).all()
    for turn in first[:, :, :2]:
        assert abs(abs(float(torch.linalg.det(turn))) - 1) < 0.2, "no view is far from the input"


@pytest.mark.parametrize("combination", ["mean", "max"])
def test_maps_come_back_to_where_they_were(blob: torch.Tensor, combination: str) -> None:
    views = SeveralViews(Mirror(), TestTime(combination, views=12))  # type: ignore[arg-type]
    maps = views.maps(blob)
    assert np.abs(maps - blob.numpy()).max() < (0.05 if combination == "mean" else 0.06)
    peak = np.unravel_index(maps[0, 0].argmax(), maps[0, 0].shape)
    assert abs(peak[0] - 24) <= 1 and abs(peak[1] - 38) <= 1


def test_two_views_are_exact(blob: torch.Tensor) -> None:
    """The input and its mirror image: nothing is interpolated."""
    network, two = Mirror(), TestTime("mean", views=2)
    told, maps = SeveralViews(network, two).both(blob)
    assert np.array_equal(maps, blob.numpy())
    halves = network.probabilities(blob), network.probabilities(blob.flip(-1))
    assert told == pytest.approx(np.mean(halves, axis=0))
    most = SeveralViews(network, TestTime("max", views=2)).probabilities(blob)
    assert most == pytest.approx(np.max(halves, axis=0))
    one = SeveralViews(network, TestTime("mean", views=1)).probabilities(blob)
    assert np.array_equal(one, halves[0])


@pytest.mark.parametrize("black", [-1024.0, 0.0])
def test_views_have_black_beyond_their_edges(chest_bundle: Bundle, black: float) -> None:
    """A black picture is black in every view, whatever number black is."""
    spec = replace(chest_bundle.spec, value_range=(black, 1024.0))
    seen: list[torch.Tensor] = []

    class Watched(Mirror):
        def probabilities(self, tensor: torch.Tensor) -> NDArray[np.float64]:
            seen.append(tensor)
            return super().probabilities(tensor)

    reader = RadiographReader(replace(chest_bundle, spec=spec))
    reader._network = Watched()
    inputs = torch.full((1, 1, 64, 64), black)
    reader.augmented(TestTime(views=8)).predict(inputs)
    assert len(seen) == 8
    assert all(torch.equal(view, inputs) for view in seen)


def test_a_reader_keeps_its_own_network(chest_bundle: Bundle) -> None:
    reader = load_reader(chest_bundle, "cpu")
    inputs = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(1))
    before = reader.predict(inputs)
    several = reader.augmented(TestTime("mean", views=3)).predict(inputs)
    assert np.array_equal(reader.predict(inputs), before)
    assert not np.array_equal(several, before)
    assert several.shape == before.shape


@pytest.mark.parametrize("wrong", [{"combination": "median"}, {"views": 0}, {"views": 65}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="views"):
        TestTime(**wrong)  # type: ignore[arg-type]
