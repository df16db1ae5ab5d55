"""Whether a series looks like a head, whatever its header says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.bundle import Bundle
from inference.criteria import Criteria
from inference.errors import NotAnalysableError
from inference.heads import Look, looks
from inference.image_file import open_image
from inference.model import load_reader
from inference.pixels import hounsfield_values
from inference.reading import NotAnalysed, SourceImage
from inference.training.phantoms import Grid, Head, Scanner

Sources = Callable[[Iterable[Path]], list[SourceImage]]


def look(hu: np.ndarray[Any, Any]) -> Look:
    (found,) = looks(hu[None].astype(np.float32))
    return found


def disc(hu: float, ring: float | None = None, noise: float = 3.0) -> np.ndarray[Any, Any]:
    """A cylinder of one density, within a ring of bone if asked for."""
    y, x = np.mgrid[:256, :256] - 128.0
    radius = np.hypot(y, x)
    image = np.where(radius < 90, hu, -1000.0)
    image += np.random.default_rng(0).normal(0, noise, image.shape)
    return image if ring is None else np.where((radius >= 90) & (radius < 97), ring, image)


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_head_looks_like_a_head_in_hu_and_as_a_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    head, scanner, grid = Head.draw(rng), Scanner.draw(rng), Grid.centred(256, 0.9)
    slices = [scanner.acquire(head.slice(grid, z).hu, 0.9, rng) for z in (0.0, 20.0, 40.0)]
    assert all(look(hu).brain for hu in slices)
    assert all(look(np.clip(hu, 0, 80)).brain for hu in slices)


@pytest.mark.parametrize("hu", [-200.0, 0.0, 100.0])
def test_a_skull_filled_with_something_else_is_a_phantom(hu: float) -> None:
    assert look(disc(hu, ring=900.0)) == Look(skull=True, brain=False)


@pytest.mark.parametrize("hu", [0.0, 35.0, 100.0])
def test_a_cylinder_without_bone_is_no_head(hu: float) -> None:
    assert look(disc(hu)) == Look(skull=False, brain=False)


@pytest.mark.parametrize("fill", [-1000.0, 0.0, 40.0, 3000.0])
def test_one_value_everywhere_is_no_head(fill: float) -> None:
    assert look(np.full((64, 64), fill)) == Look(skull=False, brain=False)


def hu_of(folder: Path) -> list[np.ndarray[Any, Any]]:
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            found.append(hounsfield_values(open_image(path)).values)
        except (NotAnalysableError, IsADirectoryError):
            continue
    return found


def test_the_real_head_has_brain_and_the_real_phantom_none(shared_data: Path) -> None:
    assert sum(look(hu).brain for hu in hu_of(shared_data / "head_ct_ge")) >= 15
    phantom = [look(hu) for hu in hu_of(shared_data / "head_phantom_philips")]
    assert sum(one.brain for one in phantom) == 0
    assert sum(one.skull for one in phantom) >= 3


def write_stack(write_image: Callable[..., Path], slices: list[np.ndarray[Any, Any]]) -> list[Path]:
    return [
        write_image(
            np.rint(hu).astype(np.int16),
            ImagePositionPatient=[0, 0, 5.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            InstanceNumber=number,
            SeriesInstanceUID="1.2.3",
            BodyPartExamined="HEAD",
        )
        for number, hu in enumerate(slices)
    ]


def test_a_reader_of_heads_refuses_a_phantom_and_a_body_by_their_look(
    ct_bundle: Bundle, write_image: Callable[..., Path], sources: Sources
) -> None:
    bundle = ct_bundle.with_suitability({"anatomy": "head"})
    reader = load_reader(bundle, "cpu")
    with pytest.raises(NotAnalysableError, match="it looks like a phantom") as refused:
        reader.read(sources(write_stack(write_image, [disc(0, 900, n) for n in range(1, 7)])))
    assert refused.value.code is NotAnalysed.NOT_A_PATIENT
    with pytest.raises(NotAnalysableError, match="brain inside a skull") as refused:
        reader.read(sources(write_stack(write_image, [disc(35, None, n) for n in range(1, 7)])))
    assert refused.value.code is NotAnalysed.WRONG_BODY_PART
    # The same images are read where nobody asks for a head.
    images = sources(write_stack(write_image, [disc(35, None, n) for n in range(1, 7)]))
    assert load_reader(ct_bundle, "cpu").read(images).findings


def test_a_head_is_read(
    ct_bundle: Bundle, write_image: Callable[..., Path], sources: Sources
) -> None:
    rng = np.random.default_rng(3)
    head, grid = Head.draw(rng), Grid.centred(128, 1.8)
    slices = [head.slice(grid, 5.0 * number).hu for number in range(6)]
    bundle = ct_bundle.with_suitability({"anatomy": "head"})
    reading = load_reader(bundle, "cpu").read(sources(write_stack(write_image, slices)))
    assert len(reading.used_sop_instance_uids) == 6


def test_the_criterion_is_part_of_the_configuration_only_where_it_is_set() -> None:
    assert "anatomy" not in Criteria().to_dict()
    assert Criteria.from_dict(Criteria(anatomy="head").to_dict()).anatomy == "head"
    with pytest.raises(ValueError, match="anatomy 'leg' is not one of any, head"):
        Criteria.from_dict({"anatomy": "leg"})
