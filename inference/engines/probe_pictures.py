"""Drawn chests and heads, brought to a network as real images are, to compare two engines on.

What a network gives for noise says little of what it gives for pictures. Drawing takes a second,
and torch: for the time when a network is exported, once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ..bundle import Bundle
from ..preprocess import prepare_ct, prepare_radiograph

_CPU = torch.device("cpu")
_SIZE = 256
# A picture of 12 bits, and a head at three heights in a field of view of 25 cm.
_FULL_RANGE = (0.0, 4095.0)
_SEED, _HEIGHTS_MM, _SPACING_MM = 6, (0.0, 25.0, 50.0), 250 / _SIZE


def probe_pictures(bundle: Bundle) -> NDArray[np.float32]:
    """Return pictures through the preprocessing of a bundle of images or slices.

    Returns
    -------
    ndarray of float32, (rows, channels, size, size)
        Two chests, or three slices of a head.
    """
    spec = bundle.spec
    if spec.kind == "radiograph":
        made = [
            prepare_radiograph(values, spec, _CPU, full_range=_FULL_RANGE) for values in _chests()
        ]
    else:
        # One by one: slices may be cut out differently.
        made = [prepare_ct(hu[None], spec, _CPU) for hu in _heads()]
    return np.concatenate([np.asarray(one, dtype=np.float32) for one in made])


def _chests() -> Iterator[NDArray[np.float32]]:
    from ..training.phantoms import Chest

    for seed in (_SEED, _SEED + 1):
        picture = Chest.draw(seed).radiograph(_SIZE)
        yield np.rint(picture * _FULL_RANGE[1]).astype(np.float32)


def _heads() -> Iterator[NDArray[np.float32]]:
    from ..training.phantoms import Grid, Head, Scanner

    draw = np.random.default_rng(_SEED)
    head, scanner = Head.draw(draw), Scanner.draw(draw)
    grid = Grid.centred(_SIZE, _SPACING_MM)
    for height in _HEIGHTS_MM:
        yield scanner.acquire(head.slice(grid, height).hu, _SPACING_MM, draw).astype(np.float32)
