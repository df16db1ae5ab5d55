"""Painted bleeds: on real and on drawn heads, with twins, masks and seeds; and what pictures do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import InferenceError
from inference.training.painted_heads import KINDS, MASK_SIZE, PaintedSlice, draw_slices
from inference.training.painted_pool import draw_pool
from inference.training.phantoms import BleedType, draw_bleed
from inference.training.phantoms.backgrounds import (
    SIZE,
    SPACING_MM,
    Background,
    Warp,
    read_backgrounds,
    read_series,
)
from inference.training.phantoms.files import write_head_series
from inference.training.pictures import vary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series that stands for a real one."""
    folder = tmp_path_factory.mktemp("series")
    write_head_series(folder, 3, slices=8, size=256)
    (folder / "LICENSE").write_text("free\n")
    return folder


@pytest.fixture(scope="module")
def grounds(folder: Path) -> list[Background]:
    return read_backgrounds([folder])


def test_a_series_becomes_grounds_with_brain_fluid_and_ventricles(
    folder: Path, grounds: list[Background]
) -> None:
    assert [one.name for one in grounds] == [f"0/{i}" for i in range(8)]
    assert sum(one.paintable for one in grounds) >= 4
    for one in grounds:
        assert one.hu.shape == (SIZE, SIZE)
        for share in (one.brain, one.fluid, one.ventricles):
            assert share.min() >= 0
            assert share.max() <= 1
        assert not (one.fluid + one.ventricles)[one.brain < 0.5].any()
    largest = max(grounds, key=lambda one: float(one.brain.sum()))
    inside = largest.hu[largest.brain > 0.5]
    assert 15 < np.median(inside) < 50
    assert 45 < largest.half_width < 85
    series = read_series(folder, "x")
    assert len(series.hu) == 8
    assert np.all(np.diff(series.positions_mm) > 0)


