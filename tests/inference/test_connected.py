"""Connected parts are those that spreading a number from place to place finds."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from inference.connected import parts_of


def spread(mask: np.ndarray) -> np.ndarray:
    """Label the slow way: the highest number of a part spreads over it."""
    there = torch.from_numpy(mask).float()
    labels = torch.arange(1, mask.size + 1, dtype=torch.float32).reshape(mask.shape) * there
    while True:
        wider = F.max_pool2d(labels[None, None], 3, 1, 1)[0, 0] * there
        if torch.equal(wider, labels):
            return labels.numpy().astype(np.int64)
        labels = wider


def places(mask: np.ndarray) -> frozenset[tuple[int, int]]:
    return frozenset(map(tuple, np.argwhere(mask).tolist()))


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()))
@settings(max_examples=200, deadline=None)
def test_the_parts_are_those_of_spreading(mask: np.ndarray) -> None:
    parts, labels = parts_of(mask), spread(mask)
    found, counts = np.unique(labels[labels > 0], return_counts=True)
    assert len(parts.sizes) == len(found)
    masks = [parts.mask(part, mask.shape) for part in range(len(found))]
    together = {places(one) for one in masks}
    assert together == {places(labels == number) for number in found}
    if not len(found):
        assert parts.largest() is None
        return
    rows, columns = (labels == found[counts.argmax()]).nonzero()
    box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    assert parts.largest() == (counts.max(), box)
