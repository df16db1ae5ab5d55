"""A destination that cannot be reached: it waits, and deliveries keep their attempts."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from outbox import Clock, Outbox, settings_for
from pacs import Pacs
from waiting import wait_for

from scp import Destination


def sender_to(outbox: Outbox, port: int, clock: Clock, **changes: Any) -> Destination:
    settings = settings_for(port, **{"max_attempts": 2, "breaker_failures": 3, **changes})
    return Destination(outbox.engine, outbox.files, settings, "PREREAD", clock)


def test_a_destination_that_is_away_for_a_day_costs_no_attempt(outbox: Outbox, pacs: Pacs) -> None:
    uids = [outbox.put("pacs") for _ in range(3)]
    clock = Clock()
    sender = sender_to(outbox, pacs.port, clock)
    pacs.stop()
    tried = 0
    for _ in range(48):
        clock.advance(1800)
        tried += bool(sender.run_once())
    assert {(row.state, row.n_attempts) for row in outbox.rows()} == {("pending", 0)}
    assert all("cannot connect" in row.last_error for row in outbox.rows())
    health = outbox.health()
    assert health.n_failures == tried
    assert health.open_until is not None
    pacs.start()
    clock.advance(60)
    assert sender.run_once() == 1  # one alone finds out
    assert outbox.health().open_until is None
    assert sender.run_once() == 2
    assert {row.state for row in outbox.rows()} == {"sent"}
    assert sorted(pacs.received) == sorted(uids)
    assert (outbox.health().n_failures, outbox.health().failing_since) == (0, None)


def test_nothing_is_tried_while_a_destination_waits(outbox: Outbox) -> None:
    clock = Clock()
    sender = sender_to(outbox, 1, clock, breaker_failures=2)
    for _ in range(2):
        outbox.put("pacs")
        assert sender.run_once() >= 1
        clock.advance(0.1)
    assert outbox.health().n_failures == 2
    outbox.put("pacs")
    assert sender.run_once() == 0
    clock.advance(12)
    assert sender.run_once() == 1
    assert outbox.health().n_failures == 3
    assert (outbox.health().open_until - clock.now).total_seconds() > 13


def test_a_sender_that_starts_anew_does_not_wait(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs")
    clock = Clock()
    pacs.stop()
    before = sender_to(outbox, pacs.port, clock, breaker_failures=1)
    assert (before.run_once(), before.run_once()) == (1, 0)
    pacs.start()
    outbox.put("pacs")
    assert before.run_once() == 0  # it waits, though one is due

    stopping = threading.Event()
    anew = threading.Thread(
        target=sender_to(outbox, pacs.port, clock, breaker_failures=1).run,
        args=(stopping,),
        daemon=True,
    )
    anew.start()
    wait_for(lambda: pacs.received, every=0.01)
    stopping.set()
    anew.join()
    assert len(pacs.received) >= 1
    assert outbox.health().open_until is None


def test_an_object_over_which_a_pacs_breaks_off_holds_up_no_other(
    outbox: Outbox, pacs: Pacs
) -> None:
    bad, *good = [outbox.put("pacs") for _ in range(3)]
    pacs.breaks = lambda association, uid: association.abort() if uid == bad else None
    clock = Clock()
    sender = sender_to(outbox, pacs.port, clock)
    sender.run_once()
    sender.run_once()
    first, *others = outbox.rows()
    assert {row.state for row in others} == {"sent"}
    assert {row.n_attempts for row in others} == {1}
    assert (first.state, first.n_attempts) == ("pending", 1)
    assert "broke" in first.last_error
    clock.advance(20)
    sender.run_once()
    assert outbox.rows()[0].state == "dead"
    assert pacs.received == [bad, *good, bad]


def test_a_pacs_that_always_aborts_waits_and_takes_it_later(outbox: Outbox, pacs: Pacs) -> None:
    uid = outbox.put("pacs")
    clock = Clock()
    sender = sender_to(outbox, pacs.port, clock, breaker_failures=1)
    pacs.breaks = lambda association, uid: association.abort()
    for _ in range(6):
        sender.run_once()
        clock.advance(20)
    row = outbox.row()
    assert (row.state, row.n_attempts) == ("pending", 1)  # only the first one counted
    assert outbox.health().n_failures == 6
    pacs.breaks = lambda association, uid: None
    sender.run_once()
    assert outbox.row().state == "sent"
    assert set(pacs.stored) == {uid}


def test_a_pacs_that_closes_the_connection(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs")
    clock = Clock()
    sender = sender_to(outbox, pacs.port, clock)

    def close(association: Any, uid: str) -> None:
        association.dul.socket.socket.shutdown(socket.SHUT_RDWR)

    pacs.breaks = close
    sender.run_once()
    assert (outbox.row().state, outbox.health().n_failures) == ("pending", 1)
    pacs.breaks = lambda association, uid: None
    clock.advance(20)
    sender.run_once()
    assert (outbox.row().state, outbox.health().n_failures) == ("sent", 0)


def test_a_pacs_that_says_nothing_ends_at_the_time_out(outbox: Outbox) -> None:
    outbox.put("pacs")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sender = sender_to(outbox, silent.getsockname()[1], Clock(), timeout=0.5)
        sender.run_once()
    assert outbox.row().state == "pending"
    assert "not answered" in outbox.row().last_error


def test_a_refusal_is_an_answer(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs")
    clock = Clock()
    sender = sender_to(outbox, pacs.port, clock, breaker_failures=1)
    pacs.breaks = lambda association, uid: association.abort()
    sender.run_once()
    clock.advance(20)
    pacs.breaks = lambda association, uid: None
    pacs.status = 0xA700
    sender.run_once()
    assert (outbox.health().open_until, outbox.health().last_success_at) == (None, None)
    assert outbox.row().state == "dead"


def test_an_object_with_a_fault_is_no_probe(outbox: Outbox, pacs: Pacs) -> None:
    damaged = outbox.put("pacs")
    outbox.put("pacs")
    clock = Clock()
    sender = sender_to(outbox, pacs.port, clock, breaker_failures=1)
    pacs.stop()
    sender.run_once()
    path = outbox.file(damaged)
    path.write_bytes(path.read_bytes() + b"\0\0")
    pacs.start()
    clock.advance(20)
    n_tried = [sender.run_once() for _ in range(2)]
    assert n_tried == [1, 1]
    assert sorted(row.state for row in outbox.rows()) == ["dead", "sent"]


@pytest.mark.parametrize("proof", ["find", "commit"])
def test_what_was_sent_waits_for_its_proof_too(outbox: Outbox, pacs: Pacs, proof: str) -> None:
    outbox.put("pacs")
    clock = Clock()
    sender = sender_to(outbox, pacs.port, clock, proof=proof, commit_hold_seconds=0)
    pacs.shown = False
    sender.run_once()
    assert outbox.row().state == "sent"
    n_attempts = outbox.row().n_attempts
    pacs.stop()
    for _ in range(10):
        clock.advance(400)
        sender.run_once()
    assert (outbox.row().state, outbox.row().n_attempts) == ("sent", n_attempts)
    pacs.start()
    pacs.shown = True
    clock.advance(400)
    sender.run_once()
    assert (outbox.row().state, outbox.row().proof) == ("committed", "find")
    assert len(pacs.received) == 1
