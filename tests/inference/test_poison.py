"""An image that a network fails on is named, and its series is not read in part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pydicom
import pytest
from faulty_worker import machine_of
from plain_ct import write_plain_bundle, write_plain_series

from inference.bundle import open_bundle
from inference.engines.choose import EngineSettings
from inference.engines.engine_events import Event
from inference.engines.errors import EngineRunError
from inference.model import load_reader
from inference.poison import PoisonedImagesError
from inference.reading import Scope, SourceImage

Sources = Callable[[Iterable[Path]], list[SourceImage]]
GOOD, POISON = 0.2, 0.6
PLAN = {"rows": [[0.55, 0.65, "poison", 1000]]}


def test_poisoned_slices_are_named_and_nothing_is_said_of_the_others(
    tmp_path: Path, sources: Sources
) -> None:
    events: list[Event] = []
    engines = EngineSettings(tell=events.append, compose=machine_of(PLAN).compose)
    reader = load_reader(open_bundle(write_plain_bundle(tmp_path / "b")), "cpu", 8, engines)
    greys = [GOOD] * 9 + [POISON, GOOD, POISON]  # of the second batch
    paths = write_plain_series(tmp_path / "s", greys)
    with pytest.raises(PoisonedImagesError) as caught:
        reader.read(sources(paths))
    bad = [str(pydicom.dcmread(paths[number]).SOPInstanceUID) for number in (9, 11)]
    error = caught.value
    assert (error.code, list(error.sop_instance_uids)) == ("poisoned_input", bad)
    assert error.facts == {"poisoned": bad}
    assert "a kernel fails" in str(error) and all(uid in str(error) for uid in bad)
    assert [str(event.step) for event in events] == ["poisoned_row"] * 2
    # Of the same reader others get their results.
    reading = reader.read(sources(write_plain_series(tmp_path / "t", [GOOD] * 3)))
    assert len(reading.findings) == 4


def test_where_every_slice_fails_no_slice_is_blamed(tmp_path: Path, sources: Sources) -> None:
    engines = EngineSettings(compose=machine_of(PLAN).compose)
    reader = load_reader(open_bundle(write_plain_bundle(tmp_path / "b")), "cpu", 8, engines)
    with pytest.raises(EngineRunError) as caught:
        reader.read(sources(write_plain_series(tmp_path / "s", [POISON] * 3)))
    assert caught.value.code == "engine_failed"


def test_each_slice_says_in_which_batch_it_was_computed(tmp_path: Path, sources: Sources) -> None:
    plan = {"rows": [[0.55, 0.65, "out_of_memory", 2]]}
    engines = EngineSettings(compose=machine_of(plan).compose)
    reader = load_reader(open_bundle(write_plain_bundle(tmp_path / "b")), "cpu", 8, engines)
    # 8 at once; then 8 that do not fit, nor do 4 of them; then 2, and what is left: 1.
    greys = [GOOD] * 8 + [POISON] * 8 + [GOOD] * 3
    reading = reader.read(sources(write_plain_series(tmp_path / "s", greys)))
    batches = [
        found.made_with.batch
        for found in reading.findings
        if found.made_with is not None and found.scope is Scope.IMAGE
    ]
    assert batches == [8] * 8 + [2] * 8 + [2, 2, 1]
    assert [(one["batch"], one["rows"]) for one in reading.facts["made_with"]] == [  # type: ignore[attr-defined]
        (8, 8), (2, 10), (1, 1),
    ]  # fmt: skip
    (whole,) = [one.made_with for one in reading.findings if one.scope is Scope.SERIES]
    assert whole is not None and whole.batch == 2
