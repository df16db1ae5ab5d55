"""The steps of `intensity_spec` on tensors, as MONAI's transforms compute them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .intensity_spec import Intensity, Pair


def apply(values: torch.Tensor, steps: Sequence[Intensity]) -> torch.Tensor:
    """Return values after all steps.

    Parameters
    ----------
    values : Tensor of float32
        A whole image or volume: statistics are taken over all of it.
    steps : sequence of Intensity
    """
    for step in steps:
        values = _STEPS[step.kind](values, step)
    return values


def _range(values: torch.Tensor, step: Intensity) -> torch.Tensor:
    assert step.source is not None, "a range has a source"
    return _scaled(values, step.source, step)


def _percentiles(values: torch.Tensor, step: Intensity) -> torch.Tensor:
    assert step.source is not None, "percentiles have a source"
    ordered = values.flatten().sort().values
    low, high = (_percentile(ordered, share) for share in step.source)
    return _scaled(values, (low, high), step)


def _percentile(ordered: torch.Tensor, share: float) -> float:
    """Interpolate between ranks, as NumPy does; torch's own function takes 16 million values."""
    rank = share / 100.0 * (ordered.numel() - 1)
    below = int(rank)
    above = min(below + 1, ordered.numel() - 1)
    first, second = float(ordered[below]), float(ordered[above])
    return first + (second - first) * (rank - below)


def _minmax(values: torch.Tensor, step: Intensity) -> torch.Tensor:
    low, high = float(values.min()), float(values.max())
    return _scaled(values, (low, high), step)


def _scaled(values: torch.Tensor, source: Pair, step: Intensity) -> torch.Tensor:
    (low, high), (bottom, top) = source, step.target
    if not high > low:  # an image of one value
        return torch.full_like(values, bottom)
    scaled = (values - low) / (high - low) * (top - bottom) + bottom
    return scaled.clamp(bottom, top) if step.clip else scaled


def _standardize(values: torch.Tensor, step: Intensity) -> torch.Tensor:
    counted = values[values != 0] if step.nonzero else values
    if counted.numel() == 0:
        return values
    mean = float(counted.double().mean()) if step.mean is None else step.mean
    deviation = step.deviation
    if deviation is None:
        deviation = float(counted.double().std(unbiased=False)) or 1.0
    changed = (values - mean) / deviation
    return torch.where(values != 0, changed, values) if step.nonzero else changed


_STEPS = {
    "range": _range,
    "minmax": _minmax,
    "percentiles": _percentiles,
    "standardize": _standardize,
}
