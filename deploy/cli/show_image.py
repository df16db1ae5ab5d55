"""``preread show`` for images: header facts and statistics in words, and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom

from ..errors import DeployError

if TYPE_CHECKING:
    from inference.image_view import ImageView

_NO_IMAGES = ("SR", "SEG", "KO", "PR")
_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
# Pictures in a row where several files are shown under one window.
_ACROSS = 4
# What a reader of heads sees of a slice.
_HEAD_WINDOWS = ("brain", "subdural", "soft")


@dataclass(frozen=True, slots=True)
class Look:
    """How images are looked at.

    Attributes
    ----------
    windows : tuple of str
        Names, or ``CENTER/WIDTH``; none for the image's own.
    frame : int
        From 1.
    """

    windows: tuple[str, ...] = ()
    frame: int = 1
    invert: bool = False
    side_by_side: bool = False
    histogram: bool = False

    @property
    def is_asked_for(self) -> bool:
        """Whether anything was asked for that only an image has."""
        return self != Look()


def is_image(ds: pydicom.Dataset) -> bool:
    """Return whether a file is an image, rather than a report, a segmentation or a capture."""
    if "Rows" not in ds or ds.get("Modality") in _NO_IMAGES:
        return False
    capture = str(ds.get("SOPClassUID", "")).startswith(_CAPTURES)
    return not (capture and ds.get("Modality") == "OT")


def describe_image(path: Path, look: Look) -> str:
    """Return what an image is, in words, or its histogram in bars of text.

    Raises
    ------
    InferenceError
        If it cannot be decoded, or there is no such window or frame.
    """
    from inference.header_table import COLUMNS
    from inference.histogram import as_text, value_counts
    from inference.image_file import open_image
    from inference.image_view import window_named
    from inference.pixel_facts import pixel_facts

    dataset = open_image(path)
    if look.histogram:
        return as_text(*value_counts(dataset, _frame(dataset, look)))
    lines = [
        f"{name.replace('_', ' ')}: {value}"
        for name, column in COLUMNS.items()
        if (value := column(dataset)) is not None
    ]
    lines += _windows_in_words(dataset)
    window = window_named(look.windows[0] if look.windows else "brain", dataset)
    facts = pixel_facts(dataset, window)
    unit = " HU" if dataset.get("Modality") == "CT" else ""
    lines.append(
        f"values: {facts.low:g} to {facts.high:g}{unit}, mean {facts.mean:.2f}, standard "
        f"deviation {facts.std:.2f}"
    )
    if look.windows or unit:
        name = f"{window.name} {window.center:g}/{window.width:g}".strip()
        lines.append(f"in window {name}: {facts.share_in_window:.1%} of the pixels")
    if facts.notes:
        lines.append(f"done to pixels: {', '.join(facts.notes)}")
    return "\n".join(lines) + "\n"


def write_image(paths: Sequence[Path], look: Look, out: Path) -> None:
    """Write a picture of one image, or of several windows and files beside each other.

    Raises
    ------
    DeployError
        If the file is to be anything but a PNG, or cannot be written.
    InferenceError
        If an image cannot be decoded, or there is no such window or frame.
    """
    from inference.contact_sheet import alone, contact_sheet
    from inference.histogram import write_plot
    from inference.image_file import open_image
    from inference.image_view import window_named

    if out.suffix.lower() != ".png":
        raise DeployError(f"{out}: an image is written as .png")
    try:
        if look.histogram:
            dataset = open_image(paths[0])
            windows = [window_named(name, dataset) for name in look.windows]
            write_plot(out, dataset, _frame(dataset, look), windows)
            return
        views = list(_views(paths, look))
        if len(views) == 1 and not look.side_by_side:
            alone(views[0][1]).save(out)
            return
        windows_each = len(views) // len(paths)
        across = windows_each if windows_each > 1 else _ACROSS
        contact_sheet(views, across).save(out)
    except OSError as error:
        raise DeployError(f"{out} cannot be written: {error.strerror or error}") from None


def _views(paths: Sequence[Path], look: Look) -> Iterator[tuple[str, ImageView]]:
    from inference.image_file import open_image
    from inference.image_view import view_of, window_named

    for path in paths:
        dataset = open_image(path)
        frame = _frame(dataset, look)
        for name in look.windows or _usual(dataset, look, len(paths)):
            window = None if name is None else window_named(name, dataset, frame)
            yield path.stem if len(paths) > 1 else "", view_of(dataset, frame, window, look.invert)


def _usual(dataset: pydicom.Dataset, look: Look, files: int) -> Sequence[str | None]:
    """Return the windows of an image for which none was asked: its own, or those of heads."""
    if look.side_by_side and files == 1 and dataset.get("Modality") == "CT":
        return _HEAD_WINDOWS
    return (None,)


def _frame(dataset: pydicom.Dataset, look: Look) -> int:
    """Return the frame from 0."""
    from inference.image_file import frame_count

    count = frame_count(dataset)
    if not 1 <= look.frame <= count:
        raise DeployError(f"there is no frame {look.frame}; the image has {count}")
    return look.frame - 1


def _windows_in_words(dataset: pydicom.Dataset) -> Iterator[str]:
    from inference.image_view import header_windows

    for window in header_windows(dataset):
        name = f" ({window.name})" if window.name else ""
        yield f"window of the header: {window.center:g}/{window.width:g}{name}"
