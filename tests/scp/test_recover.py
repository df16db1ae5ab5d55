"""Recovery at start: what a crash left is put right, reported, and nothing else is touched."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from image_store import ImageStore
from structlog.testing import capture_logs

from db import FileStore
from db.ingest import Added, InstanceRecord
from db.migrate import upgrade
from scp import recover
from scp.reconcile import REBUILT, read_one
from scp.recover import Recovery
from scp.stored import read_stored, stored_digest

# Its objects need not belong to a patient.
PRIVATE_CLASS = "1.2.826.0.1.3680043.10.1.1"


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[ImageStore]:
    made = ImageStore(tmp_path / "data", database_url)
    upgrade(made.engine)
    yield made
    made.close()


def recovered(store: ImageStore) -> dict[str, int]:
    """Recover and return the counts that are not zero."""
    report = Recovery(store.files, store.ingest, store.engine, grace_seconds=0, rest=0).run_once()
    quiet = ("n_files", "n_rows", "seconds")
    values = {name: getattr(report, name) for name in report.__slots__ if name not in quiet}
    return {name: value for name, value in values.items() if value}


# ------------------------------------------------------------------------------ files without rows


def test_a_whole_file_gets_its_row(store: ImageStore) -> None:
    path = store.put()

    with capture_logs() as log:
        assert recovered(store) == {"n_recovered": 1}

    ((kept, association, revision, sha256),) = store.rows(
        "SELECT path, association_id, revision, sha256 FROM instance"
    )
    assert (kept, association, revision) == (path, "recovered", 0)
    assert sha256 == stored_digest(store.files, path)
    assert store.rows("SELECT state FROM series") == [("open",)]
    assert [one["path"] for one in log if one["event"] == "file.recovered"] == [path]
    assert recovered(store) == {}


def test_nothing_to_do_changes_nothing(store: ImageStore) -> None:
    store.receive()
    before = store.everything()
    assert recovered(store) == {}
    assert store.everything() == before


@pytest.mark.parametrize("n_bytes", [0, 100, 200, 380, 500, -1])
def test_a_cut_file_goes_into_quarantine(store: ImageStore, n_bytes: int) -> None:
    path = store.put()
    content = store.absolute(path).read_bytes()
    store.absolute(path).write_bytes(content[:n_bytes])

    with capture_logs() as log:
        assert recovered(store) == {"n_quarantined": 1}

    (kept,) = store.quarantined()
    assert kept.read_bytes() == content[:n_bytes]
    assert not store.absolute(path).exists()
    assert store.count() == 0
    assert [one["path"] for one in log if one["event"] == "file.quarantined"] == [path]
    assert recovered(store) == {}


def test_an_image_cut_by_a_power_loss_is_kept_when_it_is_sent_again(store: ImageStore) -> None:
    cut = store.put()
    os.truncate(store.absolute(cut), 500)
    again = store.receive()  # before recovery looks: the name is taken by other bytes
    assert again != cut

    assert recovered(store) == {"n_quarantined": 1}
    assert store.rows("SELECT path, revision FROM instance") == [(again, 0)]


def test_what_a_stranger_put_there_is_left_alone_and_not_named(store: ImageStore) -> None:
    folder = store.files.root / "images/00"
    (folder / "DOE^JOHN.dcm").write_bytes(b"x")
    (folder / "1.2.3.dcm").mkdir()
    (folder / "1.2.4.dcm").symlink_to("/etc/passwd")
    moved = store.absolute(store.put())
    moved.rename(folder / "1.2.5.dcm")  # an image, but not the one that its name says

    with capture_logs() as log:
        assert recovered(store) == {"n_unresolved": 4}

    assert len(list(folder.iterdir())) == 4
    assert store.count() == 0
    assert "DOE" not in str(log)


def test_a_file_that_cannot_be_read_is_left_and_the_others_are_not(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = store.put("1.2.3.4.1"), store.put("1.2.3.4.2")

    def read(files: FileStore, path: str, association_id: str) -> Any:
        if path == bad:
            return path, OSError(errno.EIO, "Input/output error")
        return read_one(files, path, association_id)

    monkeypatch.setattr(recover, "read_one", read)
    with capture_logs() as log:
        assert recovered(store) == {"n_recovered": 1, "n_unresolved": 1}
    assert store.rows("SELECT path FROM instance") == [(good,)]
    assert [one["path"] for one in log if one["event"] == "file.unreadable"] == [bad]


def test_a_row_that_the_database_refuses_is_reported(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.put()

    def read(files: FileStore, path: str, association_id: str) -> Any:
        record = read_one(files, path, association_id)[1]
        assert isinstance(record, InstanceRecord)
        return path, replace(record, size_bytes=2**70)

    monkeypatch.setattr(recover, "read_one", read)
    with capture_logs() as log:
        assert recovered(store) == {"n_unresolved": 1}
    assert [one["path"] for one in log if one["event"] == "file.refused"] == [path]


def test_an_object_of_no_patient_gets_an_instance_row_only(store: ImageStore) -> None:
    store.put(study="", series="", sop_class=PRIVATE_CLASS)

    assert recovered(store) == {"n_recovered": 1}
    found = store.rows("SELECT study_instance_uid, series_instance_uid FROM instance")
    assert found == [(None, None)]
    assert store.rows("SELECT * FROM study") == []


def test_revisions_come_out_as_they_were_received(store: ImageStore) -> None:
    first = store.put(number=1)
    second = store.receive(number=2)
    third = store.put(number=3)

    assert recovered(store) == {"n_recovered": 2}
    rows = store.rows("SELECT path FROM instance ORDER BY revision")
    assert rows == [(first,), (second,), (third,)]
    assert store.rows("SELECT count(*) FROM study WHERE has_conflict") == [(1,)]


def test_too_many_files_for_a_crash_are_sent_to_no_model(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recover, "_MOST_LEFTOVERS", 3)
    for number in range(4):
        store.put(f"1.2.3.4.{number}")

    with capture_logs() as log:
        assert recovered(store) == {"n_recovered": 4}

    assert store.rows("SELECT state, routing FROM series") == [("complete", REBUILT)]
    assert [one["n_files"] for one in log if one["event"] == "recovery.index_lost"] == [4]


def test_temporary_files_of_dead_processes_go(store: ImageStore) -> None:
    leftover = store.files.root / "incoming" / f"{2**22 + 1}-dead-0"
    leftover.write_bytes(b"half an image")

    assert recovered(store) == {"n_temporary": 1}
    assert not leftover.exists()


# ------------------------------------------------------------------------------ rows without files


def test_a_lost_file_is_reported_once_and_heals_when_it_is_sent_again(store: ImageStore) -> None:
    path = store.receive("1.2.3.4.1")
    store.receive("1.2.3.4.2")
    store.absolute(path).unlink()
    missing = "SELECT path FROM instance WHERE missing_at IS NOT NULL"

    with capture_logs() as log:
        assert recovered(store) == recovered(store) == {"n_missing": 1}
    (event,) = [one for one in log if one["event"] == "file.missing"]
    named = (event["instance"], event["study"], event["path"], event["log_level"])
    assert named == ("1.2.3.4.1", "1.2.3", path, "error")
    assert store.rows(missing) == [(path,)]

    again = store.put("1.2.3.4.1")
    added = store.ingest.add(read_stored(store.files, again, "b" * 32))

    assert (again, added) == (path, Added.EQUAL)
    recovered(store)
    assert store.rows(missing) == []
    assert store.count() == 2


def test_a_file_that_comes_back_from_a_backup_is_noticed(store: ImageStore) -> None:
    path = store.absolute(store.receive())
    content = path.read_bytes()
    path.unlink()
    recovered(store)
    path.write_bytes(content)

    assert recovered(store) == {"n_returned": 1}
    assert recovered(store) == {}


def test_an_acknowledged_file_is_never_moved_away(store: ImageStore) -> None:
    path = store.receive()
    os.truncate(store.absolute(path), 300)

    with capture_logs() as log:
        assert recovered(store) == {"n_altered": 1}
    assert store.absolute(path).exists()
    assert [one["log_level"] for one in log if one["event"] == "file.altered"] == ["error"]


def test_rows_without_their_study_are_reported(store: ImageStore) -> None:
    store.receive()
    store.lose("DELETE FROM study")
    assert recovered(store) == {"n_orphaned": 1}
