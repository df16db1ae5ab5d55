"""The readers that can be trained: network, input, what its outputs mean, and how it learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .. import codes
from ..criteria import Criteria
from ..errors import InferenceError
from ..input_spec import InputSpec
from ..pooling import SeriesPooling
from ..reading import Code
from ..windows import BRAIN, SOFT, SUBDURAL
from .phantom_samples import HEMORRHAGE_LABELS, Draw, draw_chests, draw_series, draw_slices


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
        Passes over the training samples.
    head_epochs : int
        Of these, how many train only the last layer, where the start has features worth keeping.
    batch : int
        Samples in a step.
    learning_rate : float
        Peak of the one-cycle schedule.
    validation_share : float
        Of patients, when learning from files.
    workers : int
        Processes that draw phantoms; the result does not depend on it.
    seed : int
        Of everything that is random.
    device : str
        As torch names it, e.g. ``cpu`` or ``cuda:0``.
    start : str
        ``random``, ``imagenet`` or a file of weights (`pretrained.load_start`).
    """

    phantoms: int = 1000
    validation: int = 100
    test: int = 100
    epochs: int = 6
    head_epochs: int = 1
    batch: int = 32
    learning_rate: float = 2e-3
    validation_share: float = 0.2
    workers: int = 2
    seed: int = 1
    device: str = "cpu"
    start: str = "random"

    def __post_init__(self) -> None:
        for name in ("phantoms", "validation", "test", "epochs", "batch", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class OutputLabel:
    """One output: the column or directory that means it in training data, its codes."""

    name: str
    source: str
    code: Code
    site: Code
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that is fixed about one reader.

    Attributes
    ----------
    network_def : mapping
        MONAI configuration of the network.
    draw_training, draw_held_out : callable
        What draws phantoms to learn from, and to choose thresholds and measure on.
    phantom : str
        What phantoms of this reader are called in the card.
    scope : str
        What the card's figures speak of.
    """

    name: str
    title: str
    version: str
    spec: InputSpec
    network_def: Mapping[str, Any]
    labels: tuple[OutputLabel, ...]
    suitability: Criteria
    pooling: SeriesPooling
    settings: TrainSettings
    draw_training: Draw
    draw_held_out: Draw
    phantom: str
    scope: Literal["radiograph", "series"]
    positive_weight: float = 1.0


# Code and site by RSNA name. Intraventricular hemorrhage has no verified code of its own: the
# general code with the ventricle as its site says the same.
_HEMORRHAGE_CODES = {
    "any": (codes.INTRACRANIAL_HEMORRHAGE, codes.INTRACRANIAL),
    "epidural": (codes.EPIDURAL_HEMORRHAGE, codes.INTRACRANIAL),
    "intraparenchymal": (codes.CEREBRAL_HEMORRHAGE, codes.BRAIN),
    "intraventricular": (codes.INTRACRANIAL_HEMORRHAGE, codes.BRAIN_VENTRICLE),
    "subarachnoid": (codes.SUBARACHNOID_HEMORRHAGE, codes.SUBARACHNOID_SPACE),
    "subdural": (codes.SUBDURAL_HEMORRHAGE, codes.INTRACRANIAL),
}

PNEUMOTHORAX = Recipe(
    name="pneumothorax",
    title="Pneumothorax on frontal chest radiographs",
    version="0.1.0",
    spec=InputSpec("radiograph", 192, polarity="chest"),
    network_def={
        "_target_": "monai.networks.nets.DenseNet",
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 1,
        "init_features": 32,
        "growth_rate": 16,
        "block_config": [4, 8, 12, 8],
    },
    labels=(OutputLabel("pneumothorax", "Pneumothorax", codes.PNEUMOTHORAX, codes.PLEURA),),
    suitability=Criteria(
        modalities=("CR", "DX"),
        body_parts=("CHEST", "THORAX", "LUNG", "PORT CHEST"),
        refused_views=("LL", "RL", "LATERAL", "LLD", "RLD"),
        min_rows=256,
    ),
    pooling=SeriesPooling(),
    settings=TrainSettings(phantoms=1400, validation=150, test=150, epochs=7),
    draw_training=draw_chests,
    draw_held_out=draw_chests,
    phantom="chest radiograph",
    scope="radiograph",
)

HEMORRHAGE = Recipe(
    name="hemorrhage",
    title="Intracranial hemorrhage on head CT",
    version="0.1.0",
    spec=InputSpec("ct_slices", 128, windows=(BRAIN, SUBDURAL, SOFT)),
    network_def={
        "_target_": "monai.networks.nets.EfficientNetBN",
        "model_name": "efficientnet-b0",
        "pretrained": False,
        "spatial_dims": 2,
        "in_channels": 3,
        "num_classes": 6,
        # MONAI's default momentum of 0.01 needs more steps than a short training has.
        "norm": ["batch", {"eps": 1e-3, "momentum": 0.1}],
    },
    labels=tuple(
        OutputLabel(name, name, *_HEMORRHAGE_CODES[name], weight=2.0 if name == "any" else 1.0)
        for name in HEMORRHAGE_LABELS
    ),
    suitability=Criteria(
        modalities=("CT",),
        body_parts=("HEAD", "BRAIN", "SKULL", "HEAD_BRAIN", "HEADNECK"),
        min_rows=128,
        min_slices=8,
        min_coverage_mm=50.0,
        max_gap=1.9,
    ),
    pooling=SeriesPooling(reach_mm=10.0, key_slices=3),
    settings=TrainSettings(
        phantoms=640,
        validation=50,
        test=50,
        epochs=4,
        learning_rate=1e-3,
        start="imagenet",
    ),
    draw_training=draw_slices,
    draw_held_out=draw_series,
    phantom="head CT",
    scope="series",
)

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (PNEUMOTHORAX, HEMORRHAGE)}


def recipe_named(name: str) -> Recipe:
    """Return the recipe called `name`.

    Raises
    ------
    InferenceError
        If there is none; the message lists those that there are.
    """
    if name not in RECIPES:
        known = ", ".join(sorted(RECIPES))
        raise InferenceError(f"no recipe to train {name!r}; there are: {known}")
    return RECIPES[name]
