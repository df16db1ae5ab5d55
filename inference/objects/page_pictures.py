"""Key images on the page of a report, with maps of where the model looked to be switched on.

No script: radio buttons choose what is laid over a picture, and style sheets do the rest.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..explanation import Explanation
from .overlay import tint

# Longest side in pixels.
_LONGEST: Final = 512
_QUALITY: Final = 88
STYLE: Final = """
figure.looked { margin: 1rem 0 } figure.looked figcaption { color: #4a5560 }
figure.looked label { display: block; margin-left: 1.6rem }
figure.looked input { float: left; margin-top: .35rem }
figure.looked .view { position: relative; margin-top: .5rem; max-width: 100%; background: #000 }
figure.looked img { display: block; width: 100%; height: 100% }
figure.looked img.map { position: absolute; top: 0; left: 0; display: none }
"""
_SAID: Final = (
    "What spoke for a finding, and where. A map is no segmentation: the tint fades out and shows"
    " no edge of a finding, and it is as coarse as its cells. What is a quarter of its highest"
    " value or less is not shown."
)


@dataclass(frozen=True, slots=True, eq=False)
class PagePicture:
    """One frame, and the maps that there are of it.

    Attributes
    ----------
    sop_instance_uid : str
    frame : int
        From 0.
    pixels : ndarray of uint8, (rows, columns), or None
        Black is 0; None if the image cannot be shown.
    pixel_aspect : float
        Height of a pixel over its width.
    window : str
        How it was windowed.
    maps : tuple of Explanation
    meanings : mapping of str to str
        What people call a label; one that is not in it is called by its name.
    """

    sop_instance_uid: str
    frame: int
    pixels: NDArray[np.uint8] | None
    maps: tuple[Explanation, ...]
    pixel_aspect: float = 1.0
    window: str = ""
    meanings: Mapping[str, str] = field(default_factory=dict)

    def named(self, one: Explanation) -> str:
        """Return what a map is of, and how it was made."""
        weak = "" if one.is_shown else ": no place speaks for it enough to be shown"
        return f"{self.meanings.get(one.label, one.label)}: {one.caption}{weak}"


def looked(pictures: Sequence[PagePicture], at_mm: Mapping[str, float]) -> Iterator[str]:
    """Yield the part of a page that shows where the model looked; nothing without pictures.

    Parameters
    ----------
    pictures : sequence of PagePicture
    at_mm : mapping of str to float
        Position of slices by SOP Instance UID, where the report has it.
    """
    if not pictures:
        return
    yield f"<h2>Where the model looked</h2><p>{_SAID}</p>"
    for number, picture in enumerate(pictures, 1):
        yield from _figure(f"p{number}", picture, at_mm.get(picture.sop_instance_uid))


def _figure(name: str, picture: PagePicture, at_mm: float | None) -> Iterator[str]:
    yield '<figure class="looked">'
    yield f"<figcaption>{_caption(picture, at_mm)}</figcaption>"
    if picture.pixels is None:
        yield "".join(f"<p>{escape(picture.named(one))}</p>" for one in picture.maps)
        yield "<p>The image itself cannot be shown.</p></figure>"
        return
    rules = "".join(
        f"#{name}-{n}:checked ~ .view .m{n} {{ display: block }} "
        for n in range(1, len(picture.maps) + 1)
    )
    yield f"<style>{rules}</style>"
    # The first map is shown; later ones were asked for.
    for n, one in enumerate(picture.maps, 1):
        yield _choice(name, n, picture.named(one), checked=n == 1)
    yield _choice(name, 0, "the image alone", checked=not picture.maps)
    rows, columns = shape = _shape(picture)
    yield f'<div class="view" style="width: {columns}px; aspect-ratio: {columns} / {rows}">'
    grey = Image.fromarray(picture.pixels).resize((columns, rows), Image.Resampling.LANCZOS)
    yield f'<img alt="the image" src="{_data(grey, "JPEG")}">'
    for n, one in enumerate(picture.maps, 1):
        layer = tint(one.over_source(), shape)
        alt = escape(picture.named(one))
        yield f'<img class="map m{n}" alt="{alt}" src="{_data(layer, "PNG")}">'
    yield "</div></figure>"


def _caption(picture: PagePicture, at_mm: float | None) -> str:
    parts = [f"<code>{escape(picture.sop_instance_uid)}</code>"]
    if picture.frame:
        parts.append(f"frame {picture.frame + 1}")
    if at_mm is not None:
        parts.append(f"at {at_mm:.1f} mm")
    if picture.window:
        parts.append(f"window {escape(picture.window)}")
    return ", ".join(parts)


def _choice(name: str, number: int, text: str, *, checked: bool) -> str:
    key = f"{name}-{number}"
    state = " checked" if checked else ""
    return (
        f'<input type="radio" name="{name}" id="{key}"{state}>'
        f'<label for="{key}">{escape(text)}</label>'
    )


def _shape(picture: PagePicture) -> tuple[int, int]:
    assert picture.pixels is not None, "only what can be shown has a shape"
    rows, columns = picture.pixels.shape
    height = rows * picture.pixel_aspect
    scale = _LONGEST / max(height, columns)
    return max(1, round(height * scale)), max(1, round(columns * scale))


def _data(image: Image.Image, form: str) -> str:
    file = io.BytesIO()
    image.save(file, form, **({"quality": _QUALITY} if form == "JPEG" else {"optimize": True}))
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/{form.lower()};base64,{content}"
