"""Who is learnt from, who chooses thresholds, who is measured on: never one patient for two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError
from ..extras import installed_by

Groups = NDArray[np.int64]

# Iterative stratification follows the shares of the labels, and of three patients with a rare one
# can leave none to learn from. So many seeds are tried at most, a fixed distance apart: one split
# of 18,938 patients takes a second and a half.
_TRIES, _APART = 20, 1_000


def split(
    groups: Groups,
    labels: NDArray[np.uint8],
    shares: Mapping[str, float],
    seed: int,
    stratified: bool,
) -> dict[str, NDArray[np.int64]]:
    """Return the images of each held-out part, and of ``training`` what remains.

    Parameters
    ----------
    groups : ndarray of int64, (images,)
        Whoever must not be on two sides: patients or studies.
    labels : ndarray of uint8, (images, labels)
    shares : mapping of str to float
        Of the groups, for each part that is held out; the first is taken first.
    seed : int
        The same seed gives the same parts.
    stratified : bool
        By iterative stratification of the labels (Sechidis et al. 2011), a group having each label
        that one of its images has; else purely at random. Of some seeds that follow from `seed`,
        beginning with it, the first counts by which training has every outcome of every label that
        two groups have, and ``validation``, if it is held out, each that three have; without any
        such seed the one by which training lacks the fewest, then validation, then the first.

    Returns
    -------
    dict of str to ndarray of int64
        Rows in ascending order.

    Raises
    ------
    InferenceError
        If there are too few groups for so many parts.
    """
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) <= len(shares):
        raise InferenceError(
            f"{len(names)} patients or studies cannot be split into {len(shares) + 1} parts"
        )
    of_groups = any_label(codes, labels)
    if not stratified:
        return _parts(codes, of_groups, shares, seed, stratified)
    # Of each group: the outcomes that its images have, with each label and without it.
    outcomes = any_label(codes, np.column_stack([labels, 1 - labels]))
    best: tuple[tuple[int, int], dict[str, NDArray[np.int64]]] | None = None
    for attempt in range(_TRIES):
        parts = _parts(codes, of_groups, shares, seed + _APART * attempt, stratified)
        lacking = _lacking(parts, codes, outcomes)
        if best is None or lacking < best[0]:
            best = lacking, parts
        if not any(lacking):
            break
    assert best is not None, "the first seed gives parts"
    return best[1]


def _lacking(
    parts: Mapping[str, NDArray[np.int64]], codes: Groups, outcomes: NDArray[np.uint8]
) -> tuple[int, int]:
    """Return how many outcomes training lacks that two groups have, and validation of three."""
    having = outcomes.sum(axis=0, dtype=np.int64)

    def absent(part: str, least: int) -> int:
        if part not in parts:
            return 0
        there = outcomes[np.unique(codes[parts[part]])].any(axis=0)
        return int((~there & (having >= least)).sum())

    return absent("training", 2), absent("validation", 3)


def _parts(
    codes: Groups,
    of_groups: NDArray[np.uint8],
    shares: Mapping[str, float],
    seed: int,
    stratified: bool,
) -> dict[str, NDArray[np.int64]]:
    count_of_groups = len(of_groups)
    left = np.arange(count_of_groups)
    parts: dict[str, NDArray[np.int64]] = {}
    for number, (part, share) in enumerate(shares.items()):
        most = len(left) - (len(shares) - number)
        count = min(most, max(1, round(share * count_of_groups)))
        held = (
            _stratified(of_groups[left], count, seed + number)
            if stratified
            else np.random.default_rng([seed, 11, number]).permutation(len(left))[:count]
        )
        chosen = left[held]
        parts[part] = np.flatnonzero(np.isin(codes, chosen))
        left = np.setdiff1d(left, chosen)
    return {"training": np.flatnonzero(np.isin(codes, left)), **parts}


def any_label(codes: Groups, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the labels of groups 0, 1, ...: each that one of its images has."""
    of_groups = np.zeros((int(codes.max()) + 1, labels.shape[1]), np.uint8)
    np.maximum.at(of_groups, codes, labels)
    return of_groups


def _stratified(labels: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.int64]:
    try:
        from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
    except ImportError as error:
        raise InferenceError(
            f"a stratified split needs iterative-stratification: {installed_by('train')}, or split "
            "at random"
        ) from error
    # With a column for none of them the negatives are spread as evenly; two columns at least.
    none = (labels.max(axis=1) == 0).astype(np.uint8)
    told = np.column_stack([labels, none])
    splitter = MultilabelStratifiedShuffleSplit(1, test_size=count, random_state=seed)
    _, held = next(splitter.split(np.zeros(len(told)), told))
    # It approximates the size; a few groups can end up with none or all.
    if not 0 < len(held) < len(labels):
        return np.random.default_rng([seed, 12]).permutation(len(labels))[:count]
    return np.asarray(held, dtype=np.int64)


def describe(
    parts: Mapping[str, NDArray[np.int64]],
    groups: Groups,
    labels: NDArray[np.uint8],
    names: Sequence[str],
) -> list[dict[str, object]]:
    """Return a row for each part: patients, images, and how many patients have each label."""
    rows: list[dict[str, object]] = []
    for part, chosen in parts.items():
        codes = np.unique(groups[chosen], return_inverse=True)[1]
        positive = any_label(codes, labels[chosen]).sum(axis=0, dtype=np.int64)
        counts = dict(zip(names, map(int, positive), strict=True))
        rows.append({"part": part, "groups": int(codes.max()) + 1, "images": len(chosen), **counts})
    return rows
