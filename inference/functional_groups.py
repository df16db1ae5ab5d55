"""Attributes of an image and of one frame, which has functional groups (PS3.3 C.7.6.16)."""

from __future__ import annotations

from typing import Any

from pydicom import Dataset


def frame_element(dataset: Dataset, index: int, group: str, keyword: str) -> Any:
    """Return the value of an attribute for one frame.

    The frame's own functional group is asked first, then the shared one, then the data set itself,
    where images that are not enhanced keep it.

    Parameters
    ----------
    dataset : Dataset
        The image.
    index : int
        Frame, from 0.
    group : str
        Keyword of the functional group sequence, e.g. ``PlanePositionSequence``.
    keyword : str
        Keyword of the attribute, e.g. ``ImagePositionPatient``.

    Returns
    -------
    object or None
        The value; None where it is absent or empty everywhere.
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    candidates = [per_frame[index]] if index < len(per_frame) else []
    candidates += list(shared[:1])
    for functional_groups in candidates:
        items = functional_groups.get(group)
        if items and (value := element(items[0], keyword)) is not None:
            return value
    return element(dataset, keyword)


def element(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an attribute; None where it is absent, empty or not of its VR.

    Values are parsed when they are asked for: one bad decimal string in a header must not end the
    reading of an image that does not depend on it.
    """
    try:
        value = dataset.get(keyword)
    except (ValueError, TypeError, OverflowError, NotImplementedError):
        return None
    empty = value is None or (hasattr(value, "__len__") and len(value) == 0)
    return None if empty else value
