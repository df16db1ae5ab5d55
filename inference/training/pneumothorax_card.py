"""The model card of the reference pneumothorax reader: what was measured, and what was not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed

import torch

from ..evaluation.intervals import wilson
from ..reading import Thresholds
from .chest_learning import UNEVENNESS, ReferenceSettings
from .chest_measure import Ranking
from .error_sheet import Alarm


@dataclass(frozen=True, slots=True)
class Counted:
    """How films of one kind came out.

    Attributes
    ----------
    what : str
        Which films, read by which network; a cell of the table.
    present, undetermined, absent : int
    """

    what: str
    present: int
    undetermined: int
    absent: int

    @property
    def films(self) -> int:
        """How many there are."""
        return self.present + self.undetermined + self.absent


@dataclass(frozen=True, slots=True)
class Measured:
    """All figures of the card.

    Attributes
    ----------
    films, without_lungs : int
        Films that were read, and those in which no lungs were found.
    rankings : mapping of str to Ranking
        By what gave the scores; all on the same labelled films.
    gain : tuple of float
        AUC of the reader less that of the comparison, and its 95 % interval.
    patients : mapping of str to float
        For each patient with the finding the mean share of negative films ranked below theirs.
    counted : tuple of Counted
    painted : float
        AUC on findings painted into films not seen in training.
    alarms : tuple of Alarm
        Films without a finding that came out highest, the highest first, read by a network that
        had not seen them.
    """

    settings: ReferenceSettings
    thresholds: Thresholds
    start: str
    films: int
    without_lungs: int
    backgrounds: int
    labelled: int
    rankings: Mapping[str, Ranking]
    gain: tuple[float, float, float]
    patients: Mapping[str, tuple[int, float]]
    counted: tuple[Counted, ...]
    painted: float
    alarms: tuple[Alarm, ...]


def card(measured: Measured, command: str, weights_sha256: str) -> str:
    """Return the model card, Markdown."""
    parts = [
        "# Pneumothorax on frontal chest radiographs (pneumothorax 0.2.0)",
        "For demonstration and for tests of the node. **Not a medical device; not for clinical "
        "use.** To find pneumothoraces take a published reader or train on your own films: this "
        "one shows how a reader is served, and how little can be learnt from almost no labels.",
        "## Training data",
        _data(measured),
        measured.start,
        "## Figures on real films",
        _ranking(measured),
        _thresholds(measured),
        "## Figures on painted films",
        f"AUC {measured.painted:.3f} on pneumothoraces painted into films that the network had "
        "not seen. It says that the network learnt the brush; readers with such figures have "
        "failed on real films before.",
        "## Limits",
        "\n".join(f"- {limit}" for limit in _LIMITS),
        "## How it was made",
        f"```\n{command}\n```\n\nwith torch {installed('torch')}, MONAI {installed('monai')} and "
        f"numpy {installed('numpy')}; other versions, processors or numbers of threads "
        f"(here {torch.get_num_threads()}) give slightly other weights.",
        f"SHA-256 of the weights: `{weights_sha256}`",
    ]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    "Real pneumothoraces were seen at 64 x 64 pixels alone: a pleural line cannot be seen there, "
    "only a side that is black, empty or pushed away. Whether the reader finds a thin line on a "
    "film of full size was never measured on a real one.",
    "Seven patients have a pneumothorax, two of whom gave 27 of the 40 films: every figure of "
    "sensitivity hangs on very few people. Their labels were read from reports by a program; "
    "drained and tiny ones are among them.",
    "The films without a finding are of patients with COVID-19, many in intensive care, of one "
    "hospital, and nobody has checked that none of them has a pneumothorax. Which of them are of "
    "one patient is unknown, so a patient may stand on both sides of the split.",
    "Never measured: children, lateral decubitus and expiratory films, other makers' processing, "
    "films with chest drains as such, which side it is on, how large it is.",
    "It was never compared with a radiologist.",
)


def _data(measured: Measured) -> str:
    return (
        f"Phantoms, {measured.backgrounds} radiographs without a pneumothorax label (Hannover, "
        "CC BY 3.0) and a sample of NIH ChestX-ray14 at 64 x 64 pixels (NIH Clinical Center; Wang "
        f"et al., CVPR 2017; {measured.labelled} films, 40 with a pneumothorax of 7 patients). "
        "Pneumothoraces were painted into films without: a lung scaled about where it is held, "
        "its line, air without markings beyond it. Each painted film has a twin without, which "
        "may bear one of the signs alone. About "
        f"{100 * measured.settings.real:.0f} % of the pairs were real ones."
    )


def _ranking(measured: Measured) -> str:
    lines = [
        "Two networks learnt, each from half of all patients; the first ships. Every labelled film "
        "was read by the one that had seen neither it nor its patient. AUC over pairs within a "
        "half, 95 % intervals by bootstrap over patients. The comparison is what needs no "
        "training: how far the mean intensities of both lungs are apart. The reader adds it, "
        f"times {UNEVENNESS:g}, to the log-odds of its network; that weight was chosen on these "
        "very films, so the first line flatters a little.",
        "",
        "| scores of | AUC | 95 % interval | films with | of patients | films without |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in measured.rankings.items():
        lines.append(
            f"| {name} | {found.auc:.3f} | {found.low:.2f} to {found.high:.2f} | "
            f"{found.positives} | {found.patients} | {found.negatives} |"
        )
    gain, low, high = measured.gain
    verdict = "better than" if low > 0 else "not shown to be better than"
    lines += [
        "",
        f"On these films the reader is {verdict} the difference of both lungs alone: {gain:+.3f} "
        f"(95 % {low:+.2f} to {high:+.2f}, the same resamples for both).",
        "",
        "By patient, mean share of films without a finding that rank below theirs: "
        + ", ".join(f"{mean:.2f} ({films})" for films, mean in measured.patients.values())
        + " (number of films).",
    ]
    return "\n".join(lines)


def _thresholds(measured: Measured) -> str:
    lines = [
        f"Absent below {measured.thresholds.low:.3f}, Present from {measured.thresholds.high:.3f}: "
        "chosen on films without a finding that the network had not seen, at most 5 % of either "
        "source Present and at most half Absent, so their shares below are a little flattering; "
        "for the films with one nothing was chosen. "
        f"In {measured.without_lungs} of {measured.films} films no lungs were found, and the whole "
        "picture was shown.",
        "",
        "| films | number | Present | Undetermined | Absent | share Present (95 %) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one.what} | {one.films} | {one.present} | {one.undetermined} | {one.absent} | "
        f"{_share_present(one)} |"
        for one in measured.counted
    ]
    return "\n".join(lines)


def _share_present(counted: Counted) -> str:
    """Return the share in percent with its Wilson interval; ``-`` of no films."""
    # Which films are of one patient is unknown: each counts.
    if not counted.films:
        return "-"
    low, high = wilson(counted.present, counted.films)
    share = counted.present / counted.films
    return f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
