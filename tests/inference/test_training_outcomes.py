"""A label without both outcomes is neither learnt nor served, and what is frequent is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_layouts import SUBTYPES, rsna_layout, siim_layout

from inference.bundle import open_bundle
from inference.errors import InferenceError
from inference.evaluation.submission import prior_of
from inference.model import load_reader
from inference.reading import Scope, SourceImage
from inference.training.gate import Refused
from inference.training.head_part import HeadPart
from inference.training.outcomes import prevalence, unlearnable
from inference.training.phantoms.files import write_head_series
from inference.training.progress import Listener
from inference.training.train import TrainSettings, train

TINY = TrainSettings(epochs=1, batch=4, workers=1, size=32)
Sources = Callable[[list[Path]], list[SourceImage]]


def bleeding(folder: Path, kind: str, heads: int = 6) -> Path:
    """Write slices of heads, every second with a bleed of one kind; return the table."""
    table = rsna_layout(folder, heads)
    swapped = {"epidural": kind, kind: "epidural"}
    rows = [line.rpartition("_") for line in table.read_text().splitlines()[1:]]
    names = [(image, *rest.split(",")) for image, _, rest in rows]
    lines = [f"{image}_{swapped.get(name, name)},{value}" for image, name, value in names]
    table.write_text("\n".join(["ID,Label", *lines]) + "\n")
    return table


def test_labels_with_one_outcome_are_told() -> None:
    labels = np.array([[0, 1, 1], [0, 1, 0]], np.uint8)
    assert unlearnable(labels, ["a", "b", "c"]) == {
        "a": "no positive image",
        "b": "no negative image",
    }
    assert prevalence(labels, ["a", "b", "c"]) == {"a": 0.25, "b": 0.75, "c": 0.5}
    with pytest.raises(InferenceError, match=r"nothing to learn in the 2 images .*a: no positive"):
        unlearnable(labels[:, :2], ["a", "b"])


class Heard(Listener):
    """Keeps what is said of labels and of what the node will refuse."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        self.refused_texts: list[str] = []
        self.head_texts: list[str] = []
        self.parts: dict[str, int] = {}

    def unlearnt(self, labels: Mapping[str, str]) -> None:
        self.labels = dict(labels)

    def split(self, rows: Sequence[Mapping[str, object]], whom: str) -> None:
        assert whom == "patients"
        self.parts = {str(row["part"]): int(str(row["groups"])) for row in rows}

    def head(self, part: HeadPart) -> None:
        self.head_texts = list(part.texts())

    def refused(self, found: Sequence[Refused]) -> None:
        self.refused_texts = [one.text for one in found]


@pytest.fixture(scope="module")
def subdural(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard]:
    """A reader of slices that were all without a bleed or with a subdural one."""
    folder, heard = tmp_path_factory.mktemp("subdural"), Heard()
    labels = bleeding(folder / "data", "subdural", heads=6)
    train("hemorrhage", folder / "bundle", data=folder / "data", labels=labels, settings=TINY,
          run=folder / "elsewhere", listener=heard)  # fmt: skip
    return folder / "bundle", heard


def test_what_no_image_shows_is_not_served(
    subdural: tuple[Path, Heard], tmp_path: Path, sources: Sources
) -> None:
    out, heard = subdural
    bundle = open_bundle(out)
    assert list(heard.labels) == [name for name in SUBTYPES if name not in ("any", "subdural")]
    assert [label.name for label in bundle.labels] == ["any", "subdural"]
    assert bundle.primary == "any"
    assert "It says nothing of epidural: the training part had no positive image" in bundle.card
    assert not [line for line in bundle.card.splitlines() if line.startswith("| epidural")]
    # The network has all six outputs; what is served is told by their numbers.
    section = json.loads((out / "configs" / "preread.json").read_text())
    assert [label["output"] for label in section["labels"]] == [0, 5]
    other = tmp_path / "other"
    shutil.copytree(out, other)
    second = {**section["labels"][1], "name": "epidural", "output": 1}
    section["labels"] = [section["labels"][1], second, section["labels"][0]]
    (other / "configs" / "preread.json").write_text(json.dumps(section))
    images = sources(write_head_series(tmp_path / "head", 7, "subdural", slices=12, size=128))
    served, again = (
        {f.label.name: f.probability for f in load_reader(open_bundle(path), "cpu").read(images)
         .findings if f.scope is Scope.SERIES}
        for path in (out, other)
    )  # fmt: skip
    assert served.keys() == {"any", "subdural"}
    assert served == {name: again[name] for name in served}
    assert again["epidural"] != served["subdural"]


