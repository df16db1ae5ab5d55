import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.windows import BRAIN, SOFT, SUBDURAL, VoiLutFunction, Window

CENTERS = st.floats(-2000, 3000, width=32)
WIDTHS = st.floats(1.5, 4000, width=32)
VALUES = st.floats(-4096, 4096, width=32)


def by_the_standard(x: float, c: float, w: float, function: VoiLutFunction) -> float:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3 as printed, with ymin 0 and ymax 1."""
    if function is VoiLutFunction.LINEAR:
        if x <= c - 0.5 - (w - 1) / 2:
            return 0.0
        if x > c - 0.5 + (w - 1) / 2:
            return 1.0
        return (x - (c - 0.5)) / (w - 1) + 0.5
    if function is VoiLutFunction.LINEAR_EXACT:
        if x <= c - w / 2:
            return 0.0
        if x > c + w / 2:
            return 1.0
        return (x - c) / w + 0.5
    return 1.0 / (1.0 + math.exp(min(700.0, -4 * (x - c) / w)))


@given(VALUES, CENTERS, WIDTHS, st.sampled_from(VoiLutFunction))
def test_each_function_is_that_of_the_standard(
    value: float, center: float, width: float, function: VoiLutFunction
) -> None:
    window = Window(center, width, function=function)
    expected = by_the_standard(value, center, width, function)
    assert window.apply(np.array([value]))[0] == pytest.approx(expected, abs=1e-9)
    # Single precision is what a network is given; a width of 1.5 magnifies its rounding.
    assert float(window.apply(torch.tensor([value]))[0]) == pytest.approx(expected, abs=2e-3)


@given(st.lists(VALUES, min_size=2), CENTERS, WIDTHS, st.sampled_from(VoiLutFunction))
def test_a_window_is_monotonic_and_stays_between_black_and_white(
    values: list[float], center: float, width: float, function: VoiLutFunction
) -> None:
    shown = Window(center, width, function=function).apply(np.sort(np.array(values)))
    assert (np.diff(shown) >= 0).all()
    assert shown.min() >= 0.0
    assert shown.max() <= 1.0


def test_a_linear_window_of_width_one_is_a_step() -> None:
    shown = Window(10, 1).apply(np.array([9.0, 9.5, 9.6, 10.0], dtype=np.float32))
    assert shown.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("window", "black", "middle", "white"),
    [(BRAIN, 0, 40, 80), (SUBDURAL, -20, 80, 180), (SOFT, -150, 40, 230)],
)
def test_the_windows_of_the_head(window: Window, black: float, middle: float, white: float) -> None:
    shown = window.apply(torch.tensor([black - 1.0, black, middle, white, white + 1.0]))
    assert shown.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(("width", "function"), [(0.5, "LINEAR"), (0, "SIGMOID"), (-1, "SIGMOID")])
def test_a_width_that_the_standard_forbids_is_refused(width: float, function: str) -> None:
    with pytest.raises(ValueError, match="needs a width above"):
        Window(0, width, "odd", VoiLutFunction(function))


def test_a_window_survives_its_json_form() -> None:
    assert Window.from_dict(SUBDURAL.to_dict()) == SUBDURAL
    with pytest.raises(ValueError, match="unknown keys in a window: centre"):
        Window.from_dict({"centre": 1, "width": 2})
