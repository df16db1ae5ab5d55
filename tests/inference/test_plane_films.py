"""Films of bundles of the Model Zoo: blank ones, turned ones, labels that exclude each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plane_bundles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plane_bundles import CENTRED, LOADED, STRETCHED, one

from inference.bundle import Bundle
from inference.errors import BundleError, NotAnalysableError
from inference.exclusive import label_masks, of_labels
from inference.forward import Network
from inference.masks import highest
from inference.model import load_reader
from inference.placement import Placement
from inference.reading import NotAnalysed, SourceImage, Thresholds
from inference.several_views import SeveralViews
from inference.tensors import prepare_radiograph
from inference.test_time import TestTime

Sources = Callable[[Iterable[Path]], list[SourceImage]]
RANGE = one("ScaleIntensityRanged", a_min=0, a_max=1000, b_min=0, b_max=1, clip=True)
HIGHEST = (
    {"_target_": "Activationsd", "softmax": True}, {"_target_": "AsDiscreted", "argmax": True},
)  # fmt: skip


@pytest.mark.parametrize(
    "steps",
    [
        [CENTRED, RANGE],
        [one("ScaleIntensityRanged", a_min=0, a_max=1000, b_min=-1, b_max=1, clip=True), CENTRED],
        [STRETCHED, RANGE],
        [STRETCHED, one("ScaleIntensityd")],
    ],
)
def test_a_blank_film_is_not_read_whatever_surrounds_it(
    steps: list[dict[str, Any]], tmp_path: Path, write_image: Any, sources: Sources
) -> None:
    bundle = plane_bundles.served(plane_bundles.written(tmp_path / "b", [*LOADED, *steps]))
    reader = load_reader(bundle, "cpu")
    blank = np.full((40, 40), 333, dtype=np.uint16)
    # With such a slope a mean of equal values differs from them in its last bit.
    film = write_image(blank, Modality="CR", BitsStored=12, RescaleSlope="1.0009009")
    with pytest.raises(NotAnalysableError, match="no contrast") as refused:
        reader.read(sources([film]))
    assert refused.value.code == NotAnalysed.UNSUPPORTED_PIXELS
    # Nor one whose pixels are white without exception to the network, if not in the file.
    white = blank + np.arange(1000, 1040, dtype=np.uint16)
    if RANGE in steps:
        with pytest.raises(NotAnalysableError, match="no contrast"):
            reader.read(sources([write_image(white, Modality="CR", BitsStored=12)]))
    blank[10:20, 10:20] = 900
    film = write_image(blank, Modality="CR", BitsStored=12)
    assert reader.read(sources([film])).findings


@pytest.mark.parametrize(
    "scaled", [one("ScaleIntensityd", minv=-1.0, maxv=1.0), one("NormalizeIntensityd")]
)
def test_views_of_a_plane_have_its_black_beyond_their_edges(
    scaled: dict[str, Any], tmp_path: Path
) -> None:
    steps = [*LOADED, STRETCHED, scaled]
    bundle = plane_bundles.served(plane_bundles.written(tmp_path / "b", steps))
    seen: list[torch.Tensor] = []

    class Watched:
        def probabilities(self, tensor: torch.Tensor) -> NDArray[np.float64]:
            seen.append(tensor)
            return np.zeros((len(tensor), 1))

    reader = load_reader(bundle, "cpu")
    reader._network = Watched()  # type: ignore[assignment]
    several = reader.augmented(TestTime(views=8))._network
    assert isinstance(several, SeveralViews)
    films = []
    for bright in (900.0, 300.0):
        film = np.zeros((64, 64), dtype=np.float32)
        film[20:44, 20:44] = bright
        film[20, 20] = 1000.0
        films.append(prepare_radiograph(film, bundle.spec, torch.device("cpu")))
    inputs = torch.cat(films)
    several.probabilities(inputs)
    assert len(seen) == 8
    for view in seen:
        for row, black in zip(view, inputs.amin(dim=(1, 2, 3)), strict=True):
            edges = torch.cat([row[0, 0], row[0, -1], row[0, :, 0], row[0, :, -1]])
            assert torch.allclose(edges, black.expand(edges.shape), atol=1e-5)


def test_maps_beside_numbers_are_turned_back_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the network that MONAI's readers feed has them: its rows are the film's columns."""

    class NumbersAndMaps(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images.mean(dim=(2, 3)), 40.0 * images[..., ::2, ::2] - 20.0

    steps = [*LOADED, STRETCHED, RANGE]
    path = plane_bundles.written(tmp_path / "b", steps)
    bundle = plane_bundles.served(path, masks=["spot"])
    assert bundle.mapped == ("spot",) and bundle.spec.plane is not None
    assert bundle.spec.plane.transposed
    monkeypatch.setattr("inference.network.load_network", lambda *_: NumbersAndMaps())
    tensor = torch.zeros((1, 1, 64, 64))
    tensor[0, 0, 8:16, 40:60] = 1.0
    network = Network(bundle, torch.device("cpu"))
    _, maps = network.both(tensor)
    assert np.array_equal(maps[0, 0] > 0.5, tensor[0, 0].numpy() > 0.5)
    looked = network.looked_at(tensor, 0, Placement.whole((64, 64), 64))
    assert looked is not None
    assert np.array_equal(looked > 0.5, tensor[0, 0].numpy() > 0.5)


def three(path: Path, **section: Any) -> Bundle:
    """Output 0 is the background; of the others 2 wins where it is bright, 1 where it is grey."""
    folder = plane_bundles.written(
        path, [*LOADED, STRETCHED, RANGE],
        weight=(-20.0, 0.0, 8.0, 7.5), bias=(8.0, 3.0, -3.0, -3.0), after=HIGHEST,
    )  # fmt: skip
    return plane_bundles.served(folder, {"one": 1, "two": 2, "three": 3}, **section)


def test_a_pixel_belongs_to_the_most_probable_output_alone(
    tmp_path: Path, write_image: Any, sources: Sources
) -> None:
    low = {name: Thresholds(0.05, 0.1) for name in ("one", "two", "three")}
    bundle = three(tmp_path / "b").with_thresholds(low)
    assert bundle.masks and bundle.exclusive
    pixels = np.zeros((64, 64), dtype=np.uint16)
    pixels[10:30, 8:50], pixels[40:50, 8:20] = 500, 950
    film = sources([write_image(pixels, Modality="CR", BitsStored=12)])
    reading = load_reader(bundle, "cpu").read(film)
    found = {mask.label: mask.pixels for mask in reading.masks}
    # Label three has a probability of 0.37 where label two has 0.57: without a mask.
    assert set(found) == {"one", "two"}
    assert np.array_equal(found["one"], pixels == 500)
    assert np.array_equal(found["two"], pixels == 950)
    probability = {f.label.name: f.probability for f in reading.findings}
    assert probability["three"] == 0.0 and probability["one"] > 0.5
    # Without it the thresholds alone decide.
    open_to_all = load_reader(replace(bundle, exclusive=False), "cpu").read(film)
    assert {mask.label for mask in open_to_all.masks} == {"one", "two", "three"}


def test_an_output_without_a_label_takes_its_pixels_too(tmp_path: Path) -> None:
    bundle = three(tmp_path / "b")
    alone = replace(bundle, outputs=bundle.outputs[2:])  # label three, never the most probable
    tensor = torch.rand((1, 1, 64, 64), generator=torch.Generator().manual_seed(1))
    network = Network(alone, torch.device("cpu"))
    assert of_labels(network.maps(tensor), alone).probability.max() == 0.0
    looked = network.looked_at(tensor, 0, Placement.whole((64, 64), 64))
    assert looked is not None and looked.max() == 0.0
    views = SeveralViews(network, TestTime(views=4))
    assert of_labels(views.maps(tensor), alone).probability.max() == 0.0


@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(5, 90), st.integers(5, 90)),
)
@settings(max_examples=40, deadline=None)
def test_no_pixel_of_a_source_is_in_two_masks(
    three_bundle: Bundle, seed: int, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.random((2, 4, 64, 64)).astype(np.float32) ** 3
    maps /= maps.sum(axis=1, keepdims=True)
    places = [Placement(shape, (0, 0, *shape), 64, "stretch")] * 2
    found = of_labels(maps, three_bundle)
    masks = list(label_masks(found, places, [("1.2", 0), ("1.3", 0)], three_bundle))
    assert [mask.label for mask in masks] == ["one", "two", "three"] * 2
    for uid in ("1.2", "1.3"):
        count = np.sum([mask.pixels for mask in masks if mask.sop_instance_uid == uid], axis=0)
        assert count.max() == 1
    # The winner as argmax has it keeps its probability, everything else has none.
    winner = maps.argmax(axis=1)
    for column, output in enumerate((1, 2, 3)):
        wins = found.probability[:, column] > 0
        assert not (wins & (winner != output)).any()
        assert np.array_equal(found.probability[:, column][wins], maps[:, output][wins])
        assert wins.sum() >= 0.999 * (winner == output).sum()
    assert highest(found.probability, places).shape == (2, 3)


@pytest.fixture(scope="module")
def three_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return three(tmp_path_factory.mktemp("three") / "b")


def test_exclusive_of_what_has_no_other_output_is_refused(tmp_path: Path) -> None:
    bundle = three(tmp_path / "b")
    with pytest.raises(BundleError, match="gives 1 channel, and with exclusive"):
        of_labels(np.zeros((1, 1, 64, 64), dtype=np.float32), bundle)
    with pytest.raises(BundleError, match="exclusive needs masks = true"):
        three(tmp_path / "c", masks=["one"], exclusive=True)
    # What a bundle says of its masks says nothing of maps beside numbers.
    assert not three(tmp_path / "d", masks=["one"]).exclusive
