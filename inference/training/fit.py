"""The training loop: last layer first, one-cycle schedule, early stopping, and going on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from ..errors import InferenceError
from .augment import augment
from .progress import EpochReport, Watch
from .recipes import Recipe, TrainSettings
from .samples import Part
from .sampling import Rows, epoch_batches, members, step_seed
from .scores import accuracy, aucs, score, weighted_log_loss, weighted_loss

__all__ = ["EpochReport", "Phase", "Watch", "fit", "last_layer", "phases", "trainable"]

# A new last layer alone can learn faster than a whole network without forgetting.
_HEAD_RATE = 5.0
_DROPOUT, _AUGMENTATION = 1, 2
_WEIGHT_DECAY = 1e-2
INFERENCE_BATCH = 64


@dataclass(frozen=True, slots=True)
class Phase:
    """Some epochs with one schedule. `first` is the number of epochs before."""

    name: str
    first: int
    epochs: int
    rate: float


@dataclass(slots=True)
class _State:
    """Where a training stands; with weights and optimizer it is all there is to know."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    total: float = 0.0
    best_loss: float = float("inf")
    stale: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False


def phases(settings: TrainSettings, head_first: bool) -> tuple[Phase, ...]:
    """Return the tutorial's two phases: the last layer alone, then everything; or the second."""
    head = min(settings.head_epochs, settings.epochs - 1) if head_first else 0
    both = (
        Phase("head", 0, head, _HEAD_RATE * settings.learning_rate),
        Phase("all", head, settings.epochs - head, settings.learning_rate),
    )
    return tuple(phase for phase in both if phase.epochs > 0)


def fit(
    network: nn.Module,
    training: Part,
    validation: Part,
    recipe: Recipe,
    settings: TrainSettings,
    watch: Watch | None = None,
    head_first: bool = False,
) -> list[EpochReport]:
    """Train `network` in place; it ends in evaluation mode on the device of the settings.

    Interrupted after any step and continued from a saved state, it gives the same weights bit for
    bit on the same machine: order, augmentation and dropout of a step are functions of the seed and
    the number of the step, and all else is in the state.

    Parameters
    ----------
    head_first : bool
        Whether the last layer is trained alone for ``settings.head_epochs`` before everything is.

    Returns
    -------
    list of EpochReport
        Of all epochs, those before an interruption included.
    """
    return _Fitting(network, training, validation, recipe, settings, watch or Watch()).run(
        phases(settings, head_first)
    )


