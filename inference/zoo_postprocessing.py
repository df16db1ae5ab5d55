"""Postprocessing of a bundle of MONAI's Model Zoo: what a reader does of it. Light: no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .zoo_transforms import transform_name

# Postprocessing that writes files, turns a map back to its image, or is what thresholds are for.
_NOTHING_AFTER = {
    "Activations", "AsDiscrete", "Invert", "SaveImage", "EnsureType", "ToTensor", "Identity",
    "CopyItems", "DeleteItems", "SelectItems",
}  # fmt: skip


def require_nothing_else(after: Sequence[Mapping[str, Any]], ignored: Collection[str]) -> None:
    """Refuse postprocessing that this node does not do, but for what is left out on purpose.

    Parameters
    ----------
    after : sequence of mapping
        The transforms, as plain values.
    ignored : collection of str
        Names of transforms that are left out.

    Raises
    ------
    ValueError
        If there is some; the message names it and says how it is left out.
    """
    for one in after:
        name, written = transform_name(one), str(one.get("_target_", "")).rpartition(".")[2]
        if name not in _NOTHING_AFTER and not {name, written} & set(ignored):
            raise ValueError(
                f"postprocessing {written} is not done by this node; leave it out knowingly with "
                f'ignore = ["{written}"] under its [[model]]'
            )
        threshold = _first(one.get("threshold")) if name == "AsDiscrete" else None
        chosen = threshold is not None and threshold is not False and threshold != 0.5
        if chosen and not {name, written} & set(ignored):
            raise ValueError(
                f"postprocessing {written} has the threshold {threshold!r}, not 0.5; give labels "
                f'their thresholds by [[model.label]], and ignore = ["{written}"] under its '
                "[[model]]"
            )


def activation_of(after: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the activation after the network; None if nothing tells."""
    for one in after:
        if transform_name(one) == "Activations":
            for name in ("softmax", "sigmoid"):
                if _first(one.get(name)):
                    return name
    return "softmax" if takes_highest(after) else None


def takes_highest(after: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the highest of all outputs is taken: only one can be true of a place."""
    return any(transform_name(one) == "AsDiscrete" and _first(one.get("argmax")) for one in after)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value
