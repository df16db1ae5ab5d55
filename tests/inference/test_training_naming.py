"""A model that somebody trained is told apart from the one that ships, in reports too."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import Dataset

from inference.bundle import open_bundle
from inference.errors import InferenceError
from inference.evaluation.submission import prior_of
from inference.model import load_reader
from inference.objects import DeviceIdentity
from inference.objects.content import AnalysisContent
from inference.objects.report import ReportContent
from inference.objects.sr import build_report
from inference.reading import ModelIdentity, SourceImage
from inference.settings import shipped_bundles
from inference.training.naming import Naming
from inference.training.phantoms.files import write_chest
from inference.training.train import TrainSettings, train

TINY = TrainSettings(phantoms=3, validation=2, test=2, epochs=1, batch=2, workers=1)
DEVICE = DeviceIdentity("PREREAD", "Preread", "Preread", "1", "1")
HEADER = Dataset()
HEADER.SOPInstanceUID, HEADER.SOPClassUID = "1.2.3", "1.2.4"
HEADER.StudyInstanceUID, HEADER.SeriesInstanceUID = "1.2.5", "1.2.6"
Sources = Callable[[list[Path]], list[SourceImage]]


def test_by_default_it_is_nobody_elses() -> None:
    shipped = [open_bundle(path) for path in shipped_bundles()]
    assert shipped
    for bundle in shipped:
        own = Naming.of(bundle.name)
        assert own.name == f"{bundle.name}-own"
        assert own.version not in {one.version for one in shipped}
        assert own.manufacturer != bundle.identity.manufacturer


def test_a_report_names_it_as_was_said(tmp_path: Path, sources: Sources) -> None:
    authors = ["A. Müller", "B"]
    naming = Naming.of("pneumothorax", "ptx-ward-7", "2.1.0-rc.1", authors, "St. Elsewhere")
    train("pneumothorax", tmp_path / "b", settings=TINY, naming=naming)
    bundle = open_bundle(tmp_path / "b")
    metadata = json.loads((tmp_path / "b" / "configs" / "metadata.json").read_text())
    assert metadata["authors"] == "A. Müller, B"
    assert "Preread" not in metadata["copyright"]
    assert bundle.card.splitlines()[0].endswith("(ptx-ward-7 2.1.0-rc.1)")
    assert "Authors: A. Müller, B. Manufacturer: St. Elsewhere." in bundle.card
    assert "--name ptx-ward-7 --version 2.1.0-rc.1 --authors 'A. Müller' --authors B" in bundle.card
    reading = load_reader(bundle, "cpu").read(sources([write_chest(tmp_path, 1, size=256)]))
    content = ReportContent(
        sources=reading.headers,
        model=bundle.identity,
        device=DEVICE,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        reading=reading,
    )
    text = str(build_report(content))
    for said in ("'ptx-ward-7'", "'2.1.0-rc.1'", "'St. Elsewhere'"):
        assert said in text
    # A name changes no weight, and so asks for no new training.
    train("pneumothorax", tmp_path / "n", run=tmp_path / "b.run", settings=TINY, resume=True)
    again = open_bundle(tmp_path / "n")
    assert again.name == "pneumothorax-own"
    assert again.identity.weights_sha256 == bundle.identity.weights_sha256
    assert again.configuration_digest == bundle.configuration_digest
    # Of phantoms there are as many as were drawn: that says nothing of how frequent anything is.
    assert prior_of(again) == {}


@given(
    name=st.text(max_size=70),
    version=st.text("0123456789.-+rc\uff11\u0661", max_size=12),
    manufacturer=st.text(max_size=70),
)
@example("a" * 64, "1.0.0", "a" * 64)
@example("a" * 65, "1.0.0", "a")
@example("ptx", "1.0.0\n", "x")
@example("ptx\n", "1.0.0", "x")
@example("ptx", "\uff11.\uff10.\uff10", "x")
def test_what_is_taken_can_stand_in_a_report(name: str, version: str, manufacturer: str) -> None:
    taken = {}
    for option, value in (("name", name), ("version", version), ("manufacturer", manufacturer)):
        with suppress(InferenceError):
            taken[option] = getattr(Naming.of("pneumothorax", **{option: value}), option)
    # It raises on what has more than 64 characters, is not ASCII or cannot be printed.
    AnalysisContent(
        sources=(HEADER,),
        model=replace(ModelIdentity("m", "1", "0" * 64, "x"), **taken),
        device=DEVICE,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        not_analysed=("wrong_view", "x"),
    )


@pytest.mark.parametrize(
    "version",
    ["0.0.0", "1.0.0-alpha.1", "1.0.0-0A.is.legal", "1.0.0--.-", "2.1.0-rc.1+build.007",
     "1.0.0+-", "1.0.0-" + "a" * 58],
)  # fmt: skip
def test_a_version_of_the_grammar_is_taken(version: str) -> None:
    assert Naming.of("pneumothorax", version=version).version == version


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"name": "my model"}, "--name 'my model' cannot name a model"),
        ({"name": ""}, "--name '' cannot"),
        ({"version": "2"}, "--version '2' is no version such as 1.0.0"),
        ({"version": "\uff11.\uff10.\uff10"}, r"--version '\\uff11.* is no version"),
        ({"version": "\u0661.\u0662.\u0663"}, "is no version"),
        ({"version": "01.00.00"}, "--version '01.00.00' is no version"),
        ({"version": "1.0.0-.."}, "is no version"),
        ({"version": "1.0.0-01"}, "is no version"),
        ({"version": "1.0.0+"}, "is no version"),
        ({"version": "1.0.0-" + "a" * 59}, "up to 64 characters"),
        ({"manufacturer": "Großklinik"}, r"--manufacturer 'Gro\\xdfklinik' .* ASCII"),
        ({"authors": [" "]}, "--authors must be a name"),
    ],
)
def test_what_cannot_stand_there_is_named(given_: dict[str, object], said: str) -> None:
    with pytest.raises(InferenceError, match=said):
        Naming.of("pneumothorax", **given_)  # type: ignore[arg-type]
