"""Delivery of results: stored bytes to each destination, retries, deadlines and dead letters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from outbox import NOW, Clock, Outbox, settings_for
from pacs import Pacs
from structlog.testing import capture_logs
from waiting import wait_for

from db import FileStore, dead_letters, deliveries
from db.schema import Delivery, DeliveryState
from scp import Deliverer, Destination, Guards
from scp.outcomes import Outcomes
from scp.part10 import read_layout


def destination(outbox: Outbox, port: int, clock: Any = None, **changes: Any) -> Destination:
    guards = changes.pop("guards", Guards())
    settings = settings_for(port, **changes)
    engine, files = outbox.engine, outbox.files
    return Destination(engine, files, settings, "PREREAD", clock or Clock(), guards)


def test_the_stored_bytes_arrive_and_sent_is_final(outbox: Outbox, pacs: Pacs) -> None:
    uid = outbox.put("pacs", deadline=timedelta(hours=1))
    clock = Clock()
    sender = destination(outbox, pacs.port, clock)
    assert sender.run_once() == 1
    assert sender.run_once() == 0
    row = outbox.row()
    assert (row.state, row.n_attempts, row.last_status) == ("sent", 1, "0x0000")
    assert (row.committed_at, row.leased_until) == (None, None)
    content = outbox.file(uid).read_bytes()
    assert pacs.stored[uid] == content[read_layout(content).data_set_offset :]
    clock.advance(7200)
    assert sender.run_once() == 0
    assert outbox.row().state == "sent"  # it arrived: its deadline is nobody's any more


def test_objects_of_a_study_go_together(outbox: Outbox, pacs: Pacs) -> None:
    uids = [outbox.put("pacs") for _ in range(3)]
    assert destination(outbox, pacs.port).run_once() == 3
    assert pacs.received == uids
    assert pacs.n_associations == 1
    assert pacs.proposed == [{"1.2.840.10008.5.1.4.1.1.88.34"}]  # nothing that is not needed


def test_a_refusal_names_its_object(outbox: Outbox, pacs: Pacs) -> None:
    bad, good = outbox.put("pacs", sop_class="1.2.3.4.5"), outbox.put("pacs")
    destination(outbox, pacs.port).run_once()
    states = {row.result_object_id: (row.state, row.last_error) for row in outbox.rows()}
    assert states[2] == ("sent", None)
    assert states[1][0] == "pending"
    assert "does not accept 1.2.3.4.5" in states[1][1]
    assert (bad in pacs.stored, good in pacs.stored) == (False, True)


def test_a_failed_attempt_of_what_was_ended_meanwhile_is_told_as_that(
    outbox: Outbox, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.put("pacs", sop_class="1.2.3.4.5")
    failed = Outcomes.failed

    def corrected_before(self: Outcomes, *arguments: Any, **named: Any) -> None:
        with outbox.engine.begin() as connection:
            ended = {"state": "dead", "last_error": "replaced", "leased_until": None}
            connection.execute(sa.update(Delivery).values(ended))
        failed(self, *arguments, **named)

    monkeypatch.setattr(Outcomes, "failed", corrected_before)
    with capture_logs() as events:
        destination(outbox, pacs.port).run_once()
    assert (outbox.row().state, outbox.row().last_error) == ("dead", "replaced")
    told = [one["event"] for one in events if one["event"].startswith("delivery.")]
    assert told == ["delivery.ended_meanwhile"]


@pytest.mark.parametrize("status", [0xB000, 0x0111])
def test_a_warning_and_a_duplicate_are_successes(outbox: Outbox, pacs: Pacs, status: int) -> None:
    outbox.put("pacs")
    pacs.status = status
    destination(outbox, pacs.port).run_once()
    assert (outbox.row().state, outbox.row().last_status) == ("sent", f"0x{status:04X}")


def test_proof_by_find(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs")
    clock = Clock()
    sender = destination(outbox, pacs.port, clock, proof="find")
    pacs.shown = False
    sender.run_once()
    row = outbox.row()
    assert (row.state, row.committed_at) == ("sent", None)
    assert "does not show" in row.last_error
    pacs.shown = True
    assert sender.run_once() == 0  # not due yet
    clock.advance(20)
    sender.run_once()
    row = outbox.row()
    assert (row.state, row.last_error, row.proof) == ("committed", None, "find")
    assert row.committed_at == clock()
    assert len(pacs.received) == 1  # it had arrived: proving was enough


def test_what_is_lost_there_is_sent_again(outbox: Outbox, pacs: Pacs) -> None:
    uid = outbox.put("pacs")
    clock = Clock()
    sender = destination(outbox, pacs.port, clock, proof="find")
    pacs.shown = False
    sender.run_once()
    first = pacs.stored.pop(uid)
    pacs.shown = True
    clock.advance(20)
    sender.run_once()
    assert outbox.row().state == "committed"
    assert pacs.received == [uid, uid]
    assert pacs.stored[uid] == first


def test_refusals_back_off_and_end_as_dead_letters_that_can_be_retried(
    outbox: Outbox, pacs: Pacs
) -> None:
    outbox.put("pacs")
    clock = Clock()
    sender = destination(outbox, pacs.port, clock)
    pacs.status = 0xA700
    waits = []
    for _ in range(3):
        assert sender.run_once() == 1
        waits.append((outbox.row().next_attempt_at - clock()).total_seconds())
        clock.advance(16)
    assert waits[0] == pytest.approx(10, rel=0.06)
    assert waits[1] == pytest.approx(15, rel=0.06)  # doubled, then bounded
    assert sender.run_once() == 0
    with outbox.engine.begin() as connection:
        (dead,) = dead_letters.list_dead(connection)
        assert (dead.n_attempts, dead.last_status, dead.kind) == (3, "0xA700", "sr")
        assert "refused" in str(dead.last_error)
        assert dead_letters.retry(connection, clock(), delivery_id=dead.id) == 1
        assert dead_letters.retry(connection, clock(), delivery_id=dead.id) == 0
    pacs.status = 0
    assert sender.run_once() == 1
    assert outbox.row().state == "sent"


def test_a_dead_destination_holds_up_nobody_else(outbox: Outbox, pacs: Pacs) -> None:
    uids = [outbox.put("pacs", "gone") for _ in range(2)]
    deliverer = Deliverer([destination(outbox, 1, name="gone"), destination(outbox, pacs.port)])
    deliverer.start()
    wait_for(lambda: len(pacs.stored) == 2 and outbox.health("gone") is not None)
    deliverer.stop()
    assert set(pacs.stored) == set(uids)
    states = {(row.destination, row.state) for row in outbox.rows()}
    assert states == {("pacs", "sent"), ("gone", "pending")}
    assert "cannot connect" in outbox.health("gone").last_error
    assert outbox.health("pacs").n_failures == 0


def test_only_the_kinds_that_the_destination_takes(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs", kind="seg")
    wanted = outbox.put("pacs", kind="sr")
    sender = destination(outbox, pacs.port)
    assert sender.run_once() == 1
    assert sender.run_once() == 0
    assert list(pacs.stored) == [wanted]


def test_a_missing_file_ends_as_a_dead_letter(outbox: Outbox, pacs: Pacs) -> None:
    outbox.file(outbox.put("pacs")).unlink()
    destination(outbox, pacs.port, max_attempts=1).run_once()
    assert outbox.row().state == "dead"
    assert "cannot be read" in outbox.row().last_error


def test_a_changed_file_never_leaves(outbox: Outbox, pacs: Pacs) -> None:
    uid = outbox.put("pacs", "other")
    good = outbox.put("pacs")
    path = outbox.file(uid)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\1")
    destination(outbox, pacs.port).run_once()
    dead, _, sent = outbox.rows()
    assert (dead.state, dead.n_attempts, sent.state) == ("dead", 1, "sent")
    assert "SHA-256 has changed" in dead.last_error
    assert list(pacs.received) == [good]
    path.write_bytes(content)  # brought back from a backup
    with outbox.engine.begin() as connection:
        assert dead_letters.retry(connection, NOW, destination="pacs") == 1
    destination(outbox, pacs.port).run_once()
    assert outbox.rows()[0].state == "sent"


def test_an_object_with_a_fault_is_dead_at_once_everywhere(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs", "other")
    asked: list[str] = []

    def check(path: Any) -> str:
        asked.append(path.name)
        return "the conclusion is missing"

    guards = Guards(check)
    destination(outbox, pacs.port, guards=guards).run_once()
    destination(outbox, pacs.port, name="other", guards=guards).run_once()
    assert {row.state for row in outbox.rows()} == {"dead"}
    assert all("the conclusion is missing" in row.last_error for row in outbox.rows())
    assert outbox.objects()[0].fault == "the conclusion is missing"
    assert (pacs.received, pacs.n_associations, len(asked)) == ([], 0, 1)


def test_an_object_is_checked_once(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs")
    asked: list[str] = []
    guards = Guards(lambda path: asked.append(path.name))
    clock = Clock()
    sender = destination(outbox, pacs.port, clock, guards=guards)
    pacs.status = 0xA700
    for _ in range(2):
        sender.run_once()
        clock.advance(60)
    assert len(pacs.received) == 2
    assert len(asked) == 1


def test_a_sender_that_died_leaves_its_lease(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs")
    clock = Clock()
    with outbox.engine.begin() as connection:
        claimed = deliveries.claim(
            connection, "pacs", ["sr"], [DeliveryState.PENDING],
            now=NOW, leased_until=NOW + timedelta(seconds=60),
        )  # fmt: skip
    assert len(claimed) == 1
    sender = destination(outbox, pacs.port, clock, max_attempts=1)
    assert sender.run_once() == 0
    clock.advance(61)
    assert sender.run_once() == 1
    row = outbox.row()
    assert row.state == "dead"
    assert "never ended" in row.last_error
    assert not pacs.stored


def test_a_death_between_sending_and_entering_it_is_harmless(
    outbox: Outbox, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = outbox.put("pacs")
    clock = Clock()

    def die(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(deliveries, "mark_sent", die)
        with pytest.raises(KeyboardInterrupt):
            destination(outbox, pacs.port, clock, proof="find").run_once()
    first = pacs.stored[uid]
    sender = destination(outbox, pacs.port, clock, proof="find")
    assert sender.run_once() == 0  # the lease of the dead one
    clock.advance(3600)
    sender.run_once()
    assert outbox.row().state == "committed"
    assert pacs.received == [uid, uid]
    assert pacs.stored == {uid: first}


def test_a_deadline_ends_what_no_attempt_could(
    outbox: Outbox, files: FileStore, pacs: Pacs
) -> None:
    outbox.put("pacs", deadline=timedelta(hours=1))
    outbox.put("pacs")
    clock = Clock()
    pacs.stop()
    sender = destination(outbox, pacs.port, clock, max_attempts=1)
    sender.run_once()
    assert {row.state for row in outbox.rows()} == {"pending"}
    clock.advance(3601)
    sender.run_once()
    late, other = outbox.rows()
    assert (late.state, other.state) == ("dead", "pending")
    assert "deadline" in late.last_error
    assert "cannot connect" in late.last_error


def test_the_deadline_of_a_destination_is_looked_at_while_it_waits(
    outbox: Outbox, engine: sa.Engine
) -> None:
    outbox.put("pacs", deadline=timedelta(seconds=30))
    clock = Clock()
    sender = destination(outbox, 1, clock, breaker_failures=1, backoff_first_seconds=600,
                         backoff_max_seconds=600)  # fmt: skip
    sender.run_once()
    clock.advance(31)
    sender.run_once()
    assert outbox.row().state == "dead"
