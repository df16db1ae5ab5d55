"""How a reader is trained: every choice that a person can make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

# What changes nothing in the weights, and may differ when a training goes on.
_WITHOUT_EFFECT = ("workers", "cache_gb", "checkpoint_seconds", "device")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How long and on what a reader learns.

    Attributes
    ----------
    phantoms : int
        Phantoms that are drawn for training; one gives two radiographs, or up to five slices.
    validation, test : int
        Phantoms held out to choose thresholds, and to measure the figures in the card.
    epochs : int
        Passes over the training samples, those of the last layer alone included.
    head_epochs : int
        Of these, how many train only the last layer (and the scales of normalisation), where the
        start has features worth keeping.
    batch : int
        Samples in a step.
    learning_rate : float
        Peak of the one-cycle schedule; 0 lets the learning-rate finder choose.
    epoch_share : float
        Of the training images, drawn anew for each epoch.
    balanced : bool
        Draw as many images with a finding as without for an epoch, as far as there are.
    patience : int
        Epochs without a lower validation loss after which a phase ends, and the weights of the best
        epoch are kept; 0 trains to the end and keeps the last.
    validation_share, test_share, sequence_share : float
        Of patients, when learning from files; the last for the sequence head.
    split : {"random", "stratified"}
        How patients are shared out.
    split_by : {"patient", "study"}
        Whom a split keeps together.
    network : str
        Name of a network of the recipe; its first if empty.
    size : int
        Rows and columns of the input; 0 as in the recipe.
    sequence : bool
        Train a head over the slices of a series as well.
    amp : bool
        Compute in bfloat16 where torch holds that to be safe.
    workers : int
        Processes that draw phantoms or decode; the result does not depend on it.
    cache_gb : float
        How much of the decoded images is kept on disk.
    checkpoint_seconds : float
        Between two checkpoints within an epoch; there is one after each epoch in any case.
    seed : int
        Of everything that is random.
    device : str
        As torch names it, e.g. ``cpu`` or ``cuda:0``.
    start : str
        ``random``, ``imagenet``, a file of weights or a bundle (`pretrained.load_start`).
    """

    phantoms: int = 1000
    validation: int = 100
    test: int = 100
    epochs: int = 6
    head_epochs: int = 1
    batch: int = 32
    learning_rate: float = 2e-3
    epoch_share: float = 1.0
    balanced: bool = False
    patience: int = 0
    validation_share: float = 0.15
    test_share: float = 0.15
    sequence_share: float = 0.15
    split: Literal["random", "stratified"] = "random"
    split_by: Literal["patient", "study"] = "patient"
    network: str = ""
    size: int = 0
    sequence: bool = False
    amp: bool = False
    workers: int = 2
    cache_gb: float = 50.0
    checkpoint_seconds: float = 60.0
    seed: int = 1
    device: str = "cpu"
    start: str = "random"

    def __post_init__(self) -> None:
        for name in ("phantoms", "validation", "test", "epochs", "batch", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("head_epochs", "patience", "learning_rate", "cache_gb", "size", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be below 0, not {getattr(self, name)}")
        if not 0 < self.epoch_share <= 1:
            raise ValueError(f"epoch_share must be above 0 and up to 1, not {self.epoch_share}")
        held = self.validation_share + self.test_share + self.sequence_share * self.sequence
        if min(self.validation_share, self.test_share, self.sequence_share) <= 0 or held >= 0.9:
            raise ValueError("shares held out must be above 0 and leave a tenth to learn from")

    def with_effect(self) -> Mapping[str, object]:
        """Return what two trainings must have in common for one to go on from the other."""
        return {k: v for k, v in asdict(self).items() if k not in _WITHOUT_EFFECT}
