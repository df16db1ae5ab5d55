"""Rows of stored instances: durable, grouped, idempotent, on both databases."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from db.errors import DatabaseError
from db.ingest import Ingest, InstanceRecord

RECORD = InstanceRecord(
    study_instance_uid="1.2.3",
    patient_id="P-1",
    patient_name="山田^太郎",
    patient_birth_date="19700101",
    patient_sex="O",
    accession_number="A-1",
    study_date="20260102",
    study_description="CT head",
    series_instance_uid="1.2.3.1",
    modality="CT",
    series_number=2,
    series_description=None,
    body_part="HEAD",
    sop_instance_uid="1.2.3.1.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    instance_number=1,
    path="images/00/1.2.3.1.1.dcm",
    size_bytes=10,
    sha256="a" * 64,
    received_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    association_id="0" * 32,
)


def count(engine: sa.Engine, table: str) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.text(f"SELECT COUNT(*) FROM {table}")).scalar_one()


def one(engine: sa.Engine, sql: str) -> sa.Row:
    with engine.connect() as connection:
        return connection.execute(sa.text(sql)).one()


def test_a_record_makes_study_series_and_instance(engine: sa.Engine) -> None:
    Ingest(engine).add(RECORD)

    row = one(engine, "SELECT patient_name, modalities, n_instances, state FROM v_studies")
    assert tuple(row) == ("山田^太郎", "CT", 1, "receiving")


def test_equal_bytes_again_change_nothing(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    ingest.add(RECORD)

    assert count(engine, "instance") == 1
    assert not one(engine, "SELECT has_conflict FROM study").has_conflict


def test_other_bytes_under_one_uid_are_a_revision_and_flag_the_study(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    ingest.add(RECORD)
    ingest.add(replace(RECORD, sha256="b" * 64, path="images/00/1.2.3.1.1.b.dcm"))

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


def test_each_waiter_fails_alone(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    good = [replace(RECORD, sop_instance_uid=f"1.2.3.1.{number}") for number in range(8)]
    bad = replace(RECORD, sop_instance_uid="1.2.3.1.99", path=None)  # type: ignore[arg-type]
    outcomes: dict[str, Exception | None] = {}

    def add(record: InstanceRecord) -> None:
        try:
            ingest.add(record)
        except DatabaseError as error:
            outcomes[record.sop_instance_uid] = error
        else:
            outcomes[record.sop_instance_uid] = None

    threads = [threading.Thread(target=add, args=(record,)) for record in [*good, bad]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [uid for uid, error in outcomes.items() if error] == [bad.sop_instance_uid]
    assert count(engine, "instance") == len(good)


def test_no_patient_data_in_the_error(engine: sa.Engine) -> None:
    with pytest.raises(DatabaseError) as caught:
        Ingest(engine).add(replace(RECORD, path=None))  # type: ignore[arg-type]

    assert "太郎" not in str(caught.value)
    assert "P-1" not in str(caught.value)


def test_many_threads_share_commits(engine: sa.Engine) -> None:
    ingest = Ingest(engine)
    commits = 0

    def on_commit(_connection: object) -> None:
        nonlocal commits
        commits += 1

    sa.event.listen(engine, "commit", on_commit)
    records = [
        replace(RECORD, sop_instance_uid=f"1.2.3.1.{number}", path=f"{number}")
        for number in range(200)
    ]
    threads = [
        threading.Thread(target=lambda mine=records[start::8]: [ingest.add(r) for r in mine])
        for start in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert count(engine, "instance") == 200
    assert commits <= 120


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
