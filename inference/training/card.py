"""The model card: what a trained reader is, how it was measured, and what it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as installed

from ..bundle import Bundle
from ..evaluation.figures import Figure
from ..evaluation.intervals import RESAMPLES
from ..input_spec import RESIZE_KERNEL
from ..reading import Thresholds
from .command import command_of
from .gate import Refused
from .head_part import HeadPart
from .measured import Measured
from .naming import Naming
from .recipes import Recipe, TrainSettings
from .sequence_fit import TrainedSequence

_PARTS = {
    "training": "training",
    "sequence": "the head over the slices",
    "validation": "validation: thresholds, early stopping",
    "test": "test: the figures below",
}


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out of a training.

    Attributes
    ----------
    recipe : Recipe
        Labels of weight 0 were not learnt.
    naming : Naming
        What the model is called, and whose it is.
    origin : {"phantoms", "files"}
        What it learnt from.
    start : str
        What it started from, as a sentence.
    counts : tuple of int
        Images for training, validation and test.
    by_series : bool
        Whether `figures` and thresholds are of whole series.
    figures, image_figures : mapping of str to Measured
        By label, on the test data.
    parts : sequence of mapping
        Rows of `split.describe`; empty for phantoms.
    unreadable, missing : int
        Images that could not be decoded, and those of the table that are not there.
    refused : tuple of Refused
        What of the data the bundle refuses when it is served.
    unlearnt : mapping of str to str
        Labels that are not served, and what was lacking to learn them.
    prevalence : mapping of str to float
        Share of the images learnt from that have each label; empty for phantoms.
    epochs : int
        That were trained; early stopping can make them fewer.
    ended : str
        How, as a sentence without its full stop (`progress.ending`).
    log_loss : float or None
        Weighted log loss on the test images.
    rate : float
        The learning rate that was used.
    sequence : TrainedSequence or None
    head : HeadPart
        What there was to teach it.
    """

    recipe: Recipe
    naming: Naming
    settings: TrainSettings
    origin: str
    start: str
    counts: tuple[int, int, int]
    by_series: bool
    thresholds: Mapping[str, Thresholds]
    figures: Mapping[str, Measured]
    image_figures: Mapping[str, Measured]
    parts: Sequence[Mapping[str, object]] = field(default=())
    unreadable: int = 0
    missing: int = 0
    refused: tuple[Refused, ...] = ()
    unlearnt: Mapping[str, str] = field(default_factory=dict)
    prevalence: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    ended: str = ""
    log_loss: float | None = None
    rate: float = 0.0
    sequence: TrainedSequence | None = None
    head: HeadPart = field(default_factory=HeadPart)


def model_card(trained: Trained, bundle: Bundle) -> str:
    """Return the model card, Markdown; `bundle` tells the hashes of what is stored."""
    recipe = trained.recipe
    parts = [
        f"# {recipe.title} ({trained.naming.name} {trained.naming.version})",
        trained.naming.by,
        "## Intended use",
        _intended_use(trained),
        "## Training data",
        data_section(trained),
        trained.start,
        "## Figures",
        _figures_intro(trained),
        figures_table(trained.figures, trained.thresholds),
    ]
    if trained.by_series:
        parts += ["Single slices of the same series:", figures_table(trained.image_figures)]
    if trained.log_loss is not None:
        which = "; of the labels that are served" if trained.unlearnt else ""
        parts.append(
            f"Weighted log loss over single images: {trained.log_loss:.4f} (as RSNA 2019 defines "
            f"it; lower is better{which})."
        )
    parts += [
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(trained)),
        "## Input",
        _input(trained),
        "## How it was made",
        _reproduction(trained),
        f"SHA-256 of the weights: `{bundle.identity.weights_sha256}`",
    ]
    if bundle.sequence:
        parts.append(f"SHA-256 of the head over the slices: `{bundle.sequence.weights_sha256}`")
    return "\n\n".join(parts) + "\n"


def _intended_use(trained: Trained) -> str:
    said = (
        "For demonstration and for tests of the node. **Not a medical device; not for clinical "
        "use.**"
    )
    if trained.origin == "phantoms":
        return f"{said} No figure below says how it does on patients."
    return (
        f"{said} The figures below hold for the data set that it was trained on; how it does in "
        "another hospital nobody knows before it is measured there."
    )


