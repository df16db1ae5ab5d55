"""Who sent images again: known for the series, and the images keep who sent them first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from db.associations import AssociationRecord
from db.completeness import Sender, senders
from db.ingest import Added, Ingest, InstanceRecord

NOW = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
_ABSENT: dict[str, Any] = dict.fromkeys(
    ("patient_id", "patient_name", "patient_birth_date", "patient_sex", "accession_number",
     "study_date", "study_description", "modality", "series_number", "series_description",
     "body_part", "instance_number")
)  # fmt: skip
RECORD = InstanceRecord(
    **_ABSENT, study_instance_uid="1", series_instance_uid="1.2", sop_instance_uid="1.2.1",
    sop_class_uid="1.2", transfer_syntax_uid="1.2", path="p", size_bytes=1, sha256="0",
    received_at=NOW, association_id="ward",
)  # fmt: skip
WARD, EMERGENCY = Sender("WARD", "PREREAD"), Sender("EMERGENCY", "PREREAD")


@pytest.fixture
def ingest(engine: sa.Engine) -> Iterator[Ingest]:
    made = Ingest(engine)
    for name in ("ward", "emergency"):
        made.enter(AssociationRecord(name, "a", name.upper(), "PREREAD", "10.0.0.1", 104, NOW))
    assert made.flush(60)
    yield made
    made.close()


def who(engine: sa.Engine, series: str = "1.2") -> frozenset[Sender]:
    with engine.connect() as connection:
        return senders(connection, series)


def test_who_sends_equal_bytes_again_is_a_sender_of_the_series(
    engine: sa.Engine, ingest: Ingest
) -> None:
    assert ingest.add(RECORD) is Added.NEW
    assert ingest.add(RECORD) is Added.EQUAL
    assert who(engine) == {WARD}
    for _ in range(2):
        assert ingest.add(replace(RECORD, association_id="emergency")) is Added.EQUAL
        assert who(engine) == {WARD, EMERGENCY}
    with engine.connect() as connection:
        kept = connection.execute(sa.text("SELECT association_id FROM instance")).scalars().all()
        again = connection.execute(sa.text("SELECT * FROM resent")).all()
    assert kept == ["ward"]
    assert [tuple(row) for row in again] == [("1.2", "emergency")]
    assert who(engine, "1.3") == frozenset()


def test_other_bytes_and_what_is_in_no_series_are_not_sent_again(
    engine: sa.Engine, ingest: Ingest
) -> None:
    palette = replace(
        RECORD, study_instance_uid=None, series_instance_uid=None, sop_instance_uid="1.9"
    )
    assert ingest.add(palette) is Added.NEW
    assert ingest.add(replace(palette, association_id="emergency")) is Added.EQUAL
    assert ingest.add(RECORD) is Added.NEW
    revised = replace(RECORD, sha256="1", path="q", association_id="emergency")
    assert ingest.add(revised) is Added.REVISED
    assert who(engine) == {WARD, EMERGENCY}
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT COUNT(*) FROM resent")).scalar() == 0
