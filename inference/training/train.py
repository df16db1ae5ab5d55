"""From phantoms or labelled files to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from monai.bundle.config_parser import ConfigParser
from torch import nn

from ..errors import InferenceError
from .checkpoint import RunFolder
from .data import Data, file_data, phantom_data
from .export import Trained, export
from .fit import INFERENCE_BATCH, EpochReport, Watch, fit
from .job import Job, default_run
from .learning_rate import find_learning_rate
from .measured import figures_of, image_units, log_loss_of, series_units, thresholds_of
from .naming import Naming
from .normalisation import gather_statistics
from .plots import plot_epochs, plot_learning_rate
from .pretrained import Start, load_start
from .processes import Pool
from .progress import Listener, ending, write_metrics
from .recipes import TrainSettings
from .scores import Scores, score
from .sequence_fit import TrainedSequence, fit_sequence
from .sweep import Sweep

__all__ = ["EpochReport", "Job", "Naming", "TrainSettings", "default_run", "find", "train"]


def train(
    model_name: str,
    out: Path,
    *,
    data: Path | None = None,
    labels: Path | None = None,
    run: Path | None = None,
    settings: TrainSettings | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    listener: Listener | None = None,
    resume: bool | None = None,
    naming: Naming | None = None,
    **given: Any,
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
    run : Path, optional
        The run folder; ``OUT.run`` beside the bundle if left out.
    settings : TrainSettings, optional
        Those of the recipe if left out.
    on_epoch : callable, optional
        Called after each epoch.
    listener : Listener, optional
        Told of everything.
    resume : bool, optional
        True: there must be a checkpoint to go on from. False: begin anew. Left out: go on if there
        is one.
    naming : Naming, optional
        What the model is called and whose it is; as `Naming.of` has it if left out.
    **given
        Settings by name that override `settings`; None overrides nothing.

    Returns
    -------
    Trained
        Figures and thresholds, as in the model card.

    Raises
    ------
    InferenceError
        If there is no such recipe, or files, labels or weights to start from cannot be used, or
        there is nothing to learn, or the run folder is that of another training.
    """
    folder = run or default_run(out)
    job = Job.of(model_name, folder, data, labels, settings, naming, **given)
    told = listener or Listener()
    with Pool(job.settings.workers) as pool:
        return _train(job, out, pool, told, on_epoch or (lambda report: None), resume)


def find(job: Job, listener: Listener | None = None) -> Sweep:
    """Look for a learning rate; the plot goes to ``learning_rate.png`` in the run folder.

    Raises
    ------
    InferenceError
        If the run folder is that of another training: its split has to stay what it learnt from.
    """
    told, folder = listener or Listener(), RunFolder(job.run)
    network, start = _network(job)

    def check(digest: str) -> None:
        folder.check_free(job.description(digest, start))

    with (
        Pool(job.settings.workers) as pool,
        closing(_data(job, folder, pool, told, check)) as known,
    ):
        told.unlearnt(known.unlearnt)
        return _find(job.without(known.unlearnt), network, known)


def _train(
    job: Job,
    out: Path,
    pool: Pool,
    told: Listener,
    on_epoch: Callable[[EpochReport], None],
    resume: bool | None,
) -> Trained:
    folder = RunFolder(job.run)
    if resume and not folder.has_checkpoint:
        raise InferenceError(f"{job.run} holds no checkpoint to go on from: leave out --resume")
    network, start = _network(job)

    def claim(digest: str) -> None:
        folder.claim(job.description(digest, start), fresh=resume is False)

    with closing(_data(job, folder, pool, told, claim)) as known:
        told.unlearnt(known.unlearnt)
        job = job.without(known.unlearnt)
        return _trained(job, out, folder, network, start, known, told, on_epoch)


def _trained(
    job: Job,
    out: Path,
    folder: RunFolder,
    network: nn.Module,
    start: Start,
    known: Data,
    told: Listener,
    on_epoch: Callable[[EpochReport], None],
) -> Trained:
    state = folder.load()
    rate = _rate(job, network, known, state, told)
    job = replace(job, settings=replace(job.settings, learning_rate=rate))
    reports = _fit(job, network, start, known, folder, told, on_epoch, state)
    # Thresholds and figures are those of the weights as they are stored.
    network.half().float()
    trained = _measured(job, network, known, start, reports)
    export(out, trained, network.state_dict())
    return trained


