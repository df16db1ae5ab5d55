"""One training, as it was asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import InferenceError
from .naming import Naming
from .pretrained import Start, start_network
from .recipes import Recipe, recipe_named
from .train_settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Job:
    """One training, as it was asked for.

    Attributes
    ----------
    run : Path
        Folder of checkpoints, metrics, plots and decoded images.
    naming : Naming
        What the model is called and whose it is; changes nothing of what is learnt.
    data, labels : Path or None
        Folder of DICOM files and the table of their labels; without them phantoms are drawn.
    """

    recipe: Recipe
    settings: TrainSettings
    run: Path
    naming: Naming
    data: Path | None = None
    labels: Path | None = None

    @classmethod
    def of(
        cls,
        model_name: str,
        run: Path,
        data: Path | None = None,
        labels: Path | None = None,
        settings: TrainSettings | None = None,
        naming: Naming | None = None,
        **given: Any,
    ) -> Job:
        """Return a job with the settings of the recipe, but for those that are `given`.

        Raises
        ------
        InferenceError
            If there is no such recipe, network, or setting.
        """
        recipe = recipe_named(model_name)
        usual = settings or (recipe.settings if data is None else recipe.files)
        overrides = {name: value for name, value in given.items() if value is not None}
        try:
            chosen = replace(usual, **overrides)
            spec = replace(recipe.spec, size=chosen.size or recipe.spec.size)
        except ValueError as error:
            raise InferenceError(str(error)) from error
        network = start_network(chosen.start, recipe.network_named(chosen.network))
        recipe = replace(recipe, spec=spec, network_def=network)
        return cls(recipe, chosen, run, naming or Naming.of(model_name), data, labels)

    def without(self, labels: Collection[str]) -> Job:
        """Return the job that neither learns nor serves `labels`."""
        return replace(self, recipe=self.recipe.without(labels))

    def description(self, digest: str, start: Start) -> Mapping[str, object]:
        """Return what must be the same for a training to go on; `digest` is of its data."""
        return {
            "reader": self.recipe.name,
            **self.settings.with_effect(),
            "start": start.description,
            "size": self.recipe.spec.size,
            "input": str(self.recipe.spec.to_dict()),
            "network_def": str(dict(self.recipe.network_def)),
            "data": digest,
            "torch": torch.__version__,
        }


def default_run(out: Path) -> Path:
    """Return the run folder of a bundle where none is named: ``OUT.run`` beside it."""
    whole = out.resolve()
    return whole.with_name(f"{whole.name}.run")