def test_a_folder_without_slices_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InferenceError, match="holds no CT slices"):
        read_backgrounds([tmp_path])
    with pytest.raises(InferenceError, match="name at least one folder"):
        read_backgrounds([])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_blood_on_a_real_slice_lies_in_the_brain_and_brightens_it(
    grounds: list[Background], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ground = [one for one in grounds if one.paintable][seed % 3]
    warp = Warp.draw(rng, ground)
    kind = KINDS[seed % len(KINDS)]
    bleed = draw_bleed(rng, warp, kind, 0.0, 1.0)
    healthy = warp.slice(bleed.push)
    painted, cover = bleed.paint(healthy)
    assert not cover[healthy.brain < 0.5].any()
    assert np.array_equal(painted.hu[healthy.brain < 0.5], healthy.hu[healthy.brain < 0.5])
    core = cover > 0.9
    assert not core.any() or 35 < painted.hu[core].mean() < 100


def test_a_warp_moves_the_head_but_leaves_it_one(grounds: list[Background]) -> None:
    ground = max(grounds, key=lambda one: float(one.brain.sum()))
    areas = []
    for seed in range(6):
        one = Warp.draw(np.random.default_rng(seed), ground).slice()
        again = Warp.draw(np.random.default_rng(seed), ground).slice()
        assert np.array_equal(one.hu, again.hu)
        areas.append(float(one.brain.sum()) * SPACING_MM**2)
        assert one.hu[0, 0] < -900
    whole = float(ground.brain.sum()) * SPACING_MM**2
    assert all(0.5 * whole < area < 1.6 * whole for area in areas)
    assert np.ptp(areas) > 0.05 * whole


def drawn(seeds: range, grounds: list[Background], share: float) -> list[list[PaintedSlice]]:
    return [draw_slices(seed, grounds, share) for seed in seeds]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_twins_differ_in_the_blood_alone(grounds: list[Background], share: float) -> None:
    pairs = [pair for pair in drawn(range(24), grounds, share) if len(pair) == 2]
    assert len(pairs) >= 4
    for bleeding, healthy in pairs:
        assert any(bleeding.labels)
        assert not any(healthy.labels)
        assert not healthy.masks.any()
        changed = np.abs(bleeding.hu.astype(int) - healthy.hu) > 12
        # Oedema darkens, and the scanner blurs: around the blood, nowhere else.
        assert changed.sum() > 10
        assert (bleeding.ground == "drawn") == (share == 0.0)
        far = np.ones((SIZE, SIZE), bool)
        reach = 40
        for y, x in zip(*np.nonzero(bleeding.masks.max(axis=0) > 60), strict=True):
            far[max(0, 4 * y - reach) : 4 * y + reach, max(0, 4 * x - reach) : 4 * x + reach] = 0
        assert (changed & far).mean() < 0.002


def test_labels_say_what_the_masks_show(grounds: list[Background]) -> None:
    seen = np.zeros(len(KINDS))
    for slices in drawn(range(40), grounds, 0.5):
        for one in slices:
            areas = one.masks.astype(float).sum(axis=(1, 2)) / 255 * (4 * SPACING_MM) ** 2
            assert one.masks.shape == (len(KINDS), MASK_SIZE, MASK_SIZE)
            for area, label in zip(areas, one.labels, strict=True):
                assert label == 0 or area > 12
            seen += np.array(one.labels)
    assert (seen > 0).all()


def test_a_seed_gives_the_same_slices_and_another_one_others(grounds: list[Background]) -> None:
    first, again, other = (draw_slices(seed, grounds) for seed in (5, 5, 6))
    assert [np.array_equal(a.hu, b.hu) for a, b in zip(first, again, strict=True)] == [True] * len(
        first
    )
    assert not np.array_equal(first[0].hu, other[0].hu)


def test_a_pool_is_the_same_however_many_draw_and_goes_on_where_it_stopped(
    tmp_path: Path, folder: Path
) -> None:
    one = draw_pool(tmp_path / "one", range(4), [folder], workers=1)
    two = draw_pool(tmp_path / "two", range(4), [folder], workers=2)
    assert np.array_equal(np.stack(one.hu), np.stack(two.hu))
    assert np.array_equal(one.boxes, two.boxes)
    (part,) = (tmp_path / "one").glob("*.npz")
    written = part.stat().st_mtime_ns
    draw_pool(tmp_path / "one", range(4), [folder])
    assert part.stat().st_mtime_ns == written


def test_a_pool_is_of_its_backgrounds_alone(tmp_path: Path, folder: Path) -> None:
    drawn_before = draw_pool(tmp_path / "pool", range(1), [], real_share=0.0)
    said = (tmp_path / "pool" / "pool.json").read_bytes()
    with pytest.raises(InferenceError, match="drawn from other backgrounds"):
        draw_pool(tmp_path / "pool", range(1), [folder], real_share=0.0)
    with pytest.raises(InferenceError, match="another share"):
        draw_pool(tmp_path / "pool", range(1), [], real_share=0.5)
    assert (tmp_path / "pool" / "pool.json").read_bytes() == said
    (tmp_path / "pool" / "pool.json").unlink()  # as a folder from before says nothing
    again = draw_pool(tmp_path / "pool", range(1), [], real_share=0.0)
    assert np.array_equal(np.stack(again.hu), np.stack(drawn_before.hu))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100_000), share=st.sampled_from([0.0, 1.0]))
def test_what_happens_to_a_slice_is_seeded_and_in_range(seed: int, share: float) -> None:
    hu = np.full((64, 64), -1000, np.int16)
    hu[12:52, 12:52] = 1000
    hu[16:48, 16:48] = 35
    first = vary(np.random.default_rng(seed), hu, share)
    assert np.array_equal(first, vary(np.random.default_rng(seed), hu, share))
    assert first.shape == hu.shape
    assert np.isfinite(first).all()
    if share == 1.0:
        assert first.min() >= 0
        assert first.max() <= 80.001


def test_varied_blood_is_sometimes_faint_and_sometimes_bright_as_bone() -> None:
    class Extent:
        half_width, half_length, vertex = 65.0, 80.0, 80.0

    densities = [
        draw_bleed(np.random.default_rng(seed), Extent(), BleedType.SUBDURAL, 0.0, varied=True)
        for seed in range(80)
    ]
    assert min(one.density for one in densities) < 45
    assert max(one.density for one in densities) > 85
    assert any(one.mixture is not None for one in densities)
    assert {type(one.shape).__name__ for one in densities} >= {
        "UnderTheSkull",
        "BesideTheFalx",
        "AlongTheTentorium",
    }