def data_section(trained: Trained) -> str:
    """Return what was learnt from and measured on."""
    training, validation, test = trained.counts
    recipe, settings = trained.recipe, trained.settings
    if trained.origin == "phantoms":
        return (
            f"Only phantoms: {recipe.phantom} images that the project draws by program "
            f"(`inference/training/phantoms`). No image of a patient was used, and nobody read the "
            f"images: their labels are what was painted. Training: {training} images of "
            f"{settings.phantoms} phantoms. Thresholds: {validation} images of "
            f"{settings.validation} other phantoms. Figures: {test} images of {settings.test} "
            "further phantoms."
        )
    how = "by iterative stratification" if settings.split == "stratified" else "at random"
    said = (
        f"Labelled files, split {how} by {settings.split_by} (seed {settings.seed}): nobody is in "
        f"two parts. A {settings.split_by} counts for each label that one of its images has."
    )
    if trained.missing:
        said += f" {trained.missing} images of the table were not there."
    if trained.unreadable:
        said += (
            f" {trained.unreadable} images could not be decoded, or have no contrast, and were left"
            " out."
        )
    return f"{said}\n\n{_parts_table(trained)}"


def _resampled(trained: Trained) -> str:
    if trained.origin == "phantoms":
        return "phantoms"
    return "patients" if trained.settings.split_by == "patient" else "studies"


def _parts_table(trained: Trained) -> str:
    names = [label.name for label in trained.recipe.labels]
    group = _resampled(trained)
    lines = _head(["part", group, "images", *(f"{name}, {group}" for name in names)])
    for row in trained.parts:
        cells = [_PARTS[str(row["part"])], row["groups"], row["images"], *(row[n] for n in names)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _figures_intro(trained: Trained) -> str:
    unit = "Whole series" if trained.by_series else "Images"
    where = "held-out phantoms" if trained.origin == "phantoms" else "the test part"
    read = ""
    if trained.by_series:
        read = (
            " A series is read as the node reads it: by the head over its slices, which learnt "
            f"from {trained.sequence.series} series."
            if trained.sequence
            else " A series is read as the node reads it: smoothed, then the highest slice."
        )
    return (
        f"{unit} of {where}, with weights and thresholds fixed before.{read} Sensitivity and "
        "specificity at the upper threshold, accuracy at one half. In brackets the 95 % interval: "
        f"of the AUC by bootstrap over {_resampled(trained)} ({RESAMPLES} draws; none where no "
        "draw differs), of shares after Wilson; where one patient has several images, these count "
        "as fewer."
    )


def _limits(trained: Trained) -> Iterator[str]:
    for name, lacking in trained.unlearnt.items():
        yield f"It says nothing of {name}: the training part had {lacking}, so it is not served."
    for text in trained.head.texts():
        yield f"{text[0].upper()}{text[1:]}."
    for one in trained.refused:
        yield f"{one.text}."
    if trained.origin == "phantoms":
        yield (
            "Phantoms are far simpler than patients. An AUC near 1 on phantoms says that the "
            "program learnt what the phantoms show, and nothing more."
        )
    else:
        yield "It was measured on one split of one data set."
        yield "The labels are those of the data set; nobody checked them."
    yield "It was never compared with a radiologist's reading of any image."
    few = [n for n, one in trained.figures.items() if one.positives < 10]
    if few:
        yield f"Fewer than ten positives were measured of: {', '.join(few)}."
    if any(limits.low == limits.high == 0.5 for limits in trained.thresholds.values()):
        yield "Where both thresholds are 0.5 the validation part had only one outcome."


def _input(trained: Trained) -> str:
    spec = trained.recipe.spec
    windows = ", ".join(f"{w.name} {w.center:g}/{w.width:g}" for w in spec.windows)
    channels = f"channels: {windows}; " if windows else ""
    return (
        f"{spec.size} x {spec.size} pixels, {channels}resize kernel {RESIZE_KERNEL}, the same "
        "function in training and in service. Training sees it rounded to 8 bits."
    )


def _reproduction(trained: Trained) -> str:
    from_files = trained.origin == "files"
    command = command_of(trained.recipe, trained.settings, trained.naming, from_files)
    return (
        f"```\n{command}\n```\n\nwith torch {installed('torch')}, MONAI "
        f"{installed('monai')} and numpy {installed('numpy')}, on {trained.settings.device}; other "
        "versions, processors or numbers of threads give slightly other weights. It trained "
        f"{trained.epochs} epochs at a peak learning rate of {trained.rate:.3g}"
        f"{trained.ended and ': '}{trained.ended}."
    )


def figures_table(
    figures: Mapping[str, Measured], thresholds: Mapping[str, Thresholds] | None = None
) -> str:
    """Return a row for each label, with thresholds where they are given."""
    columns = ["label", "positive", "negative", "AUC", "sensitivity", "specificity", "accuracy"]
    lines = _head(columns + (["Absent below", "Present from"] if thresholds else []))
    for name, one in figures.items():
        cells = [name, str(one.positives), str(one.negatives)]
        cells += [
            _figure(one.figures[figure])
            for figure in ("auc", "sensitivity", "specificity", "accuracy")
        ]
        if thresholds:
            cells += [f"{thresholds[name].low:.3f}", f"{thresholds[name].high:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _head(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    if figure.interval is None:
        return f"{figure.value:.3f}"
    low, high = figure.interval
    return f"{figure.value:.3f} ({low:.3f}-{high:.3f})"
