"""One label of a report: figures, curves, decisions and thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from ..number_words import number_of
from . import page, plots
from .figures import Figure
from .label_figures import LabelFigures, majority_accuracy
from .metrics import PROPORTIONS, f1, proportion

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
_METHODS = {"wilson": "Wilson", "bootstrap": "bootstrap over patients"}


def units(count: int, unit: str) -> str:
    """Return how many images or series these are."""
    return number_of(count, "image" if unit == "images" else unit, unit)


def label_section(label: LabelFigures, unit: str) -> Iterator[str]:
    """Yield the parts of a label's section; `unit` is what counts as one."""
    yield f'<h2 id="{escape(label.name)}">{escape(label.name)}</h2>'
    yield (
        f"<p>{units(label.images, unit)}, {label.positives} positive and {label.negatives} "
        f"negative. Called positive from {label.thresholds.high:g} on, the model's upper "
        "threshold.</p>"
    )
    yield page.tiles(
        (MEANINGS[name][0], brief(label.figures[name]), _interval(label.figures[name]))
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


def brief(figure: Figure) -> str:
    """Return a figure without its interval; ``-`` for none."""
    return "-" if figure.value is None else f"{figure.value:.3f}"
