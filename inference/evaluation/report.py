"""The report of an evaluation: one page that stands alone, and its figures for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from ..model import LoadedReader
from ..reader import Reader
from ..windows import BRAIN, Window
from . import page, plots
from .evaluate import Evaluation, top_losses
from .figures import Figure
from .label_figures import LabelFigures, majority_accuracy
from .metrics import PROPORTIONS, f1, proportion
from .thumbnails import thumbnail
from .whole_file import whole_text

# What each figure means, in the order of the table.
MEANINGS: Mapping[str, tuple[str, str]] = {
    "auc": ("AUC", "how often a positive image scores above a negative one"),
    "average_precision": ("average precision", "area under precision and recall"),
    "accuracy": ("accuracy", "share of right decisions"),
    "sensitivity": ("sensitivity", "share of the positive that is called positive"),
    "specificity": ("specificity", "share of the negative that is called negative"),
    "ppv": ("PPV", "share of those called positive that is positive"),
    "npv": ("NPV", "share of those called negative that is negative"),
    "f1": ("F1", "harmonic mean of PPV and sensitivity"),
    "kappa": ("Cohen's kappa", "agreement with the truth beyond chance"),
    "brier": ("Brier score", "mean squared distance of probability and truth; 0 is best"),
    "ece": ("ECE", "mean distance of probability and frequency; 0 is best"),
    "log_loss": ("log loss", "price of confidence in the wrong; 0 is best"),
}
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
_METHODS = {"wilson": "Wilson", "bootstrap": "bootstrap over patients"}
# With fewer positive or negative images a figure says little.
_FEW = 30


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
    """Write the page, and ``figures.json`` beside it.

    Returns
    -------
    Path
        Of ``figures.json``.

    Raises
    ------
    InferenceError
        If matplotlib is missing or a file cannot be written.
    """
    title = _title(evaluation)
    with whole_text(path) as file:
        file.write(page.document(title, _body(title, evaluation, reader, circumstances)))
    figures = path.with_name("figures.json")
    with whole_text(figures) as file:
        json.dump(figures_document(evaluation, circumstances), file, indent=2, allow_nan=False)
        file.write("\n")
    return figures


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
        links = (f'<a href="#{label.name}">{label.name}</a>' for label in evaluation.labels)
        yield f"<nav>{' '.join(links)}</nav>"
        yield "<h2>All labels</h2>"
        yield _overall(evaluation)
        yield _summary(evaluation.labels)
    for place, label in enumerate(evaluation.labels):
        yield from _label(label, circumstances.unit)
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
    yield unit, f"{len(scored.results)} {unit} of {patients} patients or studies"
    if scored.unread:
        reasons = ", ".join(f"{count} {code}" for code, count in scored.faults.items())
        yield "not read", f"{len(scored.unread)} ({reasons})"
    if circumstances.missing:
        yield "not there", f"{circumstances.missing} images of the table"
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
    if evaluation.scored.unread:
        yield (
            f"{len(evaluation.scored.unread)} {circumstances.unit} were not read and count in no "
            "figure. In service they would come out as not analysed."
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
         *(_brief(label.figures[name]) for name in shown)]
        for label in labels
    ]  # fmt: skip
    return page.table(head, rows)


def _brief(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.3f}"


def _label(label: LabelFigures, unit: str) -> Iterator[str]:
    yield f'<h2 id="{escape(label.name)}">{escape(label.name)}</h2>'
    yield (
        f"<p>{label.images} {unit}, {label.positives} positive and {label.negatives} negative. "
        f"Called positive from {label.thresholds.high:g} on, the model's upper threshold.</p>"
    )
    yield page.tiles(
        (MEANINGS[name][0], _brief(label.figures[name]), _interval(label.figures[name]))
        for name in ("auc", "sensitivity", "specificity", "ppv", "npv")
    )
    yield '<div class="plots">'
    yield page.svg_image(plots.roc(label), "ROC", label.figures["auc"].reason)
    reason = label.figures["average_precision"].reason
    yield page.svg_image(plots.precision_recall(label), "Precision and recall", reason)
    yield page.svg_image(plots.reliability(label), "Reliability", "")
    yield page.svg_image(plots.spread(label), "Probabilities", "")
    yield "</div>"
    yield '<div class="pair">'
    yield f"<div><h3>Decisions</h3>{_matrix(label)}</div>"
    yield f"<div><h3>What the node would say</h3>{_presence(label)}</div>"
    yield "</div>"
    yield "<h3>Figures</h3>"
    yield page.table(
        ("figure", "value (95 % interval)", "interval by", "what it is"),
        (
            (shown, label.figures[name].text(), _how(label.figures[name]), meaning)
            for name, (shown, meaning) in MEANINGS.items()
        ),
        numeric=9,
    )
    majority = majority_accuracy(label.counts)
    if majority is not None:
        more = "positive" if label.positives > label.negatives else "negative"
        yield (
            f'<p class="note">To compare: calling everything {more} has an accuracy of '
            f"{majority:.3f}, and a model that knows nothing an AUC of 0.5 and an average "
            f"precision of {label.positives / label.images:.3f}.</p>"
        )
    yield "<h3>Thresholds</h3>"
    yield _thresholds(label)


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return figure.reason
    return f"{figure.low:.3f} to {figure.high:.3f}"


def _how(figure: Figure) -> str:
    return figure.reason or _METHODS.get(figure.method, "")


def _matrix(label: LabelFigures) -> str:
    counts = label.counts

    def cell(kind: str, count: float, said: str) -> str:
        return f'<td class="{kind}"><b>{count:.0f}</b>{said}</td>'

    return (
        '<table class="matrix"><tr><td></td><th>called negative</th><th>called positive</th></tr>'
        f"<tr><th>negative</th>{cell('right', counts.tn, 'true negative')}"
        f"{cell('wrong', counts.fp, 'false alarm')}</tr>"
        f"<tr><th>positive</th>{cell('wrong', counts.fn, 'missed')}"
        f"{cell('right', counts.tp, 'found')}</tr></table>"
    )


def _presence(label: LabelFigures) -> str:
    low, high = label.thresholds.low, label.thresholds.high
    ranges = {
        "Present": f"from {high:g}",
        "Undetermined": f"{low:g} to {high:g}",
        "Absent": f"below {low:g}",
    }
    return page.table(
        ("finding", "probability", "negative", "positive"),
        (
            (name, ranges[name], str(negative), str(positive))
            for name, (negative, positive) in label.presence.items()
        ),
    )


def _thresholds(label: LabelFigures) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    rows = [
        (
            f"{row.threshold:.3f}", ", ".join(row.names),
            *(shown(proportion(name, row.counts)) for name in PROPORTIONS if name != "accuracy"),
            shown(f1(row.counts)), f"{row.counts.tp:.0f}", f"{row.counts.fp:.0f}",
            f"{row.counts.fn:.0f}",
        )
        for row in label.table
    ]  # fmt: skip
    head = ("from", "", "sensitivity", "specificity", "PPV", "NPV", "F1", "found", "false alarms",
            "missed")  # fmt: skip
    return page.table(head, rows, numeric=2, marked=[bool(row.names) for row in label.table])


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
        uid = one.sop_instance_uid
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
        "Without a Patient ID the study stands for the patient.</p>"
        "<p>ECE and the reliability plot use ten equal bins of probability. The dots of the plot "
        "grow with the number of images.</p>"
        "<p>The figures speak of these images and of nothing else.</p>"
    )
