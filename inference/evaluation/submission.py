"""The file that the RSNA 2019 competition takes: ``ID,Label``, a row for each image and label."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle import Bundle
from ..errors import InferenceError
from .images import ImageResult
from .labelled import run_folder
from .whole_file import whole_text

# The order of the competition's own files.
ORDER = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
# What is said of an image that could not be read, where nothing better is known.
UNKNOWN = 0.5


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submission holds.

    Attributes
    ----------
    images, rows : int
    unread : tuple of ImageResult
        Images that could not be read; their rows hold the prior.
    """

    images: int
    rows: int
    unread: tuple[ImageResult, ...]


def write_submission(
    path: Path,
    results: Iterable[ImageResult],
    labels: Sequence[str],
    prior: Mapping[str, float],
) -> Submitted:
    """Write rows as results come; there is no file before all are in.

    Parameters
    ----------
    path : Path
        Replaced if it is there.
    results : iterable of ImageResult
        In any order; the ID of an image is the name of its file without the suffix.
    labels : sequence of str
        Of the reader; those of the competition come in the competition's order, others follow.
    prior : mapping of str to float
        What is written for images that could not be read; `UNKNOWN` for a label that it lacks.
        A label of the competition that stands here alone, because the reader could not learn it,
        gets this in all rows: the competition takes no file without them.

    Raises
    ------
    InferenceError
        If two files have one ID, or the file cannot be written.
    """
    names = [*labels, *unserved(labels, prior)]
    columns = sorted(range(len(names)), key=lambda c: (_place(names[c]), c))
    known: set[str] = set()
    unread: list[ImageResult] = []
    with whole_text(path) as file:
        file.write("ID,Label\n")
        for result in results:
            image = _id_of(result.path)
            if image in known:
                raise InferenceError(f"{result.path}: another file has the ID {image} too")
            known.add(image)
            scores = result.probabilities
            if scores is None:
                unread.append(result)
            for column in columns:
                name = names[column]
                if scores is None or column >= len(labels):
                    value = prior.get(name, UNKNOWN)
                else:
                    value = float(scores[column])
                file.write(f"{image}_{name},{value:.7g}\n")
    return Submitted(len(known), len(known) * len(names), tuple(unread))


def unserved(labels: Sequence[str], prior: Mapping[str, float]) -> tuple[str, ...]:
    """Return the labels of the competition that `prior` knows and a reader of others does not."""
    if not set(labels) & set(ORDER):
        return ()
    return tuple(name for name in ORDER if name in prior and name not in labels)


def prior_of(bundle: Bundle) -> dict[str, float]:
    """Return how frequent each label was in training, if that is known.

    It is looked for as ``prevalence``, a mapping of label to share, in ``configs/metadata.json``,
    then as the counts in ``labels.csv`` of the run folder that the training left.

    Raises
    ------
    InferenceError
        If what is there makes no sense.
    """
    stated = bundle.path / "configs" / "metadata.json"
    counted = run_folder(bundle.path) / "labels.csv"
    try:
        shares = json.loads(stated.read_text(encoding="utf-8")).get("prevalence")
        if shares is None and counted.is_file():
            with counted.open(newline="", encoding="utf-8") as lines:
                shares = {row["label"]: _share(row) for row in csv.DictReader(lines)}
        found = {str(name): float(share) for name, share in (shares or {}).items()}
        if not all(0.0 <= share <= 1.0 for share in found.values()):
            raise ValueError("a share is outside 0 to 1")
    except (OSError, ArithmeticError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise InferenceError(
            f"how frequent labels were, in {stated} or {counted}, makes no sense: {error}"
        ) from error
    return found


def _share(row: Mapping[str, str]) -> float:
    positive, negative = int(row["positive"]), int(row["negative"])
    return positive / (positive + negative)


def _id_of(path: Path) -> str:
    name = path.stem
    if not name.isprintable() or any(letter in name for letter in ',"'):
        raise InferenceError(f"{path}: its name cannot be an ID")
    return name


def _place(label: str) -> int:
    return ORDER.index(label) if label in ORDER else len(ORDER)
