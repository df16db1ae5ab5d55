"""Stored explanations as pictures of a page: the images are decoded, no network is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from db.explanations import ExplanationRecord

from .errors import ODD_DATA, InferenceError
from .image_file import open_image
from .image_view import ImageView, view_of, window_named
from .objects.page_pictures import PagePicture
from .stored_explanations import explanation_of, window_of


def page_pictures(
    records: Sequence[ExplanationRecord],
    path_of: Callable[[str], Path | None],
    meanings: Mapping[str, str],
) -> tuple[PagePicture, ...]:
    """Return the pictures of an analysis, in the order in which they were made.

    Parameters
    ----------
    records : sequence of ExplanationRecord
    path_of : callable
        Gives the file of an image by its SOP Instance UID; None where there is none.
    meanings : mapping of str to str
        What people call a label.

    Raises
    ------
    InferenceError
        If a stored map is damaged.
    """
    order = list(dict.fromkeys(map(_frame, records)))
    sorted_records = sorted(records, key=lambda one: order.index(_frame(one)))
    pictures = []
    for (uid, frame), group in groupby(sorted_records, key=_frame):
        mine = list(group)
        window = window_of(mine[0])
        shown = _view(path_of(uid), frame, window)
        pictures.append(
            PagePicture(
                sop_instance_uid=uid,
                frame=frame,
                pixels=None if shown is None else shown.pixels,
                maps=tuple(map(explanation_of, mine)),
                meanings=meanings,
                pixel_aspect=1.0 if shown is None else shown.pixel_aspect,
                window=window,
            )
        )
    return tuple(pictures)


def _frame(record: ExplanationRecord) -> tuple[str, int]:
    return record.sop_instance_uid, record.frame


def _view(path: Path | None, frame: int, window: str) -> ImageView | None:
    """Return an image as it was shown; None if it cannot be: the page says the rest without it."""
    if path is None:
        return None
    try:
        dataset = open_image(path)
        # The text of a window ends with its centre and width.
        wanted = window_named(window.split()[-1], dataset, frame) if window else None
        return view_of(dataset, frame, wanted)
    except (InferenceError, *ODD_DATA):
        return None
