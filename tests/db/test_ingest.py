"""Rows of stored instances: durable, grouped, idempotent, on both databases."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import BAD_RECORD, RECORD, count, records, rows

from db.errors import DatabaseAwayError, DatabaseError
from db.group import GroupWriter
from db.ingest import Added, Ingest, InstanceRecord
from db.ledger_queue import LedgerBatch


def one(engine: sa.Engine, sql: str) -> sa.Row:
    with engine.connect() as connection:
        return connection.execute(sa.text(sql)).one()


def test_a_record_makes_study_series_and_instance(engine: sa.Engine) -> None:
    Ingest(engine).add(RECORD)

    row = one(engine, "SELECT patient_name, modalities, n_instances, state FROM v_studies")
    assert tuple(row) == ("山田^太郎", "CT", 1, "receiving")


def test_equal_bytes_again_change_nothing(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    assert ingest.add(RECORD) == Added.NEW
    assert ingest.add(replace(RECORD, path="elsewhere")) == Added.EQUAL

    assert count(engine, "instance") == 1
    assert not one(engine, "SELECT has_conflict FROM study").has_conflict


def test_other_bytes_under_one_uid_are_a_revision_and_flag_the_study(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    revised = replace(RECORD, sha256="b" * 64, path="images/00/1.2.3.1.1.b.dcm")
    assert ingest.add(revised) == Added.REVISED
    assert ingest.add(revised) == Added.EQUAL

    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT revision, sha256 FROM instance ORDER BY revision")
        ).all()
    assert [(row.revision, row.sha256[0]) for row in rows] == [(0, "a"), (1, "b")]
    assert one(engine, "SELECT has_conflict FROM study").has_conflict


def test_the_first_description_of_a_study_stays(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    ingest.add(replace(RECORD, sop_instance_uid="1.2.3.1.2", patient_id="P-2"))

    assert one(engine, "SELECT patient_id FROM study").patient_id == "P-1"


def test_a_late_image_reopens_its_series(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE series SET state = 'complete'"))
    ingest.add(replace(RECORD, sop_instance_uid="1.2.3.1.2"))

    assert one(engine, "SELECT state FROM series").state == "open"


def test_equal_bytes_in_another_transfer_syntax_are_a_revision(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    assert ingest.add(replace(RECORD, transfer_syntax_uid="1.2.840.10008.1.2")) == Added.REVISED


def test_a_missing_file_that_is_sent_again_is_missing_no_more(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE instance SET missing_at = received_at"))
    assert ingest.add(replace(RECORD, path="new.dcm", size_bytes=11)) == Added.EQUAL

    assert rows(engine, "SELECT missing_at, path, size_bytes FROM v_instances") == [
        (None, "new.dcm", 11)
    ]


def test_an_object_of_no_patient_is_an_instance_only(engine: sa.Engine) -> None:
    palette = replace(RECORD, study_instance_uid=None, series_instance_uid=None, patient_id=None)
    ingest = Ingest(engine)
    assert [ingest.add(palette), ingest.add(palette)] == [Added.NEW, Added.EQUAL]
    assert ingest.add(replace(palette, sha256="b" * 64)) == Added.REVISED

    assert [count(engine, table) for table in ("study", "series", "instance")] == [0, 0, 2]
    assert rows(engine, "SELECT DISTINCT study_instance_uid FROM v_instances") == [(None,)]


def write(engine: sa.Engine, group: list[InstanceRecord]) -> list[Added | DatabaseError]:
    """Write a group as the leader does."""
    writer = GroupWriter(engine)
    try:
        return writer.write(LedgerBatch(), group)
    finally:
        writer.close()


def test_one_uid_several_times_in_one_group(engine: sa.Engine) -> None:
    other = replace(RECORD, sha256="b" * 64)
    group = [RECORD, *records(40), RECORD, other, other]

    outcomes = write(engine, group)

    # The first of `records` has the UID of RECORD and the same bytes.
    assert outcomes[:2] == [Added.NEW, Added.EQUAL]
    assert set(outcomes[2:41]) == {Added.NEW}
    assert outcomes[41:] == [Added.EQUAL, Added.REVISED, Added.EQUAL]
    assert count(engine, "instance") == 41
    assert one(engine, "SELECT has_conflict FROM study").has_conflict


def test_a_group_of_several_patients_in_one_study_is_flagged(engine: sa.Engine) -> None:
    first, second, third = records(3)
    write(
        engine,
        [
            first,
            replace(second, patient_id="P-2", series_instance_uid="1.2.3.2"),
            replace(third, study_instance_uid="9.9", series_instance_uid="9.9.1"),
        ],
    )

    assert rows(engine, "SELECT study_instance_uid, patient_id FROM study WHERE has_conflict") == [
        ("1.2.3", "P-1")
    ]


# What a row can be guilty of; on SQLite some of it is no fault.
FAULTS: dict[str, Any] = {
    "missing": {"path": None},
    "too large": {"instance_number": 2**70},
    "no Unicode": {"sha256": "\ud800"},
    "NUL": {"series_description": "a\0b"},
    "too long": {"transfer_syntax_uid": "1" * 100},
    "not indexable": {"patient_name": "".join(chr(33 + n * n % 9001) for n in range(9000))},
}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([None, *FAULTS]), min_size=1, max_size=20))
def test_each_fails_alone(engine: sa.Engine, faults: list[str | None]) -> None:
    with engine.begin() as connection:
        for table in ("instance", "series", "study"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    group = [
        # Of a study of its own: the name of the first instance is the one that is kept.
        replace(
            record,
            **{"study_instance_uid": f"2.{n}", "series_instance_uid": f"2.{n}.1"},
            **FAULTS.get(fault or "", {}),
        )
        for n, (record, fault) in enumerate(zip(records(len(faults)), faults, strict=True))
    ]

    outcomes = write(engine, group)

    surely_bad = ("missing", "too large", "no Unicode")
    for outcome, fault in zip(outcomes, faults, strict=True):
        if fault is None:
            assert outcome == Added.NEW
        elif engine.dialect.name == "postgresql" or fault in surely_bad:
            assert isinstance(outcome, DatabaseError), fault
    stored = {uid for (uid,) in rows(engine, "SELECT sop_instance_uid FROM instance")}
    assert stored == {
        record.sop_instance_uid
        for record, outcome in zip(group, outcomes, strict=True)
        if outcome == Added.NEW
    }


def test_a_fault_of_one_caller_reaches_no_other(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    outcomes = in_threads(ingest.add, [*records(8), BAD_RECORD])

    assert [isinstance(one, DatabaseError) for one in outcomes] == [False] * 8 + [True]
    assert count(engine, "instance") == 8


def in_threads(call: Callable[[Any], object], arguments: list[Any]) -> list[object]:
    """Call with all arguments at once; return what came back or was raised."""
    outcomes: list[object] = [None] * len(arguments)

    def run(index: int) -> None:
        try:
            outcomes[index] = call(arguments[index])
        except DatabaseError as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(arguments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


def test_a_database_that_is_away_fails_all_without_a_backlog(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)

    def away(*_: object) -> None:
        raise engine.dialect.loaded_dbapi.OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr("db.group.write_instances", away)
        outcomes = in_threads(ingest.add, list(records(4)))
    assert {type(one) for one in outcomes} == {DatabaseAwayError}
    assert len({id(one) for one in outcomes}) == 4  # each caller raises its own
    assert ingest.add(next(records(1))) == Added.EQUAL


def test_a_defect_fails_its_group_and_the_next_goes_on(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = Ingest(engine)

    def defect(*_: object) -> None:
        raise KeyError("a defect of the program")

    with monkeypatch.context() as patch:
        patch.setattr("db.group.write_instances", defect)
        with pytest.raises(KeyError):
            ingest.add(RECORD)
    assert ingest.add(RECORD) == Added.NEW


def test_groups_are_bounded_and_in_order(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one group is written, all that come wait in line; nobody is overtaken."""
    monkeypatch.setattr("db.ingest._GROUP_LIMIT", 10)
    ingest = Ingest(engine)
    groups: list[list[str]] = []
    begun, free = threading.Event(), threading.Event()
    write_group = ingest._writer.write

    def slow(ledger: LedgerBatch, group: list[InstanceRecord], **_: object) -> object:
        groups.append([record.sop_instance_uid for record in group])
        begun.set()
        assert free.wait(30)
        return write_group(ledger, group)

    monkeypatch.setattr(ingest._writer, "write", slow)
    first, *others = list(records(36))
    threads = [threading.Thread(target=ingest.add, args=(first,))]
    threads[0].start()
    assert begun.wait(30)
    for number, record in enumerate(others, start=1):
        threads.append(threading.Thread(target=ingest.add, args=(record,)))
        threads[-1].start()
        while len(ingest._waiting) < number:
            threads[-1].join(0.001)
    free.set()
    for thread in threads:
        thread.join(30)

    assert [len(group) for group in groups] == [1, 10, 10, 10, 5]
    assert [uid for group in groups for uid in group] == [
        one.sop_instance_uid for one in records(36)
    ]


