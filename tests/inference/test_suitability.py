"""The gate: what is refused, with which code, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from inference.criteria import Criteria
from inference.errors import NotAnalysableError
from inference.reading import NotAnalysed, SourceImage
from inference.suitability import check_image, check_stack
from inference.volume import Slice, Stack

CHEST = Criteria(
    modalities=("CR", "DX"), body_parts=("CHEST",), refused_views=("LL", "RL", "LATERAL")
)
HEAD = Criteria(min_slices=4, min_coverage_mm=15, max_gap=1.6, axial=True)


def header(**elements: Any) -> Dataset:
    dataset = Dataset()
    dataset.Rows = dataset.Columns = 512
    dataset.PixelData = b"\0\0"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def code_of(meaning: str) -> Dataset:
    item = Dataset()
    item.CodeMeaning = meaning
    return item


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({"Modality": "US"}, NotAnalysed.WRONG_MODALITY),
        ({"BodyPartExamined": "HAND"}, NotAnalysed.WRONG_BODY_PART),
        ({"ViewPosition": "LL"}, NotAnalysed.WRONG_VIEW),
        ({"ViewCodeSequence": [code_of("left lateral")]}, NotAnalysed.WRONG_VIEW),
        ({"Rows": 40}, NotAnalysed.NOT_AN_IMAGE),
        ({"Rows": None}, NotAnalysed.NOT_AN_IMAGE),
    ],
)
def test_an_unsuitable_image_is_refused_with_its_code(
    elements: dict[str, Any], code: NotAnalysed
) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        check_image(header(**elements), CHEST)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"Modality": "CR", "BodyPartExamined": "CHEST", "ViewPosition": "PA"},
        {"Modality": "DX", "BodyPartExamined": "Chest PA", "ViewPosition": ""},
        {"ViewCodeSequence": [code_of("postero-anterior")]},
        {"ViewCodeSequence": [code_of("bilateral")]},
    ],
)
def test_a_suitable_image_or_one_that_says_nothing_passes(elements: dict[str, Any]) -> None:
    check_image(header(**elements), CHEST)


@pytest.mark.parametrize(
    "elements",
    [
        {"Modality": "SECRETNAME"},
        {"BodyPartExamined": "SECRETNAME"},
        {"ViewPosition": "LL", "ViewCodeSequence": [code_of("SECRETNAME lateral")]},
        {"ViewCodeSequence": [code_of("SECRETNAME lateral")]},
    ],
)
def test_no_value_of_the_header_is_in_the_reason(elements: dict[str, Any]) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        check_image(header(**elements), CHEST)
    assert "secretname" not in str(refusal.value).lower()


def test_an_image_of_too_many_pixels_is_refused_by_its_header() -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        check_image(header(Rows=65535, Columns=65535), CHEST)
    assert refusal.value.code == NotAnalysed.UNSUPPORTED_PIXELS


def test_an_image_that_lost_its_pixels_is_undecodable() -> None:
    cut = header()
    del cut.PixelData
    with pytest.raises(NotAnalysableError) as refusal:
        check_image(cut, CHEST)
    assert refusal.value.code == NotAnalysed.UNDECODABLE


def stack(positions: list[float], normal: tuple[float, float, float] = (0, 0, 1)) -> Stack:
    source = SourceImage(1, "1.2", "1.2", "1.2", Path("none"))
    one = Slice(source, 0, 512, 512, 1, None, None, None, 5.0, None, False)
    return Stack((one,) * len(positions), np.array(positions), {}, np.array(normal, dtype=float))


@pytest.mark.parametrize(
    ("series", "code"),
    [
        (stack([]), NotAnalysed.TOO_FEW_SLICES),
        (stack([0, 5, 10]), NotAnalysed.TOO_FEW_SLICES),
        (stack([0, 1, 2, 3]), NotAnalysed.TOO_FEW_SLICES),
        (stack([0, 5, 10, 20, 25, 30]), NotAnalysed.MISSING_SLICES),
        (stack([0, 5, 10, 15], (0, 1, 0)), NotAnalysed.WRONG_VIEW),
    ],
)
def test_an_unsuitable_series_is_refused_with_its_code(series: Stack, code: NotAnalysed) -> None:
    with pytest.raises(NotAnalysableError) as refusal:
        check_stack(series, HEAD)
    assert refusal.value.code == code


def test_a_tilted_series_of_enough_slices_passes() -> None:
    check_stack(stack([0, 5, 10, 15], (0, 0.34, 0.94)), HEAD)


def test_criteria_survive_their_json_form() -> None:
    assert Criteria.from_dict(CHEST.to_dict()) == CHEST
    with pytest.raises(ValueError, match="unknown keys in suitability: view"):
        Criteria.from_dict({"view": "PA"})
    with pytest.raises(ValueError, match="must be a list of words"):
        Criteria.from_dict({"modalities": "CR"})
