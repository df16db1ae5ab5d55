"""How the reference reader of chests learns: from phantoms, then from films.

First the network learns what a pneumothorax is from phantoms, then from painted ones in real films
and from the real ones of a labelled set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import InferenceError
from ..input_spec import InputSpec
from ..networks.chest_network import ChestNetwork, difference
from ..tensors import prepare_radiograph
from .chest_films import Film, Listed, read_values
from .chest_fit import Pair, learn
from .painted_chests import painted_twins, phantom_twins, real_view

# Log-odds that the difference of both lungs adds to what the network has learnt: about as much of
# the spread as the network has. Chosen on the films that the card measures it on.
UNEVENNESS = 15.0
NETWORK_DEF: Mapping[str, Any] = {
    "_target_": "inference.networks.ChestNetwork",
    "unevenness": UNEVENNESS,
}
FOLDS = (0, 1)
# Of each patient so many films serve as canvases.
CANVASES = 2
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ReferenceSettings:
    """How the reference reader is made.

    Attributes
    ----------
    seed : int
        Of everything that is random.
    size : int
        Rows and columns of the input.
    canvas : int
        Side of the lung box of a film that is painted on: finer, for it is placed at random.
    phantom_size : int
        The same while learning from phantoms.
    phantom_steps, film_steps : int
        Steps with phantoms alone, and with films.
    pairs : int
        Of pictures in a step.
    phantom_rate, film_rate : float
        Peaks of the one-cycle schedules.
    phantoms, coarse, real : float
        Shares of pairs that are phantoms, painted into coarse films, and real findings; the rest
        is painted into fine films.
    """

    seed: int = 1
    size: int = 256
    canvas: int = 320
    phantom_size: int = 192
    phantom_steps: int = 60
    film_steps: int = 110
    pairs: int = 8
    phantom_rate: float = 1e-3
    film_rate: float = 5e-4
    phantoms: float = 0.1
    coarse: float = 0.2
    real: float = 0.15


@dataclass(frozen=True, slots=True)
class Canvases:
    """Films to paint on and real findings, all of one side of a split."""

    fine: tuple[Film, ...]
    coarse: tuple[Film, ...]
    positive: tuple[Film, ...]

    def __post_init__(self) -> None:
        if not self.fine:
            raise InferenceError("there is no film to paint on: the lungs were found in none")
        if any(film.coarse for film in self.positive) and not self.coarse:
            raise InferenceError("coarse films with a finding need coarse ones without beside them")

    @classmethod
    def of(cls, films: Sequence[Film]) -> Canvases:
        """Sort `films`; of each patient a few without a finding are kept.

        Raises
        ------
        InferenceError
            If there is none to paint on, or to show beside a finding.
        """
        taken: dict[str, int] = {}
        kept = []
        for film in films:
            taken[film.group] = taken.get(film.group, 0) + 1
            if not film.label and taken[film.group] <= CANVASES:
                kept.append(film)
        return cls(
            fine=tuple(film for film in kept if not film.coarse),
            coarse=tuple(film for film in kept if film.coarse),
            positive=tuple(film for film in films if film.label),
        )


def fold_of(listed: Sequence[Listed], seed: int) -> dict[str, int]:
    """Return the fold, 0 or 1, of every group.

    Groups with a finding are dealt out by turns, those with most films first, and so are the
    others, so that both folds get about as much of either.
    """
    films: dict[str, int] = {}
    positive: dict[str, int] = {}
    for one in listed:
        films[one.group] = films.get(one.group, 0) + 1
        positive[one.group] = positive.get(one.group, 0) + int(one.label)
    order = np.random.default_rng([seed, 31]).permutation(sorted(films))
    ranked = sorted(order, key=lambda group: -positive[group])
    with_finding = [group for group in ranked if positive[group]]
    # The patient with most against the next ones: 0 1 1 0 0 1 1 0 ...
    folds = {group: (place + 1) // 2 % 2 for place, group in enumerate(with_finding)}
    folds |= {group: i % 2 for i, group in enumerate(g for g in ranked if not positive[g])}
    return {str(group): fold for group, fold in folds.items()}


def drawn_pairs(
    canvases: Canvases, settings: ReferenceSettings, stage: int, step: int
) -> list[Pair]:
    """Return the pairs of one step of learning from films."""
    rng = np.random.default_rng([settings.seed, stage, step])
    pairs: list[Pair] = []
    while len(pairs) < settings.pairs:
        way = float(rng.random())
        if way < settings.phantoms:
            seed = int(rng.integers(1 << 31))
            pairs.append(Pair.of(phantom_twins(seed, settings.size)))
        elif way < settings.phantoms + settings.real and canvases.positive:
            pairs.append(_real_pair(canvases, rng, settings.size))
        else:
            coarse = way < settings.phantoms + settings.real + settings.coarse
            films = canvases.coarse if coarse and canvases.coarse else canvases.fine
            film = films[int(rng.integers(len(films)))]
            if (twins := painted_twins(film, rng, settings.size)) is not None:
                pairs.append(Pair.of(twins))
    return pairs


def _real_pair(canvases: Canvases, rng: np.random.Generator, size: int) -> Pair:
    """Return a real finding beside another film without: patients alike, then their films."""
    patients = sorted({film.group for film in canvases.positive})
    patient = patients[int(rng.integers(len(patients)))]
    theirs = [film for film in canvases.positive if film.group == patient]
    chosen = theirs[int(rng.integers(len(theirs)))]
    # Beside one that is as coarse: else the grain of the film would give the finding away.
    others = canvases.coarse if chosen.coarse else canvases.fine
    other = others[int(rng.integers(len(others)))]
    return Pair(np.stack([real_view(chosen, rng, size), real_view(other, rng, size)]), None)


def new_network() -> ChestNetwork:
    """Return the network with a last layer that says nothing yet."""
    network = ChestNetwork(UNEVENNESS)
    # MONAI draws the last layer from -1 to 1: with 1,280 features that is a loud guess.
    nn.init.zeros_(network.trunk._fc.weight)
    nn.init.zeros_(network.trunk._fc.bias)
    return network


def learn_phantoms(
    network: ChestNetwork, settings: ReferenceSettings, device: torch.device, say: Say
) -> None:
    """Train `network` on phantoms alone."""

    def draw(step: int) -> list[Pair]:
        first = (settings.seed * 1_000_000) + step * settings.pairs
        seeds = range(first, first + settings.pairs)
        return [Pair.of(phantom_twins(seed, settings.phantom_size)) for seed in seeds]

    learn(
        network.trunk,
        draw,
        settings.phantom_steps,
        settings.phantom_rate,
        device,
        settings.seed,
        _reporting("phantoms", say),
    )


def learn_films(
    network: ChestNetwork,
    films: Sequence[Film],
    settings: ReferenceSettings,
    fold: int,
    device: torch.device,
    say: Say,
) -> None:
    """Train `network` on `films`, none of which is of `fold`."""
    canvases = Canvases.of(films)
    learn(
        network.trunk,
        lambda step: drawn_pairs(canvases, settings, fold, step),
        settings.film_steps,
        settings.film_rate,
        device,
        settings.seed,
        _reporting(f"without fold {fold}", say),
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """What a reader says of films; all of shape (n,).

    Attributes
    ----------
    probabilities : ndarray of float64
        Of the reader.
    learnt : ndarray of float64
        Log-odds of its network alone.
    uneven : ndarray of float64
        Difference of both lungs: the comparison that it has to beat.
    """

    probabilities: NDArray[np.float64]
    learnt: NDArray[np.float64]
    uneven: NDArray[np.float64]

    @classmethod
    def of(cls, learnt: Sequence[float], uneven: Sequence[float]) -> Scores:
        """Add both parts up, as `ChestNetwork` does."""
        parts = np.asarray(learnt, np.float64), np.asarray(uneven, np.float64)
        return cls(1 / (1 + np.exp(-(parts[0] + UNEVENNESS * parts[1]))), *parts)


def scores(
    network: ChestNetwork, listed: Sequence[Listed], spec: InputSpec, device: torch.device
) -> Scores:
    """Return what `network` says of every film, prepared as in service."""
    learnt, uneven = [], []
    with torch.inference_mode():
        for one in listed:
            tensor = prepare_radiograph(read_values(one.path), spec, device)
            learnt.append(float(network.trunk(tensor)[0, 0]))
            uneven.append(float(difference(tensor)[0, 0]))
    return Scores.of(learnt, uneven)


def _reporting(what: str, say: Say) -> Callable[[int, int, float, float], None]:
    losses: list[float] = []

    def report(step: int, steps: int, loss: float, seconds: float) -> None:
        losses.append(loss)
        if step % 10 == 0 or step == steps:
            mean = sum(losses[-10:]) / len(losses[-10:])
            say(f"{what}: step {step}/{steps}  loss {mean:.3f}  {seconds:.0f} s")

    return report