def test_a_head_over_the_slices_learns_of_the_same_labels(tmp_path: Path, sources: Sources) -> None:
    labels, out = bleeding(tmp_path / "data", "subdural", heads=26), tmp_path / "bundle"
    settings = replace(TINY, sequence=True, sequence_share=0.5)
    train("hemorrhage", out, data=tmp_path / "data", labels=labels, settings=settings)
    images = sources(write_head_series(tmp_path / "head", 7, "subdural", slices=12, size=128))
    served = load_reader(open_bundle(out), "cpu").read(images)
    assert {f.label.name for f in served.findings if f.scope is Scope.SERIES} == {"any", "subdural"}
    assert open_bundle(out).sequence is not None
    assert "by the head over its slices" in open_bundle(out).card
    assert "highest slice stands" not in open_bundle(out).card


def test_of_too_few_patients_no_head_is_learnt_and_their_slices_are(tmp_path: Path) -> None:
    labels, out, heard = bleeding(tmp_path / "data", "subdural"), tmp_path / "bundle", Heard()
    train("hemorrhage", out, data=tmp_path / "data", labels=labels, listener=heard,
          settings=replace(TINY, sequence=True))  # fmt: skip
    assert heard.parts == {"training": 4, "test": 1, "validation": 1}
    (said,) = heard.head_texts
    assert said.startswith("no head over the slices was trained: it takes at least 5 patients with")
    assert "any: 1 with and 0 without" in said or "any: 0 with and 1 without" in said
    bundle = open_bundle(out)
    assert bundle.sequence is None
    assert "- N" + said[1:] + "." in bundle.card
    assert "smoothed, then the highest slice" in bundle.card


def test_a_head_is_taught_what_five_patients_have_and_five_have_not() -> None:
    labels = np.zeros((24, 3), np.uint8)
    groups = np.repeat(np.arange(12), 2)
    labels[:10, 0], labels[::2, 1][:4], labels[:16, 2] = 1, 1, 1  # 5 of 12, 4 of 12, 8 of 12
    part = HeadPart.of(labels, groups, ["any", "b", "c"], (), "studies")
    assert part.taught and part.few == {"b": (4, 8), "c": (8, 4)}
    (said,) = part.texts()
    assert "at least 5 studies with a label" in said and "b: 4 with and 8 without" in said
    # The first that is served stands for the others: without it there is no head.
    assert not HeadPart.of(labels, groups, ["any", "b", "c"], ("any",), "studies").taught
    assert not list(HeadPart.of(labels[:, :1], groups, ["any"], (), "patients").texts())


def test_how_frequent_labels_were_is_written_for_submissions(subdural: tuple[Path, Heard]) -> None:
    prior = prior_of(open_bundle(subdural[0]))
    assert set(prior) == set(SUBTYPES)
    assert 0.0 < prior["epidural"] < 0.2 < prior["any"] == prior["subdural"] < 0.8


def test_series_that_the_node_will_refuse_are_told_of(subdural: tuple[Path, Heard]) -> None:
    """Of two slices of 64 pixels each."""
    out, heard = subdural
    images, series = heard.refused_texts
    assert images.startswith("12 of 12 images of the data will be refused by the node")
    assert series.startswith("6 of 6 series of the data will be refused by the node")
    card = open_bundle(out).card
    assert f"- {images}." in card and f"- {series}." in card


def test_without_anything_to_learn_nothing_is_trained(tmp_path: Path) -> None:
    labels = siim_layout(tmp_path / "data", 8, size=64)
    told = [line.split(",")[0] for line in labels.read_text().splitlines()[1:]]
    labels.write_text("\n".join(["file,label", *(f"{file},None" for file in told)]) + "\n")
    out = tmp_path / "bundle"
    with pytest.raises(InferenceError, match=r"pneumothorax: no positive image.*--seed"):
        train("pneumothorax", out, data=tmp_path / "data", labels=labels, settings=TINY)
    assert not out.exists()
    assert not (tmp_path / "bundle.run" / "run.json").exists()
