"""An instance record, and what the database knows, for the tests of the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from db.ingest import InstanceRecord

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
# No database takes it: the path is missing.
BAD_RECORD: InstanceRecord = replace(
    RECORD,
    sop_instance_uid="1.2.3.1.99",
    path=None,  # type: ignore[arg-type]
)


def records(count: int, **changes: Any) -> Iterator[InstanceRecord]:
    """Yield instances of one series."""
    for number in range(1, count + 1):
        uid = f"1.2.3.1.{number}"
        yield replace(RECORD, **{"sop_instance_uid": uid, "path": f"{uid}.dcm", **changes})


def count(engine: sa.Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text(f"SELECT COUNT(*) FROM {table}")).scalar_one())


def rows(engine: sa.Engine, sql: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(sql))]
