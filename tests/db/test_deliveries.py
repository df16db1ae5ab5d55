"""The outbox on SQLite and PostgreSQL: claims, outcomes, dead letters."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db import deliveries
from db.schema import Analysis, Delivery, DeliveryState, ResultObject, Series, Study

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
LEASE = NOW + timedelta(minutes=1)
PENDING = [DeliveryState.PENDING]
BOTH = [DeliveryState.PENDING, DeliveryState.SENT]


@pytest.fixture
def outbox(engine: sa.Engine) -> sa.Engine:
    """Six deliveries: objects 1 to 3 (the last a segmentation) for pacs and archive."""
    analysis = {
        "id": "a", "study_instance_uid": "1", "series_instance_uid": "1.2", "model_name": "m",
        "model_version": "1", "weights_sha256": "0", "configuration_digest": "0",
        "instance_digest": "0", "version": 1, "priority": "routine", "trace_id": "t",
        "received_at": NOW,
        "requested_at": NOW,
    }  # fmt: skip
    received = {"received_at": NOW, "last_received_at": NOW}
    with engine.begin() as connection:
        connection.execute(sa.insert(Study).values(study_instance_uid="1", **received))
        connection.execute(
            sa.insert(Series).values(
                series_instance_uid="1.2", study_instance_uid="1", trace_id="t",
                first_received_at=NOW, last_received_at=NOW,
            )
        )  # fmt: skip
        connection.execute(sa.insert(Analysis).values(**analysis))
        for number in (1, 2, 3):
            connection.execute(
                sa.insert(ResultObject).values(
                    id=number, analysis_id="a", kind="seg" if number == 3 else "sr",
                    sop_class_uid="1.2", sop_instance_uid=f"1.{number}",
                    series_instance_uid="1.9", path=f"p{number}", size_bytes=1, sha256="0",
                    created_at=NOW,
                )
            )  # fmt: skip
            for destination in ("pacs", "archive"):
                connection.execute(
                    sa.insert(Delivery).values(
                        result_object_id=number, destination=destination,
                        next_attempt_at=NOW + timedelta(seconds=number), created_at=NOW,
                    )
                )  # fmt: skip
    return engine


def claim(engine: sa.Engine, **changes: Any) -> list[deliveries.DueDelivery]:
    arguments: dict[str, Any] = {
        "destination": "pacs", "kinds": ["sr"], "states": PENDING,
        "now": NOW + timedelta(seconds=30), "leased_until": LEASE, **changes,
    }  # fmt: skip
    with engine.begin() as connection:
        return deliveries.claim(connection, **arguments)


def row(engine: sa.Engine, delivery_id: int) -> Any:
    with engine.connect() as connection:
        query = sa.select(Delivery.__table__).where(Delivery.id == delivery_id)
        return connection.execute(query).one()


def test_claims_in_order_by_destination_kind_and_time(outbox: sa.Engine) -> None:
    assert claim(outbox, now=NOW) == []
    first = claim(outbox, now=NOW + timedelta(seconds=1))
    assert [one.sop_instance_uid for one in first] == ["1.1"]
    assert (first[0].n_attempts, first[0].study_instance_uid, first[0].trace_id) == (1, "1", "t")
    assert (first[0].path, first[0].state, first[0].kind) == ("p1", "pending", "sr")
    assert [one.sop_instance_uid for one in claim(outbox)] == ["1.2"]
    assert claim(outbox) == []
    other = claim(outbox, destination="archive", kinds=["sr", "seg"], limit=2)
    assert [one.sop_instance_uid for one in other] == ["1.1", "1.2"]


def test_a_lease_ends(outbox: sa.Engine) -> None:
    assert len(claim(outbox)) == 2
    again = claim(outbox, now=LEASE, leased_until=LEASE + timedelta(minutes=1))
    assert [one.n_attempts for one in again] == [2, 2]


def test_sent_is_final_or_waits_for_proof(outbox: sa.Engine) -> None:
    one, two = claim(outbox)
    with outbox.begin() as connection:
        deliveries.mark_sent(connection, one.id, "0x0000", NOW, final=True)
        deliveries.mark_sent(connection, two.id, "0x0000", NOW, final=False)
    assert claim(outbox, now=LEASE) == []
    found = claim(outbox, now=LEASE, states=BOTH, leased_until=LEASE + timedelta(minutes=1))
    assert {(delivery.id, delivery.state) for delivery in found} == {
        (one.id, "sent"), (two.id, "sent"),
    }  # fmt: skip
    with outbox.begin() as connection:
        deliveries.mark_committed(connection, two.id, LEASE)
    assert row(outbox, two.id).state == "committed"
    assert row(outbox, two.id).committed_at == LEASE
    with outbox.begin() as connection:  # a sender that overslept
        deliveries.mark_failed(connection, two.id, "late", status=None, next_attempt_at=None)
    assert row(outbox, two.id).state == "committed"


def test_failed_dead_and_retried(outbox: sa.Engine) -> None:
    one, two = claim(outbox)
    with outbox.begin() as connection:
        deliveries.mark_failed(
            connection, one.id, "x" * 5000, status="0xA700", next_attempt_at=LEASE
        )
        deliveries.mark_failed(connection, two.id, "gone", status=None, next_attempt_at=None)
        assert [dead.id for dead in deliveries.list_dead(connection)] == [two.id]
        assert deliveries.list_dead(connection, "archive") == []
    assert (row(outbox, one.id).state, row(outbox, one.id).leased_until) == ("pending", None)
    assert len(row(outbox, one.id).last_error) == 1000
    with outbox.begin() as connection:
        assert not deliveries.retry(connection, one.id, NOW)
        assert deliveries.retry(connection, two.id, NOW)
    (again,) = claim(outbox)
    assert (again.id, again.n_attempts) == (two.id, 1)


def test_nobody_claims_what_another_has(outbox: sa.Engine) -> None:
    claimed: list[int] = []

    def compete() -> None:
        for _ in range(3):
            claimed.extend(one.id for one in claim(outbox, limit=1))

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 2
