"""The backlog on disk: durable, in order, bounded, inherited from dead processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import RECORD, records

from db.backlog import Backlog
from db.errors import BacklogFullError, DatabaseError, StorageFullError
from db.ingest import InstanceRecord
from db.spool import SpoolFile, _decoded, _encoded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "unindexed"


def drain(backlog: Backlog) -> list[str | None]:
    """Take everything out; None for a line that is no record."""
    found = []
    while (file := backlog.oldest()) is not None:
        while lines := file.read(7):
            found += [line.record.sop_instance_uid if line.record else None for line in lines]
            file.done(lines)
        backlog.remove(file)
    return found


def uids(count: int) -> list[str]:
    return [record.sop_instance_uid for record in records(count)]


TEXT = st.none() | st.text(max_size=20)


# Not those with summer time: in the hours of its changes no time equals itself in another zone.
OFFSETS = st.builds(timezone, st.integers(-840, 840).map(lambda n: timedelta(minutes=n)))


@given(
    st.builds(
        replace,
        st.just(RECORD),
        patient_name=TEXT,
        study_description=TEXT,
        series_instance_uid=TEXT,
        instance_number=st.none() | st.integers(),
        received_at=st.datetimes(timezones=OFFSETS),
    )
)
def test_a_record_comes_back_as_it_was(record: InstanceRecord) -> None:
    assert _encoded(record).count(b"\n") == 1
    assert _decoded(_encoded(record)) == record


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(text: bytes) -> None:
    assert _decoded(text) is None
    assert _decoded(_encoded(RECORD)[:-1] + text) in (None, RECORD)


def test_in_order_and_gone_when_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.backlog._FILE_RECORDS", 8)
    backlog = Backlog(folder)
    for record in records(20):
        assert backlog.append([record]) == 1
    assert backlog.n_unindexed == 20
    assert len(list(folder.iterdir())) == 3
    assert folder.stat().st_mode & 0o77 == 0
    assert all(path.stat().st_mode & 0o77 == 0 for path in folder.iterdir())

    assert drain(backlog) == uids(20)
    assert backlog.n_unindexed == 0
    assert list(folder.iterdir()) == []


def test_what_comes_while_it_is_emptied_is_kept(folder: Path) -> None:
    backlog = Backlog(folder)
    first, second = records(2)
    backlog.append([first])
    file = backlog.oldest()
    backlog.append([second])
    assert file is not None and len(file.read(10)) == 1
    assert drain(backlog) == uids(2)


def test_no_more_than_the_limit(folder: Path) -> None:
    backlog = Backlog(folder, limit=5)
    assert backlog.append(list(records(3))) == 3
    assert backlog.append(list(records(3))) == 2
    with pytest.raises(BacklogFullError, match=r"scp\.max_unindexed"):
        backlog.append([RECORD])
    assert len(drain(backlog)) == 5
    assert backlog.append([RECORD]) == 1


def test_a_file_of_a_process_that_lives_is_its_own(folder: Path) -> None:
    mine, other = Backlog(folder), Backlog(folder)
    mine.append([RECORD])
    assert other.adopt() == 0
    assert mine.adopt() == 0
    mine.close()
    assert other.adopt() == 1
    assert other.n_unindexed == 1
    assert drain(other) == [RECORD.sop_instance_uid]


def test_a_finished_file_cannot_be_taken_over(folder: Path) -> None:
    backlog = Backlog(folder)
    backlog.append([RECORD])
    (path,) = folder.iterdir()
    drain(backlog)
    assert SpoolFile.adopt(path) is None


KILLED = """
import os, sys
from pathlib import Path
from records import records
from db.backlog import Backlog
backlog = Backlog(Path(sys.argv[1]))
for record in records(50):
    backlog.append([record])
    print(record.sop_instance_uid, flush=True)
    if record.sop_instance_uid.endswith(".9"):
        os.write(backlog._active._descriptor, b'{"study_instance_uid":"1.2')  # torn
        os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_what_it_acknowledged_and_a_torn_line(folder: Path) -> None:
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "kit")]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert killed.returncode == -signal.SIGKILL

    backlog = Backlog(folder)
    assert backlog.adopt() == 10
    assert drain(backlog) == [*killed.stdout.split(), None]
    assert killed.stdout.split() == uids(9)


def test_a_full_disk_leaves_no_half_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backlog = Backlog(folder)
    backlog.append([RECORD])

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:50])

    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr("db.spool.os.write", lambda fd, data: full(fd, bytes(data)[-99:]))
        with pytest.raises(StorageFullError):
            backlog.append([RECORD])
    backlog.append([RECORD])
    assert drain(backlog) == [RECORD.sop_instance_uid] * 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="unindexed"):
        Backlog(tmp_path / "file" / "unindexed").append([RECORD])


def test_refused_lines_are_kept_for_a_person(folder: Path) -> None:
    backlog = Backlog(folder)
    backlog.append(list(records(3)))
    file = backlog.oldest()
    assert file is not None
    lines = file.read(3)
    where = backlog.refuse(lines[:1])
    assert backlog.refuse(lines[2:]) == where
    drain(backlog)
    backlog.close()

    assert [_decoded(line + b"\n") for line in where.read_bytes().splitlines()] == [
        record for number, record in enumerate(records(3)) if number != 1
    ]
    assert Backlog(folder).adopt() == 0
