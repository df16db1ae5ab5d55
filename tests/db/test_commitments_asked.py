"""Requests for storage commitment on SQLite and PostgreSQL: entered, leased, answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db import commitments_asked as asked
from db.query import rows_of

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LEASE = NOW + timedelta(seconds=20)
INSTANCES = (("1.2.840.10008.5.1.4.1.1.2", "1.2.3"), ("1.2.840.10008.5.1.4.1.1.2", "1.2.4"))


def record(engine: sa.Engine, transaction: str = "1.9", **changes: Any) -> int | None:
    values: dict[str, Any] = {
        "calling_ae": "CT",
        "called_ae": "PREREAD",
        "association_id": "a1",
        "instances": INSTANCES,
        "now": NOW,
        "leased_until": LEASE,
        **changes,
    }
    with engine.begin() as connection:
        return asked.record_request(connection, transaction_uid=transaction, **values)


def claim(engine: sa.Engine, at: datetime, **changes: Any) -> asked.AskedCommitment | None:
    with engine.begin() as connection:
        found = asked.claim(connection, now=at, leased_until=at + timedelta(minutes=5), **changes)
    with engine.connect() as connection:
        assert found is not None or changes or not asked.has_due(connection, at)
    return found


def row(engine: sa.Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        (one,) = rows_of(connection, "v_commitments", order_by="commitment_id")
    return one


def test_a_request_belongs_to_its_association_until_the_lease_ends(engine: sa.Engine) -> None:
    made = record(engine)
    assert made is not None
    assert claim(engine, NOW) is None
    with engine.begin() as connection:
        asked.renew(connection, [made], LEASE + timedelta(seconds=20))
    assert claim(engine, LEASE) is None
    found = claim(engine, LEASE + timedelta(seconds=20))
    assert found is not None
    assert (found.id, found.transaction_uid, found.n_attempts) == (made, "1.9", 1)
    assert (found.calling_ae, found.called_ae) == ("CT", "PREREAD")
    assert (found.instances, found.received_at) == (INSTANCES, NOW)
    assert claim(engine, LEASE + timedelta(seconds=21)) is None  # leased to the first


def test_an_equal_request_begins_anew_and_another_is_none(engine: sa.Engine) -> None:
    made = record(engine)
    assert made is not None
    with engine.begin() as connection:
        asked.mark_looked_at(connection, made, {"1.2.3": 0x0112})
        asked.mark_reported(connection, made, NOW)
    assert row(engine)["state"] == "reported"
    assert row(engine)["failures"] == '{"1.2.3": "0x0112"}'
    later = NOW + timedelta(hours=1)
    assert record(engine, now=later, leased_until=later, association_id="a2") == made
    assert row(engine)["state"] == "pending"
    assert row(engine)["failures"] is None
    assert row(engine)["trace_id"] == "a2"
    assert record(engine, instances=INSTANCES[:1]) is None
    assert record(engine, instances=INSTANCES[:1], calling_ae="MR") not in (None, made)


def test_who_is_busy_waits_and_nobody_else(engine: sa.Engine) -> None:
    first = record(engine, leased_until=NOW)
    second = record(engine, "1.10", calling_ae="MR", leased_until=NOW + timedelta(seconds=1))
    at = NOW + timedelta(minutes=1)
    found = claim(engine, at, busy=("CT",))
    assert found is not None
    assert found.id == second
    found = claim(engine, at)
    assert found is not None
    assert found.id == first


def test_failed_attempts_have_an_end(engine: sa.Engine) -> None:
    made = record(engine, leased_until=NOW)
    assert made is not None
    assert claim(engine, NOW) is not None
    again = NOW + timedelta(seconds=5)
    with engine.begin() as connection:
        asked.mark_failed(connection, made, "cannot connect", again)
    assert claim(engine, NOW) is None
    assert claim(engine, again) is not None
    with engine.begin() as connection:
        asked.mark_failed(connection, made, "given up", None)
    assert (row(engine)["state"], row(engine)["last_error"]) == ("dead", "given up")
    assert claim(engine, NOW + timedelta(days=1)) is None


def test_a_look_that_is_put_off_is_no_attempt(engine: sa.Engine) -> None:
    made = record(engine, leased_until=NOW)
    assert made is not None
    assert claim(engine, NOW) is not None
    with engine.begin() as connection:
        asked.put_off(connection, made, NOW + timedelta(seconds=2))
    found = claim(engine, NOW + timedelta(seconds=2))
    assert found is not None
    assert found.n_attempts == 1


@pytest.mark.parametrize("step", ["failed", "release"])
def test_who_overslept_undoes_nothing(engine: sa.Engine, step: str) -> None:
    made = record(engine)
    assert made is not None
    with engine.begin() as connection:
        asked.mark_reported(connection, made, NOW)
        if step == "failed":
            asked.mark_failed(connection, made, "too late", None)
        else:
            asked.release(connection, made, NOW, "too late")
    assert row(engine)["state"] == "reported"
    assert row(engine)["last_error"] is None


def test_that_the_sender_has_its_answer_counts_whatever_was_said_before(
    engine: sa.Engine,
) -> None:
    made = record(engine)
    assert made is not None
    with engine.begin() as connection:
        asked.mark_failed(connection, made, "nobody to call", None)
        asked.mark_reported(connection, made, NOW)
    assert (row(engine)["state"], row(engine)["last_error"]) == ("reported", None)
