"""The outbox on SQLite and PostgreSQL: claims, outcomes, dead letters."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db import commitments, dead_letters, deliveries, fallbacks, health
from db.incoming import StoredFile
from db.query import rows_of
from db.schema import (
    Analysis,
    CommitmentSought,
    Delivery,
    DeliveryState,
    Proof,
    ResultObject,
    Series,
    Study,
)

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
                    analysis_id="a", kind="seg" if number == 3 else "sr",
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
        deliveries.mark_committed(connection, two.id, LEASE, Proof.FIND)
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
        assert [dead.id for dead in dead_letters.list_dead(connection)] == [two.id]
        assert dead_letters.list_dead(connection, "archive") == []
    assert (row(outbox, one.id).state, row(outbox, one.id).leased_until) == ("pending", None)
    assert len(row(outbox, one.id).last_error) == 1000
    with outbox.begin() as connection:
        assert dead_letters.retry(connection, NOW, delivery_id=one.id) == 0
        assert dead_letters.retry(connection, NOW, destination="archive") == 0
        assert dead_letters.retry(connection, NOW, delivery_id=two.id, deadline_hours=2) == 1
    assert row(outbox, two.id).deadline_at == NOW + timedelta(hours=2)
    (again,) = claim(outbox)
    assert (again.id, again.n_attempts) == (two.id, 1)


def test_an_attempt_that_fails_after_its_delivery_was_ended_changes_nothing(
    outbox: sa.Engine,
) -> None:
    one, two = claim(outbox)
    why = "not sent any more: replaced by 1.2.3"
    with outbox.begin() as connection:
        connection.execute(
            sa.update(Delivery)
            .where(Delivery.id == one.id)
            .values(state="dead", last_error=why, leased_until=None)
        )
        deliveries.mark_sent(connection, two.id, "0x0000", NOW, final=True)
    fail_too_late(outbox, one.id, two.id)
    ended = row(outbox, one.id)
    assert (ended.state, ended.last_error, ended.n_attempts) == ("dead", why, one.n_attempts)
    sent = row(outbox, two.id)
    assert (sent.state, sent.last_error, sent.n_attempts) == ("sent", None, two.n_attempts)


def test_an_attempt_that_fails_after_a_person_asked_for_more_changes_nothing(
    outbox: sa.Engine,
) -> None:
    one, _ = claim(outbox)
    with outbox.begin() as connection:
        deliveries.mark_failed(connection, one.id, "gone", status=None, next_attempt_at=None)
        assert dead_letters.retry(connection, NOW, delivery_id=one.id) == 1
    fail_too_late(outbox, one.id)
    again = row(outbox, one.id)
    assert (again.state, again.n_attempts, again.next_attempt_at) == ("pending", 0, NOW)


def fail_too_late(engine: sa.Engine, *numbers: int) -> None:
    with engine.begin() as connection:
        for number in numbers:
            for again in (LEASE, None):
                assert not deliveries.mark_failed(
                    connection, number, "cannot connect", status=None, next_attempt_at=again,
                    counts=False,
                )  # fmt: skip
            deliveries.release(connection, number)


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


def test_what_was_not_tried_is_given_back(outbox: sa.Engine) -> None:
    one, two = claim(outbox)
    with outbox.begin() as connection:
        deliveries.release(connection, one.id)
        deliveries.mark_failed(
            connection, two.id, "away", status=None, next_attempt_at=LEASE, counts=False
        )
    assert (row(outbox, one.id).n_attempts, row(outbox, one.id).leased_until) == (0, None)
    assert (row(outbox, two.id).n_attempts, row(outbox, two.id).last_error) == (0, "away")
    assert [again.id for again in claim(outbox)] == [one.id]


def test_looking_for_work_sees_what_claiming_would(outbox: sa.Engine) -> None:
    def is_any_due(now: datetime, kinds: Any = ("sr",), states: Any = PENDING) -> bool:
        with outbox.connect() as connection:
            return deliveries.is_any_due(connection, "pacs", kinds, states, now)

    assert not is_any_due(NOW)
    assert is_any_due(NOW + timedelta(seconds=1))
    assert not is_any_due(NOW + timedelta(seconds=3), kinds=["ko"])
    claim(outbox)
    assert not is_any_due(NOW + timedelta(seconds=30))
    assert is_any_due(LEASE)
    with outbox.begin() as connection:
        connection.execute(sa.update(Delivery).values(deadline_at=LEASE))
    assert is_any_due(LEASE, kinds=["ko"])


def test_deadlines(outbox: sa.Engine) -> None:
    first, second = claim(outbox)
    with outbox.begin() as connection:
        connection.execute(sa.update(Delivery).values(deadline_at=NOW))
        deliveries.mark_failed(connection, first.id, "refused", status=None, next_attempt_at=LEASE)
        given_up = deliveries.expire(connection, "pacs", PENDING, NOW)
    assert {one.id for one in given_up} == {first.id, 5}  # not the one that is being sent
    assert row(outbox, first.id).state == "dead"
    assert "deadline" in row(outbox, first.id).last_error
    assert "refused" in row(outbox, first.id).last_error
    assert row(outbox, second.id).state == "pending"
    with outbox.begin() as connection:
        deliveries.mark_sent(connection, second.id, "0x0000", NOW, final=True)
        assert deliveries.expire(connection, "pacs", BOTH, LEASE) == []


def ask(engine: sa.Engine, transaction: str, delivery: int, at: datetime = NOW) -> None:
    with engine.begin() as connection:
        deliveries.mark_sent(connection, delivery, "0x0000", at, final=False)
        commitments.note_sought(connection, transaction, delivery, at)


def answer(engine: sa.Engine, transaction: str, committed: Any = (), failed: Any = None) -> bool:
    with engine.begin() as connection:
        return commitments.record_answer(connection, transaction, committed, failed or {}, LEASE)


def test_an_answer_commits_its_delivery_only(outbox: sa.Engine) -> None:
    one, two = claim(outbox)
    ask(outbox, "9.1", one.id)
    ask(outbox, "9.2", two.id)
    assert not answer(outbox, "9.9", ["1.1"])
    assert answer(outbox, "9.1", ["1.2"])  # others' instances prove nothing
    assert answer(outbox, "9.1", failed={"1.2": 0x0112})
    assert (row(outbox, one.id).state, row(outbox, two.id).state) == ("sent", "sent")
    assert answer(outbox, "9.1", ["1.1", "1.2"])
    assert answer(outbox, "9.1", failed={"1.1": 0x0112})  # said before: nothing changes
    done = row(outbox, one.id)
    assert (done.state, done.proof, done.committed_at) == ("committed", "commit", LEASE)
    assert row(outbox, two.id).state == "sent"


def test_a_failed_commitment_is_tried_again_later(outbox: sa.Engine) -> None:
    one, _ = claim(outbox)
    ask(outbox, "9.1", one.id)
    assert answer(outbox, "9.1", ["1.1"], {"1.1": 0x0112})  # named in both: not proved
    failed = row(outbox, one.id)
    assert (failed.state, failed.last_status, failed.leased_until) == ("pending", "0x0112", None)
    assert "no such object instance" in failed.last_error
    assert failed.next_attempt_at > LEASE
    with outbox.connect() as connection:
        kept = connection.execute(sa.select(CommitmentSought.__table__)).one()
    assert (kept.failure_reason, kept.answered_at) == ("0x0112", LEASE)


def test_a_late_failure_does_not_undo_what_was_sent_since(outbox: sa.Engine) -> None:
    one, _ = claim(outbox)
    ask(outbox, "9.1", one.id)
    ask(outbox, "9.2", one.id, LEASE)
    assert answer(outbox, "9.1", failed={"1.1": 0x0112})
    assert row(outbox, one.id).state == "sent"
    assert answer(outbox, "9.2", ["1.1"])
    assert row(outbox, one.id).state == "committed"


def test_proof_of_a_dead_letter_brings_it_back(outbox: sa.Engine) -> None:
    one, _ = claim(outbox)
    ask(outbox, "9.1", one.id)
    with outbox.begin() as connection:
        deliveries.mark_failed(connection, one.id, "gone", status=None, next_attempt_at=None)
        deliveries.await_proof(connection, one.id, NOW)
        letter = dead_letters.explain(connection, one.id)
    assert letter is not None
    assert (letter.state, letter.last_error, letter.n_unanswered) == ("dead", "gone", 1)
    assert answer(outbox, "9.1", ["1.1"])
    assert row(outbox, one.id).state == "committed"


def test_answers_at_once_are_one_answer(outbox: sa.Engine) -> None:
    one, _ = claim(outbox)
    ask(outbox, "9.1", one.id)
    known: list[bool] = []
    threads = [
        threading.Thread(target=lambda: known.append(answer(outbox, "9.1", ["1.1"])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known == [True] * 4
    assert row(outbox, one.id).state == "committed"


def test_a_refused_request_is_answered(outbox: sa.Engine) -> None:
    one, _ = claim(outbox)
    ask(outbox, "9.1", one.id)
    with outbox.begin() as connection:
        assert not commitments.is_answered(connection, "9.1")
        commitments.note_refused(connection, "9.1", "0x0122", NOW)
        assert commitments.is_answered(connection, "9.1")
        letter = dead_letters.explain(connection, one.id)
    assert letter is not None
    assert (letter.refusals, letter.n_unanswered) == (("0x0122",), 0)


def test_health_from_working_to_waiting_and_back(outbox: sa.Engine) -> None:
    def seen() -> tuple[Any, ...]:
        with outbox.connect() as connection:
            (one,) = rows_of(
                connection, "v_destinations", order_by="destination",
                equals={"destination": "pacs"},
            )  # fmt: skip
        return one["state"], one["last_error"], one["failing_since"], one["last_success_at"]

    with outbox.begin() as connection:
        assert health.load(connection, "pacs") == health.Health()
        health.note_failure(connection, "pacs", "cannot connect", NOW, None)
    assert seen() == ("failing", "cannot connect", NOW, None)
    with outbox.begin() as connection:
        health.note_failure(connection, "pacs", "rejected", LEASE, LEASE)
        health.hold(connection, "pacs", LEASE + timedelta(minutes=1))
        found = health.load(connection, "pacs")
    assert (found.n_failures, found.failing_since, found.is_waiting) == (2, NOW, True)
    assert seen() == ("waiting", "rejected", NOW, None)
    with outbox.begin() as connection:
        health.note_reached(connection, "pacs", LEASE, has_taken=True)
        health.note_reached(connection, "pacs", LEASE, has_taken=False)
    assert seen() == ("working", None, None, LEASE)


def test_a_fallback_is_made_once(outbox: sa.Engine) -> None:
    stored = StoredFile("results/00/1.5.dcm", 10, "f" * 64)
    (claimed, _) = claim(outbox)

    def add() -> fallbacks.KeptObject:
        with outbox.begin() as connection:
            return fallbacks.add_fallback(
                connection, 1, sop_class_uid="1.3", sop_instance_uid="1.5",
                series_instance_uid="1.9", stored=stored, now=NOW,
            )  # fmt: skip

    made = add()
    assert add() == made
    with outbox.begin() as connection:
        assert fallbacks.fallback_of(connection, 1, "1.3") == made
        assert fallbacks.fallback_of(connection, 1, "1.4") is None
        fallbacks.switch_object(connection, claimed.id, made.id)
    (again,) = claim(outbox, now=LEASE, leased_until=LEASE + timedelta(minutes=1), limit=1)
    assert (again.id, again.object_id, again.root_id) == (claimed.id, made.id, 1)
    assert (again.sop_instance_uid, again.kind, again.sha256) == ("1.5", "sr", "f" * 64)


def test_a_fault_holds_everywhere_until_a_person_retries(outbox: sa.Engine) -> None:
    (one, _) = claim(outbox)
    with outbox.begin() as connection:
        deliveries.note_fault(connection, 1, "damaged")
        deliveries.mark_failed(connection, one.id, "damaged", status=None, next_attempt_at=None)
        assert dead_letters.destinations_of_dead(connection) == ["pacs"]
    assert claim(outbox, destination="archive", limit=1)[0].fault == "damaged"
    with outbox.begin() as connection:
        assert dead_letters.retry(connection, NOW) == 1
    assert claim(outbox, limit=1)[0].fault is None