def test_no_patient_data_in_the_error(engine: sa.Engine) -> None:
    with pytest.raises(DatabaseError) as caught:
        Ingest(engine).add(BAD_RECORD)

    assert "太郎" not in str(caught.value)
    assert "P-1" not in str(caught.value)


class SlowLog:
    """Takes the place of `os.fdatasync`: as slow as wanted, and fails where wanted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.free.set()
        self.n_begun = self.n_ended = 0
        self.failing: set[int] = set()
        monkeypatch.setattr(os, "fdatasync", self.sync)

    def sync(self, descriptor: int) -> None:
        assert Path(f"/proc/self/fd/{descriptor}").readlink().name.endswith("-wal")
        self.n_begun += 1
        number = self.n_begun
        time.sleep(0.02)
        assert self.free.wait(30)
        self.n_ended += 1
        if number in self.failing:
            raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def slow_log(monkeypatch: pytest.MonkeyPatch, engine: sa.Engine) -> SlowLog:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL syncs its log itself")
    return SlowLog(monkeypatch)


def known_as_slow(ingest: Ingest, slow_log: SlowLog) -> None:
    for number in range(8):
        ingest.add(replace(RECORD, sop_instance_uid=f"1.9.{number}", path=f"images/00/{number}"))
    slow_log.n_begun = slow_log.n_ended = 0


def waiting_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_on_a_slow_disk_groups_are_synced_at_once(engine: sa.Engine, slow_log: SlowLog) -> None:
    """A group is committed, and seen by others, while those before it are not durable yet."""
    ingest = Ingest(engine)
    known_as_slow(ingest, slow_log)
    n_before = count(engine, "instance")
    slow_log.free.clear()
    acknowledged: list[Added] = []
    threads = [
        threading.Thread(target=lambda mine=one: acknowledged.append(ingest.add(mine)))
        for one in records(3)
    ]
    for number, thread in enumerate(threads, start=1):
        thread.start()
        waiting_for(lambda n=number: slow_log.n_begun == n)
    assert count(engine, "instance") == n_before + 3
    assert not acknowledged
    slow_log.free.set()
    for thread in threads:
        thread.join(30)
    assert acknowledged == [Added.NEW] * 3


def test_where_the_log_cannot_be_synced_its_group_fails(
    engine: sa.Engine, slow_log: SlowLog
) -> None:
    ingest = Ingest(engine)
    known_as_slow(ingest, slow_log)
    slow_log.free.clear()
    slow_log.failing = {2}
    outcomes: dict[int, object] = {}

    def add(number: int, record: InstanceRecord) -> None:
        try:
            outcomes[number] = ingest.add(record)
        except DatabaseError as error:
            outcomes[number] = type(error)

    threads = []
    for number, record in enumerate(records(3), start=1):
        threads.append(threading.Thread(target=add, args=(number, record)))
        threads[-1].start()
        waiting_for(lambda n=number: slow_log.n_begun == n)
    slow_log.free.set()
    for thread in threads:
        thread.join(30)
    # Behind a hole in the log nothing is on disk, either; before it, who can tell?
    assert outcomes[2] is DatabaseAwayError
    assert set(outcomes.values()) <= {Added.NEW, DatabaseAwayError}
    # Sent once more they are known already, and this time on disk.
    assert [ingest.add(one) for one in records(3)] == [Added.EQUAL] * 3
    assert slow_log.n_ended == 6


def n_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_open(engine: sa.Engine, slow_log: SlowLog) -> None:
    engine.dispose()
    gc.collect()  # what earlier tests have left would be closed meanwhile
    n_open = n_descriptors()
    ingest = Ingest(engine)
    known_as_slow(ingest, slow_log)
    slow_log.failing = {3, 7}
    outcomes = in_threads(ingest.add, list(records(40)))
    for number in range(8):  # syncs each, in however few groups the others came
        more = replace(RECORD, sop_instance_uid=f"1.8.{number}", path=f"images/00/8{number}")
        outcomes += in_threads(ingest.add, [more])
    assert Added.NEW in outcomes
    assert DatabaseAwayError in {type(one) for one in outcomes}
    ingest.close()
    engine.dispose()
    assert n_descriptors() == n_open


def test_on_a_fast_disk_a_group_waits_for_the_one_before(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, slow_log: SlowLog
) -> None:
    monkeypatch.setattr("db.pace.SLOW_SECONDS", 60.0)
    ingest = Ingest(engine)
    known_as_slow(ingest, slow_log)
    slow_log.free.clear()
    threads = [threading.Thread(target=ingest.add, args=(one,)) for one in records(3)]
    threads[0].start()
    waiting_for(lambda: slow_log.n_begun == 1)
    for thread in threads[1:]:
        thread.start()
    waiting_for(lambda: len(ingest._waiting) == 2)
    slow_log.free.set()
    for thread in threads:
        thread.join(30)
    assert slow_log.n_begun == 2


def test_many_threads_share_commits(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.pace.SLOW_SECONDS", 60.0)
    ingest = Ingest(engine)
    every = list(records(200))
    ended: list[int] = []
    write_group = ingest._writer.write

    def slow(ledger: LedgerBatch, group: list[InstanceRecord], **more: Any) -> object:
        # So long that whoever is not in the group, and has not ended, comes meanwhile.
        waiting_for(lambda: len(group) + len(ingest._waiting) + len(ended) >= 8)
        return write_group(ledger, group, **more)

    monkeypatch.setattr(ingest._writer, "write", slow)

    def send(start: int) -> None:
        for one in every[start::8]:
            ingest.add(one)
        ended.append(start)

    threads = [threading.Thread(target=send, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert count(engine, "instance") == 200
    assert ingest.n_rows == 200
    assert ingest.n_groups <= 120


@pytest.mark.parametrize(
    ("changes", "flagged"),
    [
        ({"study_instance_uid": "9.9"}, {"1.2.3", "9.9"}),
        ({"patient_id": "P-2"}, {"1.2.3"}),
        ({"patient_id": "P-2", "series_instance_uid": "1.2.3.2"}, {"1.2.3"}),
        ({"series_instance_uid": "1.2.3.2"}, set()),
        ({}, set()),
    ],
)
def test_several_studies_or_patients_under_one_uid_are_flagged(
    engine: sa.Engine, changes: dict[str, str], flagged: set[str]
) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    ingest.add(replace(RECORD, sop_instance_uid="1.2.3.1.2", **changes))

    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT study_instance_uid, n_instances, has_conflict FROM v_studies")
        ).all()
    assert {row.study_instance_uid for row in rows if row.has_conflict} == flagged
    assert sum(row.n_instances for row in rows) == 2


def test_other_bytes_in_another_study_flag_both(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    elsewhere = {"study_instance_uid": "9.9", "series_instance_uid": "9.9.1", "sha256": "b" * 64}
    ingest.add(replace(RECORD, **elsewhere))

    with engine.connect() as connection:
        flags = connection.execute(sa.text("SELECT has_conflict FROM study")).scalars().all()
    assert [bool(flag) for flag in flags] == [True, True]


def test_processes_that_write_the_same_at_once(engine: sa.Engine) -> None:
    """Nothing is lost, refused or there twice, whatever the order in which rows are locked."""

    def group(sender: int, number: int) -> list[InstanceRecord]:
        one = [
            replace(
                record,
                study_instance_uid=f"2.{index % 3}",
                series_instance_uid=f"2.{index % 3}.1",
                sha256=f"{sender}{number}".ljust(64, "0"),
            )
            for index, record in enumerate(records(6))
        ]
        return one[::-1] if sender % 2 else one

    def send(sender: int) -> list[Added | DatabaseError]:
        writer = GroupWriter(engine)
        outcomes = [
            outcome
            for number in range(5)
            for outcome in writer.write(LedgerBatch(), group(sender, number))
        ]
        writer.close()
        return outcomes

    outcomes = [one for sent in in_threads(send, [0, 1, 2]) for one in sent]  # type: ignore[attr-defined]

    assert sorted(outcomes) == [Added.NEW] * 6 + [Added.REVISED] * 84
    assert set(rows(engine, "SELECT revision, COUNT(*) FROM instance GROUP BY revision")) == {
        (revision, 6) for revision in range(15)
    }
    assert rows(engine, "SELECT COUNT(*) FROM study WHERE has_conflict") == [(3,)]
