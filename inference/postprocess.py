"""From probabilities to findings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .reading import Finding, Label, Presence, Scope

Probabilities = NDArray[np.float64]


def image_findings(
    bundle: Bundle, uids: Sequence[str], probabilities: Probabilities
) -> tuple[Finding, ...]:
    """Return each label of each image; frames of one image count as their highest.

    Parameters
    ----------
    bundle : Bundle
    uids : sequence of str
        SOP Instance UID of each row; an image of several frames has several rows.
    probabilities : ndarray, (rows, labels)

    Returns
    -------
    tuple of Finding
        In the order of the rows, of IMAGE scope.
    """
    return tuple(
        _of_image(label, uid, float(row[column]))
        for uid, row in _per_image(uids, probabilities).items()
        for column, label in enumerate(bundle.labels)
    )


def series_findings(
    bundle: Bundle,
    uids: Sequence[str],
    positions_mm: NDArray[np.float64],
    probabilities: Probabilities,
    of_whole: NDArray[np.float64] | None = None,
) -> tuple[Finding, ...]:
    """Return what a series of slices says.

    First every label at SERIES scope: the maximum of the smoothed probabilities, or what a head
    over the slices says, with the slices that show it best unless it is absent. Then at IMAGE scope
    the primary label of every slice, and the other labels of the slices that are key for the
    primary one: all labels of all slices of a thin series would be thousands of rows that nobody
    asks for.

    Parameters
    ----------
    bundle : Bundle
    uids : sequence of str
        SOP Instance UID of each slice, in the order of position.
    positions_mm : ndarray, (slices,)
    probabilities : ndarray, (slices, labels)
    of_whole : ndarray, (labels,), optional
        What a head over the slices says of the series (`sequence.Sequencer`).
    """
    smoothed = bundle.pooling.smooth(probabilities, positions_mm)
    whole = whole_series(smoothed, of_whole)
    of_series = [
        _of_series(
            bundle, label, uids, float(whole[column]), smoothed[:, column], probabilities[:, column]
        )
        for column, label in enumerate(bundle.labels)
    ]
    key = {uid for f in of_series if f.label.name == bundle.primary for uid in _keys(f)}
    of_images = [
        _of_image(label, uid, float(row[column]))
        for uid, row in _per_image(uids, probabilities).items()
        for column, label in enumerate(bundle.labels)
        if label.name == bundle.primary or uid in key
    ]
    return (*of_series, *of_images)


def whole_series(smoothed: Probabilities, of_whole: NDArray[np.float64] | None) -> Probabilities:
    """Return the probabilities of the series, (labels,): of the head, or else the highest."""
    return smoothed.max(axis=0) if of_whole is None else of_whole


def key_rows(
    bundle: Bundle,
    label: Label,
    smoothed: NDArray[np.float64],
    single: NDArray[np.float64],
) -> list[int]:
    """Return the slices that show a label best, best first; frames of one image count singly.

    Parameters
    ----------
    bundle : Bundle
    label : Label
    smoothed, single : ndarray, (slices,)
        Its probabilities with and without those of the neighbours.
    """
    return _ranked(label, smoothed, single)[: bundle.pooling.key_slices]


def _ranked(label: Label, smoothed: NDArray[np.float64], single: NDArray[np.float64]) -> list[int]:
    # Of equally smoothed neighbours the one that scored itself comes first, then the lower.
    ranked = np.lexsort((np.arange(len(single)), -single, -smoothed.round(6)))
    # A head over the slices may find what no slice says alone: the likeliest is shown then.
    lowest = min(label.thresholds.low, float(smoothed.max()))
    return [int(i) for i in ranked if smoothed[i] >= lowest]


def _of_series(
    bundle: Bundle,
    label: Label,
    uids: Sequence[str],
    probability: float,
    smoothed: NDArray[np.float64],
    single: NDArray[np.float64],
) -> Finding:
    shown: list[str] = []
    if label.thresholds.presence(probability) is not Presence.ABSENT:
        ranked = _ranked(label, smoothed, single)
        shown = list(dict.fromkeys(uids[i] for i in ranked))[: bundle.pooling.key_slices]
    return Finding(label, Scope.SERIES, probability, key_sop_instance_uids=tuple(shown))


def _of_image(label: Label, uid: str, probability: float) -> Finding:
    finding = Finding(label, Scope.IMAGE, probability, sop_instance_uid=uid)
    if finding.presence is Presence.ABSENT:
        return finding
    return Finding(label, Scope.IMAGE, probability, uid, key_sop_instance_uids=(uid,))


def _keys(finding: Finding) -> tuple[str, ...]:
    return finding.key_sop_instance_uids


def _per_image(uids: Sequence[str], probabilities: Probabilities) -> dict[str, Probabilities]:
    highest: dict[str, Probabilities] = {}
    for uid, row in zip(uids, probabilities, strict=True):
        highest[uid] = np.maximum(highest[uid], row) if uid in highest else row
    return highest
