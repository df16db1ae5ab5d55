"""Painted pneumothoraces: twins differ in the finding alone, and masks lie in lungs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.errors import InferenceError
from inference.lungs import find_lungs
from inference.training.chest_films import (
    Film,
    Listed,
    list_films,
    list_labelled,
    make_film,
    read_films,
)
from inference.training.chest_learning import Canvases, ReferenceSettings, drawn_pairs, fold_of
from inference.training.collapse import Collapse, Site, lay
from inference.training.painted_chests import (
    degraded,
    paint_pair,
    painted_twins,
    phantom_twins,
    placed,
    real_view,
)
from inference.training.phantoms import Chest

SIZE = 96


def film(seed: int, label: float = 0.0, size: int = 200) -> Film:
    values = np.rint(Chest.draw(seed).radiograph(size) * 255).astype(np.float32)
    pair = find_lungs(values)
    assert pair is not None
    return make_film(values, pair, SIZE, Listed(Path(f"{seed}.png"), f"patient-{seed}", label))


@pytest.fixture(scope="module")
def films() -> list[Film]:
    return [film(seed) for seed in (3, 4)]


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 9])


def test_the_depths_are_those_of_the_lungs(films: list[Film]) -> None:
    for one in films:
        right, left = one.layers[0, 2] > 0, one.layers[0, 3] > 0
        rows, columns = right.shape
        across = torch.arange(columns)[None, :].expand(rows, columns) / columns
        assert across[right].mean() < 0.5 < across[left].mean()
        picture = one.layers[0, 0]
        assert picture[right].mean() < picture[~(right | left)].mean()
        assert not (right & left).any()


@pytest.mark.parametrize("seed", range(8))
def test_twins_differ_in_and_around_one_lung_only(films: list[Film], seed: int) -> None:
    layers = placed(films[seed % 2], generator(seed), SIZE)
    pair = paint_pair(layers, generator(seed + 100))
    assert pair is not None
    present, absent, shape = pair
    depth = layers[2 if shape.side < 0 else 3]
    far = depth < -0.25 * SIZE
    assert np.array_equal(present[far], absent[far])
    assert np.abs(present - absent)[depth > 0].max() > 0.02


@pytest.mark.parametrize("seed", range(8))
def test_free_air_lies_inside_the_chest_and_is_emptied(films: list[Film], seed: int) -> None:
    layers = placed(films[seed % 2], generator(seed), SIZE)
    pair = paint_pair(layers, generator(seed + 200))
    assert pair is not None
    present, _, shape = pair
    air, depth = shape.air > 0.5, layers[2 if shape.side < 0 else 3]
    assert air.any()
    # A deep sulcus reaches below the lung as it was; nothing else leaves it.
    assert (depth[air] > -1.0).mean() > 0.75
    assert ((shape.lung > 0.5) & air).sum() == 0
    assert present[air].mean() <= layers[0][air].mean() + 0.02


@pytest.mark.parametrize("site", list(Site))
def test_air_collects_where_its_site_says(films: list[Film], site: Site) -> None:
    depth = films[0].layers[0, 3].numpy()
    anchors = {
        Site.APICAL: ((0.1, 1.0), 0.9, 0.7),
        Site.LATERAL: ((0.0, 0.6), 0.65, 0.95),
        Site.BASAL: ((0.1, 0.0), 0.95, 0.75),
        Site.WHOLE: ((0.0, 0.55), 0.4, 0.5),
    }
    anchor, across, down = anchors[site]
    shape = lay(Collapse(site, anchor, across, down, 0.0, 0.0), depth, 1, generator(1))
    assert shape is not None
    lung, air = np.argwhere(depth > 0).mean(axis=0), np.argwhere(shape.air > 0.5).mean(axis=0)
    if site is Site.APICAL:
        assert air[0] < lung[0]
    elif site is Site.BASAL:
        assert air[0] > lung[0]
    else:
        assert air[1] > lung[1]


def test_a_lung_that_stays_or_goes_wholly_is_no_finding(films: list[Film]) -> None:
    depth = films[0].layers[0, 3].numpy()
    for left in (0.999, 0.05):
        collapse = Collapse(Site.WHOLE, (0.0, 0.5), left, left, 0.0, 0.0)
        assert lay(collapse, depth, 1, generator(1)) is None
    nothing = np.full((SIZE, SIZE), -5.0, np.float32)
    assert lay(Collapse.draw(generator(2)), nothing, 1, generator(1)) is None


def test_the_same_seed_paints_the_same(films: list[Film]) -> None:
    one, same, other = (painted_twins(films[0], generator(s), SIZE) for s in (5, 5, 6))
    assert one is not None
    assert same is not None
    assert other is not None
    assert np.array_equal(one.images, same.images)
    assert np.array_equal(one.air, same.air)
    assert not np.array_equal(one.images, other.images)
    assert one.images.shape == (2, SIZE, SIZE)
    assert one.images.dtype == np.uint8


def test_phantoms_have_air_on_the_side_that_differs() -> None:
    for seed in range(4):
        twins = phantom_twins(seed, SIZE)
        assert np.array_equal(twins.images, phantom_twins(seed, SIZE).images)
        change = np.abs(twins.images[0].astype(int) - twins.images[1])
        assert twins.air.any()
        assert change[twins.air].mean() > change[~twins.air].mean()


def test_degradation_is_the_same_for_twins() -> None:
    picture = film(3).layers[0, 0, :SIZE, :SIZE].numpy()
    for seed in range(6):
        twins = degraded([picture, picture], generator(seed), SIZE)
        assert np.array_equal(twins[0], twins[1])


def test_a_coarse_film_stays_coarse() -> None:
    coarse = film(3, size=60)
    assert coarse.coarse
    view = real_view(coarse, generator(1), SIZE).astype(float)
    fine = real_view(film(3, size=400), generator(1), SIZE).astype(float)
    assert np.abs(np.diff(view, n=2)).mean() < np.abs(np.diff(fine, n=2)).mean()


def test_a_step_has_pairs_of_every_kind_and_repeats(films: list[Film]) -> None:
    coarse = [film(3, size=60), film(4, label=1.0, size=60)]
    canvases = Canvases.of([*films, *coarse])
    settings = ReferenceSettings(size=SIZE, pairs=12, real=0.4)
    pairs = drawn_pairs(canvases, settings, 0, 0)
    assert len(pairs) == 12
    assert any(pair.air is None for pair in pairs)
    assert any(pair.air is not None for pair in pairs)
    again = drawn_pairs(canvases, settings, 0, 0)
    assert all(np.array_equal(a.images, b.images) for a, b in zip(pairs, again, strict=True))
    other = drawn_pairs(canvases, settings, 0, 1)
    assert not np.array_equal(pairs[0].images, other[0].images)


def test_a_patient_is_in_one_fold_and_findings_are_in_both() -> None:
    listed = [
        Listed(Path(f"{patient}-{number}.png"), f"p{patient}", float(patient < 4))
        for patient in range(20)
        for number in range(1 + patient % 3)
    ]
    folds = fold_of(listed, 1)
    assert folds == fold_of(list(reversed(listed)), 1)
    assert {folds[f"p{patient}"] for patient in range(4)} == {0, 1}
    assert 8 <= sum(folds.values()) <= 12


def test_tables_and_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="holds no radiograph"):
        list_films([tmp_path])
    with pytest.raises(InferenceError, match="cannot be read"):
        list_labelled(tmp_path)
    (tmp_path / "labels.csv").write_text("file,patient\na.png,1\n", encoding="utf-8")
    with pytest.raises(InferenceError, match="no column 'pneumothorax'"):
        list_labelled(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InferenceError, match="is no picture"):
        list(read_films(list_films([tmp_path]), SIZE))
    with pytest.raises(InferenceError, match="no film to paint on"):
        Canvases.of([])
