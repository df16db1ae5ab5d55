"""From phantoms or labelled files to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle.config_parser import ConfigParser
from numpy.typing import NDArray
from torch import nn

from ..errors import InferenceError
from ..reading import Thresholds
from .evaluate import Evaluation, choose_thresholds, evaluate
from .export import Trained, export
from .fit import EpochReport, OnEpoch, fit, predict
from .layouts import file_samples, read_labels
from .phantom_samples import draw_many
from .pretrained import load_start
from .recipes import Recipe, TrainSettings, recipe_named
from .samples import Samples

__all__ = ["EpochReport", "TrainSettings", "train"]

# Seeds of held-out phantoms lie so far from those of training that they never meet.
_SEEDS = 1_000_000
_VALIDATION, _TEST = 500_000, 700_000


@dataclass(frozen=True, slots=True)
class _Data:
    """What is learnt from, what thresholds are chosen on, what is measured on."""

    training: Samples
    validation: Samples
    test: Samples
    origin: str
    by_series: bool


def train(
    model_name: str,
    out: Path,
    *,
    data: Path | None = None,
    labels: Path | None = None,
    phantoms: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    start: str | None = None,
    settings: TrainSettings | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train a reader and write it as a bundle.

    Parameters
    ----------
    model_name : str
        ``pneumothorax`` or ``hemorrhage``.
    out : Path
        Folder of the bundle.
    data, labels : Path, optional
        Folder of DICOM files and the table of their labels (`layouts.read_labels`); without them
        phantoms are drawn.
    phantoms, epochs, seed, device, start : optional
        Override the settings.
    settings : TrainSettings, optional
        Those of the recipe if left out.
    on_epoch : callable, optional
        Called after each epoch.

    Returns
    -------
    Trained
        Figures and thresholds, as in the model card.

    Raises
    ------
    InferenceError
        If there is no such recipe, or files, labels or weights to start from cannot be used.
    """
    recipe = recipe_named(model_name)
    given: dict[str, Any] = {
        "phantoms": phantoms,
        "epochs": epochs,
        "seed": seed,
        "device": device,
        "start": start,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    chosen = replace(settings or recipe.settings, **overrides)
    known = _phantoms(recipe, chosen) if data is None else _files(recipe, chosen, data, labels)
    torch.manual_seed(chosen.seed)
    network = _network(recipe)
    origin = load_start(network, chosen.start)
    report = on_epoch or (lambda _: None)
    fit(network, known.training, known.validation, recipe, chosen, report, origin.head_first)
    # Thresholds and figures are those of the weights as they are stored.
    network.half().float()
    trained = _measured(recipe, chosen, network, known, origin.description)
    export(out, trained, network.state_dict())
    return trained


def _phantoms(recipe: Recipe, settings: TrainSettings) -> _Data:
    base = _SEEDS * settings.seed
    spec, workers = recipe.spec, settings.workers

    def held_out(first: int, count: int) -> Samples:
        seeds = range(base + first, base + first + count)
        return Samples.of(draw_many(recipe.draw_held_out, seeds, spec, workers))

    seeds = range(base, base + settings.phantoms)
    return _Data(
        training=Samples.of(draw_many(recipe.draw_training, seeds, spec, workers)),
        validation=held_out(_VALIDATION, settings.validation),
        test=held_out(_TEST, settings.test),
        origin="phantoms",
        by_series=recipe.scope == "series",
    )


def _files(recipe: Recipe, settings: TrainSettings, data: Path, labels: Path | None) -> _Data:
    if labels is None:
        raise InferenceError("training from files needs their labels too: give the table (CSV)")
    names = [label.source for label in recipe.labels]
    files = read_labels(labels, data, names)
    try:
        samples = Samples.of(file_samples(files, recipe.spec))
        training, validation = samples.split(settings.validation_share, settings.seed)
    except ValueError as error:
        raise InferenceError(f"{data}: {error}") from error
    return _Data(training, validation, validation, origin="files", by_series=False)


def _network(recipe: Recipe) -> nn.Module:
    parser = ConfigParser({"network_def": dict(recipe.network_def)})
    network = parser.get_parsed_content("network_def")
    assert isinstance(network, nn.Module)
    return network


def _measured(
    recipe: Recipe, settings: TrainSettings, network: nn.Module, data: _Data, start: str
) -> Trained:
    device = torch.device(settings.device)
    scores, truth = _units(recipe, network, data.validation, data.by_series, device)
    thresholds = {
        label.name: choose_thresholds(scores[:, column], truth[:, column])
        for column, label in enumerate(recipe.labels)
    }
    scores, truth = _units(recipe, network, data.test, data.by_series, device)
    image_scores, image_truth = _units(recipe, network, data.test, False, device)
    return Trained(
        recipe=recipe,
        settings=settings,
        origin=data.origin,
        start=start,
        counts=(len(data.training), len(data.validation), len(data.test)),
        by_series=data.by_series,
        thresholds=thresholds,
        figures=_figures(recipe, scores, truth, thresholds),
        image_figures=_figures(recipe, image_scores, image_truth, thresholds),
    )


def _figures(
    recipe: Recipe,
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    thresholds: Mapping[str, Thresholds],
) -> dict[str, Evaluation]:
    return {
        label.name: evaluate(scores[:, column], truth[:, column], thresholds[label.name])
        for column, label in enumerate(recipe.labels)
    }


def _units(
    recipe: Recipe, network: nn.Module, samples: Samples, by_series: bool, device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores and truth, both (units, labels), of images or of whole series."""
    scores, truth = predict(network, samples.images, device), samples.labels.numpy() > 0.5
    if not by_series:
        return scores, truth
    pooled = []
    for group in np.unique(samples.groups):
        rows = samples.groups == group
        smooth = recipe.pooling.smooth(scores[rows], samples.positions[rows])
        pooled.append((smooth.max(axis=0), truth[rows].any(axis=0)))
    return np.stack([score for score, _ in pooled]), np.stack([found for _, found in pooled])
