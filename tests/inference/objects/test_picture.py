"""Pictures of results: size, shape, words that stay inside and off the anatomy."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageDraw

from inference.objects.overlay import legend, overlaid
from inference.objects.picture import LONGEST, Caption, _layout, draw, draw_card
from inference.reading import Illustration

CAPTION = Caption(
    "Preread: pneumothorax",
    ("Pneumothorax: Present, 93 %",),
    "pneumothorax 0.1.0",
)


def picture(
    rows: int, columns: int, *, aspect: float = 1.0, looked: bool = False, value: int = 90
) -> Illustration:
    saliency = np.zeros((24, 24), dtype=np.float32)
    saliency[3:9, 12:20] = 1.0
    pixels = np.full((rows, columns), value, dtype=np.uint8)
    return Illustration(
        "1.2.3", 0, pixels, pixel_aspect=aspect, saliency=saliency if looked else None
    )


def image_in(drawn: np.ndarray, illustration: Illustration, caption: Caption) -> np.ndarray:
    """Return the part of a drawn picture that is the image."""
    (height, width), above, _ = _layout(illustration, caption)
    top = sum(round(line.size * 1.3) for line in above) + 24
    left = (drawn.shape[1] - width) // 2
    return drawn[top : top + height, left : left + width]


@given(
    rows=st.integers(1, 3000),
    columns=st.integers(1, 3000),
    aspect=st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
)
@settings(max_examples=25, deadline=None)
def test_any_image_gives_a_picture_of_bounded_size_and_true_proportions(
    rows: int, columns: int, aspect: float
) -> None:
    one = picture(rows, columns, aspect=aspect)
    drawn = draw(one, CAPTION)
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
    assert 512 <= drawn.shape[1] <= LONGEST
    assert drawn.shape[0] <= LONGEST
    (height, width), _, _ = _layout(one, CAPTION)
    true = rows * aspect / columns
    slack = 1 / min(height, width)
    if min(height, width) > 1:  # nothing is thinner than a pixel
        assert height / width == pytest.approx(true, rel=2 * slack)


def test_a_small_image_is_enlarged_to_a_readable_size() -> None:
    (height, width), _, _ = _layout(picture(64, 64), CAPTION)
    assert height == width == 512


def test_what_was_seen_is_unchanged_but_where_the_model_looked() -> None:
    one = picture(600, 600, looked=True)
    drawn = image_in(draw(one, CAPTION), one, CAPTION).astype(int)
    plain = np.all(drawn == 90, axis=2)
    # The spot is in the upper right quarter: the whole lower half is as it was.
    assert plain[300:].all()
    assert plain[:, :200].all()
    spot = drawn[130:160, 380:420]
    assert (spot[..., 0] > spot[..., 2] + 35).all()  # warm
    half_way = np.abs(spot.mean(axis=2) - 90)
    assert half_way.max() < 60  # translucent
    # Two structures under the warmest place stay two, with 64 % of their contrast or more.
    darker = picture(600, 600, looked=True, value=40)
    other = image_in(draw(darker, CAPTION), darker, CAPTION).astype(int)[130:160, 380:420]
    assert (spot - other).min() >= 32


@pytest.mark.parametrize("value", [0, 90, 170, 255])
def test_where_the_model_looked_is_a_tint_that_is_seen_on_any_grey_and_has_no_line(
    value: int,
) -> None:
    one = picture(600, 600, looked=True, value=value)
    drawn = image_in(draw(one, CAPTION), one, CAPTION).astype(int)
    spot = drawn[145, 395]
    assert spot[0] - spot[2] >= 60  # warm enough to be seen on bone and on air
    # From one pixel to the next it never leaps, even here, where the map does: no edge is seen.
    for axis in (0, 1):
        assert np.abs(np.diff(drawn, axis=axis)).max() <= 12
    # It is warmest where the model looked, and fades to both sides.
    warmth = drawn[145, :, 0] - drawn[145, :, 2]
    assert warmth[:250].max() == 0
    assert (np.diff(warmth[250:395]) >= -2).all()


def test_the_same_values_give_the_same_bytes() -> None:
    one = picture(300, 200, looked=True)
    assert draw(one, CAPTION).tobytes() == draw(one, CAPTION).tobytes()
    assert draw_card(CAPTION).tobytes() == draw_card(CAPTION).tobytes()
    other = Caption(CAPTION.title, ("Pneumothorax: Absent, 3 %",), CAPTION.footer)
    assert draw(one, other).tobytes() != draw(one, CAPTION).tobytes()


_LONG = "Intracranial hemorrhage of the left temporal lobe with " * 12


@pytest.mark.parametrize(
    "caption",
    [
        Caption(_LONG, (_LONG,) * 12, _LONG),
        Caption("W" * 3000, ("W" * 300,) * 20, "i" * 3000),
        Caption("", (), ""),
        Caption("Lungen\u00f6dem \u6c17\u80f8 \x1b[31m\n\tdone", ("\u0416" * 400,), "\ud800"),
    ],
)
@pytest.mark.parametrize("shape", [(64, 64), (2000, 300), (300, 3000), (1, 1)])
def test_words_never_leave_the_picture_and_never_cover_the_image(
    caption: Caption, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes: list[tuple[float, float, float, float]] = []
    write = ImageDraw.ImageDraw.text

    def noted(self: ImageDraw.ImageDraw, at: tuple[float, float], text: str, **how: object) -> None:
        boxes.append(self.textbbox(at, text, font=how["font"]))  # type: ignore[arg-type]
        write(self, at, text, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    one = picture(*shape, value=255)
    drawn = draw(one, caption)
    assert max(drawn.shape[:2]) <= LONGEST
    for left, top, right, bottom in boxes:
        assert left >= 0
        assert top >= 0
        assert right <= drawn.shape[1]
        assert bottom <= drawn.shape[0]
    image = image_in(drawn, one, caption)
    assert (image == 255).all()  # no letter stands on it
    boxes.clear()
    card = draw_card(caption)
    assert all(r <= card.shape[1] and b <= card.shape[0] for _, _, r, b in boxes)


def test_the_warning_is_written_whatever_the_caption_says(monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []
    write = ImageDraw.ImageDraw.text

    def noted(self: ImageDraw.ImageDraw, at: tuple[float, float], text: str, **how: object) -> None:
        words.append(text)
        assert how["font"].size >= 16  # type: ignore[attr-defined]
        write(self, at, text, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    for drawn in (lambda: draw(picture(100, 100), CAPTION), lambda: draw_card(CAPTION)):
        words.clear()
        drawn()
        said = " ".join(words)
        assert "AI - unverified" in said
        assert "Not for primary diagnosis" in said
        assert "Pneumothorax: Present, 93 %" in said
        assert "pneumothorax 0.1.0" in said


@st.composite
def marked_images(draw_from: st.DrawFn) -> Illustration:
    """Return an image of noise with discs in it, of any size and shape of pixel."""
    rows, columns = draw_from(st.integers(24, 1200)), draw_from(st.integers(24, 1200))
    rng = np.random.default_rng(draw_from(st.integers(0, 99)))
    down, across = np.mgrid[:rows, :columns]
    marked = np.zeros((rows, columns), dtype=bool)
    for _ in range(draw_from(st.integers(1, 4))):
        radius = rng.uniform(0.5, 0.3 * min(rows, columns))
        marked |= np.hypot(down - rng.integers(rows), across - rng.integers(columns)) <= radius
    pixels = rng.integers(0, 256, (rows, columns)).astype(np.uint8)
    aspect = draw_from(st.sampled_from([0.5, 1.0, 1.5]))
    return Illustration("1.2.3", 0, pixels, pixel_aspect=aspect, marked=marked)


def widened(mask: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """Return the mask with all that is no further from it along an axis."""
    along = np.moveaxis(mask, axis, 0)
    counted = np.pad(along.cumsum(axis=0), ((reach + 1, 0), (0, 0)))
    counted = np.pad(counted, ((0, reach), (0, 0)), mode="edge")
    return np.moveaxis(counted[2 * reach + 1 :] > counted[: -2 * reach - 1], 0, axis)


@given(marked_images())
@settings(max_examples=15, deadline=None)
def test_a_line_runs_around_what_was_marked_and_nothing_lies_on_it(one: Illustration) -> None:
    assert one.marked is not None
    drawn = image_in(draw(one, CAPTION), one, CAPTION)
    plain = overlaid(replace(one, marked=None), drawn.shape[:2])
    changed = np.any(drawn != np.asarray(plain), axis=2)
    # The middle of each pixel of the mask, as it lies in the drawn picture, if in one pixel there.
    at = [
        np.divmod((2 * where + 1) * drawn.shape[axis], 2 * one.marked.shape[axis])
        for axis, where in enumerate(np.nonzero(one.marked))
    ]
    (rows, row_rest), (columns, column_rest) = at
    clear = (row_rest > 0) & (column_rest > 0)
    # Where it reaches the border the line runs inside, in three pixels.
    for where, size in ((rows, drawn.shape[0]), (columns, drawn.shape[1])):
        clear &= (where >= 3) & (where < size - 3)
    assert not changed[rows[clear], columns[clear]].any()
    # All that is drawn lies close by: three pixels, and what scaling rounds.
    reach = np.zeros(changed.shape, dtype=bool)
    reach[rows, columns] = True
    near = max(1.0, *(d / m for d, m in zip(drawn.shape, one.marked.shape, strict=False)))
    for axis in (0, 1):
        reach = widened(reach, ceil(4 + near), axis)
    assert not changed[~reach].any()


def test_the_line_around_what_was_marked_is_as_wide_whatever_the_size_of_the_image() -> None:
    for side in (128, 512, 700, 2400):
        down, across = np.mgrid[:side, :side] / side - 0.5
        marked = np.hypot(down, across) < 0.25
        pixels = np.full((side, side), 90, dtype=np.uint8)
        one = Illustration("1.2.3", 0, pixels, marked=marked)
        drawn = image_in(draw(one, CAPTION), one, CAPTION)
        height, width = drawn.shape[:2]
        around = 2 * np.pi * 0.25 * height
        for colour, wide in (((255, 190, 40), 2.0), ((0, 0, 0), 1.0)):
            found = np.all(drawn == colour, axis=2)
            assert found.sum() / around == pytest.approx(wide, rel=0.3)
            assert not found[height // 2 - 40 : height // 2 + 40, width // 2].any()
        # Along a row, upright, and along a slant it is the same line.
        row = np.all(drawn[height // 2] == (255, 190, 40), axis=1)
        assert row.sum() == 4


def test_the_line_is_seen_on_white_and_on_black() -> None:
    marked = np.zeros((600, 600), dtype=bool)
    marked[200:400, 200:400] = True
    for value in (0, 255):
        pixels = np.full((600, 600), value, dtype=np.uint8)
        one = Illustration("1.2.3", 0, pixels, marked=marked)
        row = image_in(draw(one, CAPTION), one, CAPTION)[300].astype(int)
        grey = row @ (0.299, 0.587, 0.114)
        assert np.ptp(grey) > 180
        assert grey[[0, 300, -1]] == pytest.approx(value)


def test_a_mask_that_reaches_the_border_has_its_line_inside() -> None:
    whole = np.ones((500, 600), dtype=bool)
    half = whole.copy()
    half[:, 300:] = False
    for marked in (whole, half):
        one = Illustration("1.2.3", 0, np.full(marked.shape, 90, dtype=np.uint8), marked=marked)
        drawn = image_in(draw(one, CAPTION), one, CAPTION)
        height, width = drawn.shape[:2]
        line, dark = (np.all(drawn == colour, axis=2) for colour in ((255, 190, 40), (0, 0, 0)))
        right = width if marked is whole else width // 2
        across = (slice(None), width // 4), (slice(None), right - width // 8)
        for row in (*across, (height // 2, slice(None))):
            assert line[row].sum() == 4
        for row in across:
            assert dark[row][[0, -1]].all() and line[row][[1, 2, -3, -2]].all()
        assert dark[height // 2, 0] and line[height // 2, [1, 2]].all()
        assert not (line | dark)[6:-6, 6 : right - 6].any()


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 300), (499, 599), (1, 2)])
def test_a_spot_at_the_border_has_its_line(row: int, column: int) -> None:
    marked = np.zeros((500, 600), dtype=bool)
    marked[row, column] = True
    one = Illustration("1.2.3", 0, np.full(marked.shape, 90, dtype=np.uint8), marked=marked)
    drawn = image_in(draw(one, CAPTION), one, CAPTION)
    assert np.all(drawn == (255, 190, 40), axis=2).sum() >= 7


def test_one_pixel_of_a_large_film_is_still_surrounded() -> None:
    marked = np.zeros((3000, 2500), dtype=bool)
    marked[1501, 1203] = True
    one = Illustration("1.2.3", 0, np.full(marked.shape, 90, dtype=np.uint8), marked=marked)
    drawn = image_in(draw(one, CAPTION), one, CAPTION)
    assert 8 <= np.all(drawn == (255, 190, 40), axis=2).sum() <= 40


def test_the_legend_says_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = np.zeros((64, 64), dtype=bool)
    marked[3, 4] = True
    assert legend(picture(64, 64)) == ""
    assert legend(picture(64, 64, looked=True)).startswith("Warm tint")
    assert legend(replace(picture(64, 64, looked=True), marked=marked)).startswith("Line")
