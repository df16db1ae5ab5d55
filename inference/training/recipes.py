"""The readers that can be trained: network, input, what its outputs mean, and how it learns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .. import codes
from ..criteria import Criteria
from ..errors import InferenceError
from ..input_spec import InputSpec
from ..pooling import SeriesPooling
from ..reading import Code
from ..windows import BRAIN, SOFT, SUBDURAL
from .augment import Augmentation
from .phantom_samples import HEMORRHAGE_LABELS, Draw, draw_chests, draw_series, draw_slices
from .train_settings import TrainSettings

__all__ = ["RECIPES", "OutputLabel", "Recipe", "TrainSettings", "recipe_named"]


@dataclass(frozen=True, slots=True)
class OutputLabel:
    """One output: the column or directory that means it in training data, its codes.

    Attributes
    ----------
    weight : float
        How much it counts in the loss; 0 is neither learnt nor served.
    """

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
    networks : mapping of str to mapping
        Networks that can be asked for by name instead.
    settings, files : TrainSettings
        Of a training on phantoms, and of one on labelled files.
    draw_training, draw_held_out : callable
        What draws phantoms to learn from, and to choose thresholds and measure on.
    phantom : str
        What phantoms of this reader are called in the card.
    scope : str
        What the card's figures speak of.
    """

    name: str
    title: str
    spec: InputSpec
    network_def: Mapping[str, Any]
    labels: tuple[OutputLabel, ...]
    suitability: Criteria
    pooling: SeriesPooling
    settings: TrainSettings
    files: TrainSettings
    draw_training: Draw
    draw_held_out: Draw
    phantom: str
    scope: Literal["radiograph", "series"]
    positive_weight: float = 1.0
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    augmentation: Augmentation = Augmentation()  # noqa: RUF009 - frozen

    def network_named(self, name: str) -> Mapping[str, Any]:
        """Return the definition of a network; of the usual one if `name` is empty.

        Raises
        ------
        InferenceError
            If there is none of this name.
        """
        if not name:
            return self.network_def
        if name not in self.networks:
            known = ", ".join(sorted(self.networks))
            raise InferenceError(f"no network {name!r} for {self.name}; there are: {known}")
        return self.networks[name]

    def without(self, names: Collection[str]) -> Recipe:
        """Return the recipe that neither learns nor serves the labels `names`."""
        labels = (
            replace(label, weight=0.0) if label.name in names else label for label in self.labels
        )
        return replace(self, labels=tuple(labels))

    @property
    def served(self) -> tuple[int, ...]:
        """The outputs that are learnt, and so served."""
        return tuple(number for number, label in enumerate(self.labels) if label.weight > 0)

    def learnt(self) -> Recipe:
        """Return the recipe with the labels that are served alone."""
        return replace(self, labels=tuple(self.labels[number] for number in self.served))

    @property
    def label_weights(self) -> tuple[float, ...]:
        """How much each label counts in the loss."""
        return tuple(label.weight for label in self.labels)


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


def _efficientnet_b0(channels: int, classes: int) -> dict[str, Any]:
    return {
        "_target_": "monai.networks.nets.EfficientNetBN",
        "model_name": "efficientnet-b0",
        "pretrained": False,
        "spatial_dims": 2,
        "in_channels": channels,
        "num_classes": classes,
        # MONAI's default momentum of 0.01 needs more steps than a short training has.
        "norm": ["batch", {"eps": 1e-3, "momentum": 0.1}],
    }


_SMALL_DENSENET: Mapping[str, Any] = {
    "_target_": "monai.networks.nets.DenseNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "init_features": 32,
    "growth_rate": 16,
    "block_config": [4, 8, 12, 8],
}

PNEUMOTHORAX = Recipe(
    name="pneumothorax",
    title="Pneumothorax on frontal chest radiographs",
    spec=InputSpec("radiograph", 192, polarity="chest"),
    network_def=_SMALL_DENSENET,
    networks={"densenet": _SMALL_DENSENET, "efficientnet-b0": _efficientnet_b0(1, 1)},
    labels=(OutputLabel("pneumothorax", "Pneumothorax", codes.PNEUMOTHORAX, codes.PLEURA),),
    suitability=Criteria(
        modalities=("CR", "DX"),
        body_parts=("CHEST", "THORAX", "LUNG", "PORT CHEST"),
        refused_views=("LL", "RL", "LATERAL", "LLD", "RLD"),
        min_rows=256,
    ),
    pooling=SeriesPooling(),
    settings=TrainSettings(phantoms=1400, validation=150, test=150, epochs=7),
    files=TrainSettings(
        network="efficientnet-b0",
        start="imagenet",
        size=224,
        epochs=15,
        head_epochs=3,
        batch=8,
        learning_rate=1e-3,
        patience=5,
    ),
    draw_training=draw_chests,
    draw_held_out=draw_chests,
    phantom="chest radiograph",
    scope="radiograph",
)

HEMORRHAGE = Recipe(
    name="hemorrhage",
    title="Intracranial hemorrhage on head CT",
    spec=InputSpec("ct_slices", 128, windows=(BRAIN, SUBDURAL, SOFT)),
    network_def=_efficientnet_b0(3, len(HEMORRHAGE_LABELS)),
    networks={"efficientnet-b0": _efficientnet_b0(3, len(HEMORRHAGE_LABELS))},
    augmentation=Augmentation(upside_down=0.1, crop=0.15),
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
        head_epochs=0,
        learning_rate=1e-3,
        start="imagenet",
    ),
    files=TrainSettings(
        start="imagenet",
        size=224,
        epochs=6,
        head_epochs=2,
        batch=64,
        learning_rate=1e-3,
        epoch_share=0.1,
        patience=2,
        split="stratified",
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
