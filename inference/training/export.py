"""A trained reader as a bundle; `card` writes what it is and what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import torch

from ..bundle import open_bundle
from ..bundle_writing import write_bundle
from ..reading import Code
from .card import Trained, model_card
from .naming import NOBODY
from .recipes import Recipe

__all__ = ["Trained", "export", "metadata_of", "model_card", "preread_section"]


def export(out: Path, trained: Trained, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Write the bundle of `trained` to the folder `out`.

    Raises
    ------
    BundleError
        If what was written cannot be opened.
    """
    recipe = trained.recipe
    head = trained.sequence.head.state_dict() if trained.sequence else None

    def write(card: str) -> None:
        write_bundle(
            out,
            name=trained.naming.name,
            version=trained.naming.version,
            network_def=recipe.network_def,
            state_dict=state_dict,
            preread=preread_section(trained),
            metadata=metadata_of(trained),
            card=card,
            half=True,
            sequence=head,
        )

    # The card names the hash of the weights, so the weights come first.
    write("")
    write(model_card(trained, open_bundle(out)))


def preread_section(trained: Trained) -> dict[str, Any]:
    """Return ``configs/preread.json`` of a trained reader."""
    recipe = trained.recipe
    labels = []
    for output in recipe.served:
        label = recipe.labels[output]
        limits = trained.thresholds[label.name]
        labels.append(
            {
                "name": label.name,
                "output": output,
                "code": _code(label.code),
                "site": _code(label.site),
                "thresholds": {"low": limits.low, "high": limits.high},
            }
        )
    section = {
        "input": recipe.spec.to_dict(),
        "labels": labels,
        "activation": "sigmoid",
        "primary": labels[0]["name"],
        "pooling": recipe.pooling.to_dict(),
        "suitability": recipe.suitability.to_dict(),
    }
    return section | ({"sequence": trained.sequence.spec.to_dict()} if trained.sequence else {})


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def metadata_of(trained: Trained) -> dict[str, Any]:
    """Return what MONAI's specification asks for in ``configs/metadata.json``, and who made it.

    ``prevalence``, the share of the images learnt from that have each label, stands there where
    images of patients were learnt from (`evaluation.submission.prior_of`).
    """
    naming = trained.naming
    made = {
        "changelog": {naming.version: "trained"},
        "authors": ", ".join(naming.authors) or NOBODY,
        "copyright": f"of its authors: {', '.join(naming.authors) or NOBODY}",
        "manufacturer": naming.manufacturer,
    }
    learnt = {"prevalence": dict(trained.prevalence)} if trained.prevalence else {}
    return {**_format_of(trained.recipe), **made, **learnt}


def _format_of(recipe: Recipe) -> dict[str, Any]:
    channels = recipe.spec.channels
    size = recipe.spec.size
    return {
        "monai_version": installed("monai"),
        "pytorch_version": installed("torch").split("+")[0],
        "numpy_version": installed("numpy"),
        "required_packages_version": {},
        "task": recipe.title,
        "description": f"{recipe.title}: a demonstration, not for clinical use.",
        "intended_use": "Demonstration and tests; not for clinical use.",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": channels,
                    "spatial_shape": [size, size],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {str(index): "intensity" for index in range(channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "num_channels": len(recipe.labels),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {str(i): label.name for i, label in enumerate(recipe.labels)},
                }
            },
        },
    }
