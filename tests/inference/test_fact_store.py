"""Facts in the database: made once, used, made again where they are gone or of another version."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from records import RECORD

import inference.fact_store as fact_store_module
from db import FileStore
from db.ingest import Ingest
from inference.fact_store import FactStore
from inference.open_source import index_file, open_source
from inference.pixels import hounsfield_values
from inference.reading import SourceImage
from inference.stored_facts import StoredFacts, facts_from_bytes

Stored = tuple[FactStore, list[SourceImage]]


@pytest.fixture
def stored(engine: sa.Engine, tmp_path: Path, write_image: Callable[..., Path]) -> Iterator[Stored]:
    """Three received files, the last of which is no DICOM file."""
    files = FileStore(tmp_path / "data")
    files.prepare()
    ingest = Ingest(engine)
    images = []
    for number in range(3):
        uid = f"1.2.3.1.{number + 1}"
        path = write_image(np.full((32, 32), number, np.uint16), SOPInstanceUID=uid)
        content = path.read_bytes() if number < 2 else b"x" * 200
        place = files.root / f"{uid}.dcm"
        place.write_bytes(content)
        record = replace(RECORD, sop_instance_uid=uid, path=place.name, sha256=str(number) * 64)
        ingest.add(record)
        images.append(SourceImage(number + 1, uid, "1.2", "1.2.840.10008.1.2.1", place))
    ingest.close()
    yield FactStore(engine, files), images


def test_facts_are_made_once(
    stored: Stored, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, images = stored
    assert facts.index_now(9) == 3
    assert facts.index_now(9) == 0
    monkeypatch.setattr(fact_store_module, "index_file", None)  # nobody asks a file again
    given = facts.with_facts(images)
    assert given == tuple(images)
    assert [one.facts is not None for one in given] == [True, True, False]
    assert given[1].facts == index_file(images[1].path)
    assert hounsfield_values(open_source(given[1])[0]).values[0, 0] == 1


def test_new_instances_are_indexed_as_they_come(stored: Stored, engine: sa.Engine) -> None:
    facts, images = stored
    assert facts.index_now(1) == 1  # the latest; older ones when they are asked for
    ingest = Ingest(engine)
    for number in range(5):
        uid = f"1.2.3.2.{number}"
        path = images[0].path.name
        ingest.add(replace(RECORD, sop_instance_uid=uid, path=path, sha256=f"{number + 5}" * 64))
    ingest.close()
    assert [facts.index_now(2) for _ in range(4)] == [2, 2, 1, 0]


def test_one_worker_of_a_host_indexes_at_a_time(
    stored: Stored, engine: sa.Engine, tmp_path: Path
) -> None:
    facts, _ = stored
    lock = tmp_path / "data" / "workers" / "facts.lock"
    lock.parent.mkdir()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        facts.index_new(9)
        wait_for(facts)
        assert kept(engine) == 0
    facts.index_new(9)
    wait_for(facts)
    assert kept(engine) == 3


def test_nothing_is_indexed_in_the_background_while_an_analysis_runs(
    stored: Stored, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, _ = stored
    with facts.paused():
        facts.index_new(9)
        wait_for(facts)
        assert kept(engine) == 0
    begun, analysed = threading.Event(), threading.Event()

    def slowly(path: Path) -> StoredFacts:
        begun.set()
        assert analysed.wait(60)
        return index_file(path)

    monkeypatch.setattr(fact_store_module, "index_file", slowly)
    facts.index_new(9)
    assert begun.wait(60)
    with facts.paused():  # one that begins meanwhile waits for one file at most
        analysed.set()
        wait_for(facts)
        assert kept(engine) == 1
    facts.index_new(9)
    wait_for(facts)
    assert kept(engine) == 3


def test_a_file_that_is_never_read_to_its_end_delays_no_beat(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, _ = stored
    ended, read = threading.Event(), []

    def slowly(path: Path) -> StoredFacts:
        read.append(ended.wait(60))
        return index_file(path)

    monkeypatch.setattr(fact_store_module, "index_file", slowly)
    for _ in range(3):
        facts.index_new(9)
    assert read == []
    ended.set()
    wait_for(facts)


def wait_for(facts: FactStore) -> None:
    if facts._thread is not None:
        facts._thread.join(60)
        assert not facts._thread.is_alive()


def kept(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT count(*) FROM instance_facts")).scalar_one()


def test_what_is_missing_or_old_is_made_when_it_is_needed(
    stored: Stored, engine: sa.Engine
) -> None:
    facts, images = stored
    facts.with_facts(images)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE instance_facts SET facts = :old"), {"old": b"\0old"})
    given = facts.with_facts(images)
    assert [one.facts is not None for one in given] == [True, True, False]
    assert facts.index_now(9) == 0


def test_a_database_that_is_away_costs_only_time(stored: Stored, engine: sa.Engine) -> None:
    facts, images = stored
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE instance_facts"))
    given = facts.with_facts(images)
    assert all(one.facts is None for one in given)
    assert hounsfield_values(open_source(given[1])[0]).values[0, 0] == 1


def test_facts_of_another_file_are_not_believed(
    stored: Stored, write_image: Callable[..., Path]
) -> None:
    facts, images = stored
    (given, *_) = facts.with_facts(images)
    given.path.write_bytes(write_image(np.full((48, 48), 9, np.uint16)).read_bytes())
    image = hounsfield_values(open_source(given)[0])
    assert image.values.shape == (48, 48)
    assert image.values[0, 0] == 9


@given(st.binary(max_size=300))
def test_any_bytes_are_facts_or_nothing(content: bytes) -> None:
    facts_from_bytes(content)
    facts_from_bytes(b"\1" + content)


def test_no_patient_is_in_the_facts(write_image: Callable[..., Path]) -> None:
    path = write_image(
        np.zeros((16, 16), np.uint16),
        PatientName="Doe^Jane",
        PatientID="P-17",
        PatientBirthDate="19700101",
        StudyDescription="Doe",
        AccessionNumber="A-17",
    )
    facts = index_file(path)
    for told in ("Doe", "P-17", "19700101", "A-17"):
        assert told not in repr(facts)