def _data(
    job: Job, folder: RunFolder, pool: Pool, told: Listener, claim: Callable[[str], None]
) -> Data:
    """Return the data; `claim` is called with their digest before the folder speaks of them."""
    if job.data is None:
        known = phantom_data(job.recipe, job.settings)
        claim(known.digest)
        return known
    if job.labels is None:
        raise InferenceError("training from files needs their labels too: give the table (CSV)")
    return file_data(job.recipe, job.settings, job.data, job.labels, folder.path, pool, told, claim)


def _network(job: Job) -> tuple[nn.Module, Start]:
    torch.manual_seed(job.settings.seed)
    parser = ConfigParser({"network_def": dict(job.recipe.network_def)})
    network = parser.get_parsed_content("network_def")
    assert isinstance(network, nn.Module)
    return network, load_start(network, job.settings.start)


def _find(job: Job, network: nn.Module, known: Data) -> Sweep:
    sweep = find_learning_rate(network, known.training, job.recipe, job.settings)
    job.run.mkdir(parents=True, exist_ok=True)
    plot_learning_rate(job.run / "learning_rate.png", sweep)
    return sweep


def _rate(
    job: Job, network: nn.Module, known: Data, state: Mapping[str, Any] | None, told: Listener
) -> float:
    """Return the learning rate of the settings, or that of the finder; once for a training."""
    if job.settings.learning_rate:
        return job.settings.learning_rate
    if state is not None:
        return float(state["rate"])
    sweep = _find(job, network, known)
    told.found_rate(sweep)
    return sweep.minimum_over_ten


def _fit(
    job: Job,
    network: nn.Module,
    start: Start,
    known: Data,
    folder: RunFolder,
    told: Listener,
    on_epoch: Callable[[EpochReport], None],
    state: Mapping[str, Any] | None,
) -> list[EpochReport]:
    if state is not None:
        told.goes_on(state["at"])
    elif start.foreign:
        gather_statistics(network, known.training, job.settings)
    rate = job.settings.learning_rate

    def save(now: Mapping[str, Any]) -> None:
        folder.save({**now, "rate": rate})
        write_metrics(folder.path, [EpochReport(**row) for row in now["at"]["history"]])

    def report(epoch: EpochReport) -> None:
        told.epoch(epoch)
        on_epoch(epoch)

    watch = Watch(on_epoch=report, on_step=told.step, save=save, state=state)
    reports = fit(
        network,
        known.training,
        known.stopping,
        job.recipe,
        job.settings,
        watch,
        start.head_first,
    )
    told.ended(ending(reports, job.settings.patience))
    if known.origin == "files":
        plot_epochs(folder.path / "losses.png", reports)
    return reports


def _measured(
    job: Job, network: nn.Module, known: Data, start: Start, reports: list[EpochReport]
) -> Trained:
    recipe, settings = job.recipe.learnt(), job.settings

    def scored(part: str) -> Scores:
        device = torch.device(settings.device)
        found = score(network, known.parts[part], device, INFERENCE_BATCH, settings.amp)
        return found.of_labels(job.recipe.served)

    sequence: TrainedSequence | None = None
    if "sequence" in known.parts:
        taught = [label.weight * (label.name not in known.head.few) for label in recipe.labels]
        sequence = fit_sequence(scored("sequence"), taught, settings.seed)
    validation, test = scored("validation"), scored("test")
    images = image_units(test)
    by_series = recipe.scope == "series"
    if by_series:
        thresholds = thresholds_of(recipe, series_units(recipe, validation, sequence))
        figures = series_units(recipe, test, sequence)
    else:
        thresholds, figures = thresholds_of(recipe, image_units(validation)), images
    return Trained(
        recipe=job.recipe,
        naming=job.naming,
        settings=settings,
        origin=known.origin,
        start=start.description,
        counts=known.counts,
        by_series=by_series,
        thresholds=thresholds,
        figures=figures_of(recipe, figures, thresholds, settings.seed),
        image_figures=figures_of(recipe, images, thresholds, settings.seed),
        parts=known.described,
        unreadable=known.unreadable(),
        missing=known.missing,
        refused=known.refused,
        unlearnt=known.unlearnt,
        prevalence=known.prevalence,
        epochs=len(reports),
        ended=ending(reports, settings.patience),
        log_loss=log_loss_of(recipe, test),
        rate=settings.learning_rate,
        sequence=sequence,
        head=known.head,
    )
