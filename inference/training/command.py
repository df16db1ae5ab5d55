"""The command that makes a bundle again, for its card."""

from __future__ import annotations

from shlex import quote

import torch

from .naming import FIRST_VERSION, NOBODY, Naming, own_name
from .recipes import Recipe
from .train_settings import TrainSettings

_OPTIONS = (
    "head_epochs", "batch", "learning_rate", "epoch_share", "balanced", "patience",
    "validation_share", "test_share", "split", "split_by", "network", "size", "sequence", "amp",
)  # fmt: skip


def command_of(recipe: Recipe, settings: TrainSettings, naming: Naming, from_files: bool) -> str:
    """Return the command that makes the same bundle from the same data.

    Parameters
    ----------
    from_files : bool
        Whether it learnt from labelled files; else from phantoms.
    """
    usual = recipe.files if from_files else recipe.settings
    source = "--data DIR --labels CSV" if from_files else f"--phantoms {settings.phantoms}"
    command = (
        f"OMP_NUM_THREADS={torch.get_num_threads()} preread train {recipe.name} --out DIR "
        f"{source} --epochs {settings.epochs} --seed {settings.seed} "
        f"--start {quote(settings.start)}"
    )
    for name in _OPTIONS:
        value = getattr(settings, name)
        if value != getattr(usual, name):
            option = f"--{name.replace('_', '-')}"
            command += f" {option}" if value is True else f" {option} {value}"
    return command + _called(recipe, naming)


def _called(recipe: Recipe, naming: Naming) -> str:
    said = [
        ("--name", naming.name, own_name(recipe.name)),
        ("--version", naming.version, FIRST_VERSION),
        *(("--authors", author, None) for author in naming.authors),
        ("--manufacturer", naming.manufacturer, NOBODY),
    ]
    return "".join(f" {option} {quote(told)}" for option, told, usual in said if told != usual)
