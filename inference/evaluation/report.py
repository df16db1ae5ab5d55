"""The report of an evaluation: one page that stands alone, and its figures for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from ..disclosure import uid_shown
from ..model import LoadedReader
from ..number_words import noun, number_of
from ..reader import Reader
from ..windows import BRAIN, Window
from . import page
from .evaluate import Evaluation, top_losses
from .label_figures import LabelFigures, majority_accuracy
from .label_section import MEANINGS, brief, label_section, units
from .thumbnails import thumbnail
from .whole_file import whole_text

_OVERALL = {
    "weighted_log_loss": ("weighted log loss", "of RSNA 2019: the label any counts double"),
    "mean_auc": ("mean AUC", "over the labels that have one"),
}
_UNITS = {
    "images": (
        "Every file went the way of the node: the same decoding, preparation and network as in "
        "service. Each image counts once; what asks for a whole series was not asked."
    ),
    "series": (
        "Every series was read whole, by the very call of the node. Each counts once, where this "
        "page says image too, and is positive where one of its images is."
    ),
}
# With fewer positive or negative images a figure says little.
_FEW = 30
_FIGURES = ".figures"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a report states besides its figures.

    Attributes
    ----------
    data : str
        Name of the table of labels.
    split : str
        Which part of the data: ``all``, ``test`` or ``validation``.
    made_at : datetime
    gate : bool
        Whether images that the model was not made for were refused.
    resamples : int
    seed : int
    top : int
        Images shown for each label.
    unit : str
        What counts as one: ``images`` or ``series``.
    missing : int
        Rows of the table whose file was not there.
    window : Window
        What the greys of CT pictures were taken to spread over.
    """

    data: str
    split: str
    made_at: datetime
    gate: bool
    resamples: int
    seed: int
    top: int
    unit: str = "images"
    missing: int = 0
    window: Window = BRAIN


def write_report(
    path: Path, evaluation: Evaluation, reader: LoadedReader, circumstances: Circumstances
) -> Path:
    """Write the page, and its figures beside it; see `figures_path`.

    Returns
    -------
    Path
        Of the figures.

    Raises
    ------
    InferenceError
        If matplotlib is missing or a file cannot be written.
    """
    title = _title(evaluation)
    with whole_text(path) as file:
        file.write(page.document(title, _body(title, evaluation, reader, circumstances)))
    figures = figures_path(path)
    with whole_text(figures) as file:
        json.dump(figures_document(evaluation, circumstances), file, indent=2, allow_nan=False)
        file.write("\n")
    return figures


def figures_path(page: Path) -> Path:
    """Return where the figures of a page stand: beside it, so that two pages share none.

    ``report.html`` has ``report.json``; to any other name ``.figures.json`` is added.
    """
    # A page x.figures.html would have those of a page x.
    if page.suffix == ".html" and not page.stem.endswith(_FIGURES):
        return page.with_suffix(".json")
    return page.with_name(f"{page.name}{_FIGURES}.json")


def figures_document(evaluation: Evaluation, circumstances: Circumstances) -> dict[str, Any]:
    """Return all figures as JSON; no file, patient or UID is named."""
    scored = evaluation.scored
    bundle = scored.bundle
    return {
        "model": {
            "name": bundle.name,
            "version": bundle.version,
            "weights_sha256": bundle.identity.weights_sha256,
        },
        "data": circumstances.data,
        "split": circumstances.split,
        "made_at": circumstances.made_at.isoformat(timespec="seconds"),
        "gate": circumstances.gate,
        "bootstrap": {"resamples": circumstances.resamples, "seed": circumstances.seed},
        "unit": circumstances.unit,
        "images": len(scored.results),
        "not_there": circumstances.missing,
        "not_read": dict(scored.faults),
        "pixel_notes": dict(scored.notes),
        "overall": {name: figure.to_dict() for name, figure in evaluation.overall.items()},
        "labels": {label.name: _label_document(label) for label in evaluation.labels},
    }


def _label_document(label: LabelFigures) -> dict[str, Any]:
    counts = label.counts
    return {
        "images": label.images,
        "patients": label.patients,
        "positives": label.positives,
        "thresholds": {"low": label.thresholds.low, "high": label.thresholds.high},
        "confusion": {name: int(getattr(counts, name)) for name in ("tp", "fp", "tn", "fn")},
        "presence": {
            name: {"negative": pair[0], "positive": pair[1]}
            for name, pair in label.presence.items()
        },
        "majority_accuracy": majority_accuracy(counts),
        "figures": {name: label.figures[name].to_dict() for name in MEANINGS},
        "reliability": [
            {"from": one.low, "to": one.high, "images": one.count, "predicted": one.predicted,
             "observed": one.observed}
            for one in label.reliability
        ],
        "thresholds_table": [
            {
                "threshold": row.threshold,
                "names": list(row.names),
                **{name: int(getattr(row.counts, name)) for name in ("tp", "fp", "tn", "fn")},
            }
            for row in label.table
        ],
    }  # fmt: skip


def _title(evaluation: Evaluation) -> str:
    bundle = evaluation.scored.bundle
    return f"{bundle.name} {bundle.version}: how good it is"