class _Fitting:
    def __init__(
        self,
        network: nn.Module,
        training: Part,
        validation: Part,
        recipe: Recipe,
        settings: TrainSettings,
        watch: Watch,
    ) -> None:
        self._device = torch.device(settings.device)
        # Measured on CPU: half the time for EfficientNet-B0.
        self._network = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._training, self._validation = training, validation
        self._recipe, self._settings, self._watch = recipe, settings, watch
        self._at = _State()
        self._best: dict[str, torch.Tensor] | None = None

    def run(self, plan: Sequence[Phase]) -> list[EpochReport]:
        kept = self._watch.state
        if kept is not None:
            self._at = _State(**kept["at"])
            self._network.load_state_dict(kept["network"])
            self._best = kept["best"]
        while not self._at.done:
            phase = plan[self._at.phase]
            self._phase(phase, kept)
            kept = None
            self._at.phase, self._at.epoch, self._at.stale = self._at.phase + 1, 0, 0
            self._at.done = self._at.phase == len(plan)
        if self._best is not None:
            self._network.load_state_dict(self._best)
        self._network.eval()
        self._save(None)
        return [EpochReport(**row) for row in self._at.history]

    def _phase(self, phase: Phase, kept: Mapping[str, Any] | None) -> None:
        parameters = trainable(self._network, phase.name == "head")
        self._network.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, lr=phase.rate, weight_decay=_WEIGHT_DECAY)
        steps = phase.epochs * len(self._batches(phase, 0))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=phase.rate, total_steps=steps
        )
        if kept is not None and kept["optimizer"] is not None:
            optimizer.load_state_dict(kept["optimizer"])
            schedule.load_state_dict(kept["schedule"])
        state = (optimizer, schedule)
        while self._at.epoch < phase.epochs:
            started = time.monotonic()
            self._epoch(phase, state)
            report = self._report(phase, time.monotonic() - started)
            stop = self._judge(report.validation_loss)
            self._at.history.append(asdict(report))
            self._at.epoch, self._at.step, self._at.total = self._at.epoch + 1, 0, 0.0
            if stop:
                self._at.epoch = phase.epochs
            self._save(state)
            self._watch.on_epoch(report)

    def _batches(self, phase: Phase, epoch: int) -> list[Rows]:
        chosen = self._settings
        return epoch_batches(
            self._training,
            chosen.batch,
            chosen.epoch_share,
            chosen.balanced,
            chosen.seed,
            phase.first + epoch,
        )

    def _epoch(self, phase: Phase, state: _Optimizing) -> None:
        self._network.train()
        number, saved = phase.first + self._at.epoch, time.monotonic()
        batches = self._batches(phase, self._at.epoch)
        for chosen, images in self._training.batches(batches[self._at.step :]):
            self._at.total += self._step(number, chosen, images, state)
            self._at.step += 1
            if time.monotonic() - saved >= self._settings.checkpoint_seconds:
                self._save(state)
                saved = time.monotonic()
            self._watch.on_step(number + 1, self._at.step, len(batches))

    def _step(self, epoch: int, chosen: Rows, images: torch.Tensor, state: _Optimizing) -> float:
        optimizer, schedule = state
        seed, step = self._settings.seed, self._at.step
        if len(chosen) < min(2, self._settings.batch, len(self._training)):
            schedule.step()  # what cannot be decoded left too little to normalise over
            return 0.0
        generator = torch.Generator().manual_seed(step_seed(seed, _AUGMENTATION, epoch, step))
        torch.manual_seed(step_seed(seed, _DROPOUT, epoch, step))
        inputs = augment(
            images.to(self._device).float() / 255,
            generator,
            members(self._training, chosen),
            self._recipe.augmentation,
        ).contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(self._training.labels[chosen]).float().to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._settings.amp):
            logits = self._network(inputs)
        recipe = self._recipe
        loss = weighted_loss(logits.float(), labels, recipe.label_weights, recipe.positive_weight)
        if not torch.isfinite(loss.detach()):
            raise InferenceError(
                f"the loss is no number in step {step + 1} of epoch {epoch + 1}: begin anew with a "
                "lower --learning-rate"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        return float(loss.detach())

    def _report(self, phase: Phase, seconds: float) -> EpochReport:
        found = score(
            self._network, self._validation, self._device, INFERENCE_BATCH, self._settings.amp
        )
        names = [label.name for label in self._recipe.labels]
        return EpochReport(
            epoch=phase.first + self._at.epoch + 1,
            epochs=self._settings.epochs,
            phase=phase.name,
            loss=self._at.total / max(1, self._at.step),
            validation_loss=weighted_log_loss(
                found.probabilities, found.truth, self._recipe.label_weights
            ),
            accuracy=dict(zip(names, map(float, accuracy(found)), strict=True)),
            auc=aucs(found, names),
            seconds=seconds,
        )

    def _judge(self, loss: float) -> bool:
        """Keep the best weights where patience is asked for; return whether it is at its end."""
        if not self._settings.patience:
            return False
        if loss < self._at.best_loss:
            self._at.best_loss, self._at.stale = loss, 0
            weights = self._network.state_dict().items()
            self._best = {name: tensor.detach().clone() for name, tensor in weights}
            return False
        self._at.stale += 1
        return self._at.stale >= self._settings.patience

    def _save(self, state: _Optimizing | None) -> None:
        optimizer, schedule = state or (None, None)
        self._watch.save(
            {
                "at": asdict(self._at),
                "network": self._network.state_dict(),
                "best": self._best,
                "optimizer": optimizer and optimizer.state_dict(),
                "schedule": schedule and schedule.state_dict(),
            }
        )


_Optimizing = tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]


def last_layer(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the last fully connected layer of a classifier.

    Raises
    ------
    ValueError
        If it has none.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no fully connected layer to train first")
    return list(layers[-1].parameters())


def trainable(network: nn.Module, head: bool) -> list[nn.Parameter]:
    """Return what learns: all, or with `head` the last layer and the scales of normalisation.

    Frozen scales would keep the statistics of the pictures that the start was trained on.
    """
    if not head:
        return list(network.parameters())
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [*(p for norm in norms for p in norm.parameters()), *last_layer(network)]
