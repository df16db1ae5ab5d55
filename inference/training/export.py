"""A trained reader as a bundle, with a card that says what it is and what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import torch

from ..bundle import open_bundle, write_bundle
from ..reading import Code, Thresholds
from .evaluate import Evaluation
from .recipes import Recipe, TrainSettings


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out of a training.

    Attributes
    ----------
    origin : {"phantoms", "files"}
        What it learnt from.
    start : str
        What it started from, as a sentence.
    counts : tuple of int
        Images for training, validation and test.
    by_series : bool
        Whether `figures` and thresholds are of whole series.
    figures, image_figures : mapping of str to Evaluation
        By label, on the test data.
    """

    recipe: Recipe
    settings: TrainSettings
    origin: str
    start: str
    counts: tuple[int, int, int]
    by_series: bool
    thresholds: Mapping[str, Thresholds]
    figures: Mapping[str, Evaluation]
    image_figures: Mapping[str, Evaluation]


def export(out: Path, trained: Trained, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Write the bundle of `trained` to the folder `out`."""
    recipe = trained.recipe

    def write(card: str) -> None:
        write_bundle(
            out,
            name=recipe.name,
            version=recipe.version,
            network_def=recipe.network_def,
            state_dict=state_dict,
            preread=_preread_section(trained),
            metadata=_metadata(recipe),
            card=card,
            half=True,
        )

    # The card names the hash of the weights, so the weights come first.
    write("")
    write(model_card(trained, open_bundle(out).identity.weights_sha256))


def model_card(trained: Trained, weights_sha256: str) -> str:
    """Return the model card, Markdown."""
    recipe = trained.recipe
    parts = [
        f"# {recipe.title} ({recipe.name} {recipe.version})",
        "For demonstration and for tests of the node. **Not a medical device; not for clinical "
        "use.** No figure below says how it does on patients.",
        "## Training data",
        _data(trained),
        trained.start,
        "## Figures",
        _figures_intro(trained),
        _table(trained.figures, trained.thresholds),
    ]
    if trained.by_series:
        parts += ["Single slices of the same series:", _table(trained.image_figures, None)]
    parts += [
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(trained)),
        "## How it was made",
        _reproduction(trained),
        f"SHA-256 of the weights: `{weights_sha256}`",
    ]
    return "\n\n".join(parts) + "\n"


def _data(trained: Trained) -> str:
    training, validation, test = trained.counts
    recipe, settings = trained.recipe, trained.settings
    if trained.origin == "files":
        return (
            f"{training} images of a labelled data set for training and {validation} of other "
            "patients for validation."
        )
    return (
        f"Only phantoms: {recipe.phantom} images that the project draws by program "
        f"(`inference/training/phantoms`). No image of a patient was used, and nobody read the "
        f"images: their labels are what was painted. Training: {training} images of "
        f"{settings.phantoms} phantoms. Thresholds: {validation} images of {settings.validation} "
        f"other phantoms. Figures: {test} images of {settings.test} further phantoms."
    )


def _figures_intro(trained: Trained) -> str:
    unit = "Whole series" if trained.by_series else "Images"
    where = (
        "held-out phantoms"
        if trained.origin == "phantoms"
        else ("the validation patients, on whom thresholds were chosen too: optimistic")
    )
    return f"{unit} of {where}. Sensitivity and specificity at the upper threshold."


def _limits(trained: Trained) -> list[str]:
    if trained.origin == "files":
        return ["It was measured on one split of one data set."]
    return [
        "Phantoms are far simpler than patients. An AUC near 1 on phantoms says that the program "
        "learnt what the phantoms show, and nothing more.",
        "It was never compared with a radiologist's reading of any image.",
    ]


def _reproduction(trained: Trained) -> str:
    settings = trained.settings
    if trained.origin == "phantoms":
        source = f"--phantoms {settings.phantoms}"
    else:
        source = "--data DIR --labels CSV"
    command = (
        f"OMP_NUM_THREADS={torch.get_num_threads()} preread train {trained.recipe.name} "
        f"--out DIR {source} --epochs {settings.epochs} --seed {settings.seed} "
        f"--start {settings.start}"
    )
    return (
        f"```\n{command}\n```\n\nwith torch {installed('torch')}, MONAI {installed('monai')} and "
        f"numpy {installed('numpy')}, on {settings.device}; other versions, processors or "
        "numbers of threads give slightly other weights."
    )


def _table(figures: Mapping[str, Evaluation], thresholds: Mapping[str, Thresholds] | None) -> str:
    head = "| label | positive | negative | AUC | sensitivity | specificity |"
    head += " Absent below | Present from |" if thresholds else ""
    lines = [head, "| --- " * (head.count("|") - 1) + "|"]
    for name, found in figures.items():
        numbers = (found.auc, found.sensitivity, found.specificity)
        cells = [name, str(found.positives), str(found.negatives), *map(_number, numbers)]
        if thresholds:
            cells += [f"{thresholds[name].low:.3f}", f"{thresholds[name].high:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _preread_section(trained: Trained) -> dict[str, Any]:
    recipe = trained.recipe
    labels = []
    for label in recipe.labels:
        limits = trained.thresholds[label.name]
        labels.append(
            {
                "name": label.name,
                "code": _code(label.code),
                "site": _code(label.site),
                "thresholds": {"low": limits.low, "high": limits.high},
            }
        )
    return {
        "input": recipe.spec.to_dict(),
        "labels": labels,
        "activation": "sigmoid",
        "primary": recipe.labels[0].name,
        "pooling": recipe.pooling.to_dict(),
        "suitability": recipe.suitability.to_dict(),
    }


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _metadata(recipe: Recipe) -> dict[str, Any]:
    channels = recipe.spec.channels
    size = recipe.spec.size
    return {
        "changelog": {recipe.version: "first version"},
        "monai_version": installed("monai"),
        "pytorch_version": installed("torch").split("+")[0],
        "numpy_version": installed("numpy"),
        "required_packages_version": {},
        "task": recipe.title,
        "description": f"{recipe.title}: a demonstration, not for clinical use.",
        "authors": "Preread",
        "copyright": "Preread contributors, Apache-2.0",
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