def _body(
    title: str, evaluation: Evaluation, reader: LoadedReader, circumstances: Circumstances
) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    yield page.facts(_facts(evaluation, circumstances))
    for warning in _warnings(evaluation, circumstances):
        yield f'<p class="banner">{escape(warning)}</p>'
    if len(evaluation.labels) > 1:
        names = [escape(label.name) for label in evaluation.labels]
        links = (f'<a href="#{name}">{name}</a>' for name in names)
        yield f"<nav>{' '.join(links)}</nav>"
        yield "<h2>All labels</h2>"
        yield _overall(evaluation)
        yield _summary(evaluation.labels)
    for place, label in enumerate(evaluation.labels):
        yield from label_section(label, circumstances.unit)
        yield from _losses(evaluation, place, reader, circumstances)
    yield from _method(circumstances)


def _facts(evaluation: Evaluation, circumstances: Circumstances) -> Iterator[tuple[str, str]]:
    scored = evaluation.scored
    bundle = scored.bundle
    yield "weights", f"SHA-256 {bundle.identity.weights_sha256[:16]}..."
    part = "" if circumstances.split == "all" else f", {circumstances.split} part"
    yield "labels from", f"{circumstances.data}{part}"
    patients = evaluation.labels[0].patients
    unit = circumstances.unit
    of = number_of(patients, "patient or study", "patients or studies")
    yield unit, f"{units(len(scored.results), unit)} of {of}"
    if scored.unread:
        reasons = ", ".join(f"{count} {code}" for code, count in scored.faults.items())
        yield "not read", f"{len(scored.unread)} ({reasons})"
    if circumstances.missing:
        yield "not there", f"{number_of(circumstances.missing, 'image')} of the table"
    if scored.notes:
        yield "done to pixels", ", ".join(f"{n}: {count}" for n, count in scored.notes.items())
    yield "made", f"{circumstances.made_at:%Y-%m-%d %H:%M} UTC"


def _warnings(evaluation: Evaluation, circumstances: Circumstances) -> Iterator[str]:
    few = [one.name for one in evaluation.labels if min(one.positives, one.negatives) < _FEW]
    if few:
        yield (
            f"Fewer than {_FEW} positive or negative images for {', '.join(few)}: look at the "
            "intervals before the figures."
        )
    if unread := len(evaluation.scored.unread):
        yield (
            f"{units(unread, circumstances.unit)} {noun(unread, 'was', 'were')} not read and "
            f"{noun(unread, 'counts', 'count')} in no figure. In service "
            f"{noun(unread, 'it', 'they')} would come out as not analysed."
        )
    if not circumstances.gate:
        yield "The model's own criteria for images were off: in service some would be refused."
    if circumstances.split == "validation":
        yield (
            "On these images the training stopped and thresholds were chosen: the figures are "
            "too good. The test part is for figures."
        )
    if circumstances.split == "all":
        yield (
            "All images of the table were read. If the model learnt from some of them, or its "
            "thresholds were chosen on them, these figures are too good."
        )


def _overall(evaluation: Evaluation) -> str:
    rows = []
    for name, figure in evaluation.overall.items():
        shown, meaning = _OVERALL[name]
        rows.append((shown, figure.text(), meaning))
    return page.table(("figure", "value (95 % interval)", "what it is"), rows, numeric=9)


def _summary(labels: Sequence[LabelFigures]) -> str:
    shown = ("auc", "average_precision", "sensitivity", "specificity", "ppv", "f1", "kappa", "ece")
    head = ["label", "positive", "negative", *(MEANINGS[name][0] for name in shown)]
    rows = [
        [label.name, str(label.positives), str(label.negatives),
         *(brief(label.figures[name]) for name in shown)]
        for label in labels
    ]  # fmt: skip
    return page.table(head, rows)


def _losses(
    evaluation: Evaluation, place: int, reader: LoadedReader, circumstances: Circumstances
) -> Iterator[str]:
    # A reader of volumes has no picture of a single image.
    if not circumstances.top or not isinstance(reader, Reader):
        return
    scored = evaluation.scored
    column = scored.columns[place]
    yield "<h3>Where it is most wrong</h3>"
    yield (
        '<p class="note">The images that cost most, the worst first. The warm colour in the '
        "picture to the right is where the network looked for the label; it is no outline.</p>"
    )
    yield '<div class="losses">'
    for index, loss in top_losses(scored, place, circumstances.top):
        one = scored.results[index]
        truth = "positive" if scored.truth[index, place] else "negative"
        score = float(scored.scores[index, place])
        uid = uid_shown(one.sop_instance_uid)
        name = "picture" if not uid else uid if len(uid) <= 12 else f"...{uid[-8:]}"
        caption = f"{name}: says {score:.3f}, is {truth}; loss {loss:.2f}"
        shown = thumbnail(reader, one.path, column, circumstances.window)
        yield page.picture(shown, caption, caption)
    yield "</div>"


def _method(circumstances: Circumstances) -> Iterator[str]:
    yield "<h2>How it was measured</h2>"
    yield (
        f"<p>{_UNITS[circumstances.unit]}</p>"
        "<p>Intervals are of 95 %. Proportions have Wilson score intervals; where patients have "
        "several images, these rest on the number of independent images that vary as much, which "
        "is smaller. All other intervals are percentiles of "
        f"{circumstances.resamples} resamples of whole patients (seed {circumstances.seed}). "
        "Without a Patient ID the study stands for the patient. A figure that is the same in all "
        "resamples, such as an AUC of 1, has no interval.</p>"
        "<p>ECE and the reliability plot use ten equal bins of probability. The dots of the plot "
        "grow with the number of images, and its bars count images, whoever they are of.</p>"
        "<p>The figures speak of these images and of nothing else.</p>"
    )
