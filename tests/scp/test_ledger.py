"""The ledger of one acceptor: what is counted, and what is said of an association's end."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any, cast

from db.associations import AssociationClosing, AssociationRecord
from db.ingest import Ingest
from db.schema import AssociationEnd
from scp.ledger import Ledger

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
RECORD = AssociationRecord("id1", "host:11112", "CT1", "PREREAD", "10.0.0.9", 4711, NOW)


class Written:
    """Stands for `Ingest`; keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.enter = self.leave = self.told.append

    def close_lost(self, acceptor: str, before: datetime) -> None:
        self.told.append((acceptor, before))


def new() -> tuple[Ledger, list[Any]]:
    written = Written()
    return Ledger(cast(Ingest, written), "host:11112", clock=lambda: NOW), written.told


def test_statuses_are_counted_and_the_first_end_is_told() -> None:
    ledger, told = new()
    thread = threading.current_thread()
    entry = ledger.open(thread, RECORD)
    assert ledger.of(thread) is entry
    entry.count(10, 0x0000)
    entry.count(10, 0x0000, duplicate=True)
    for status in (0xC000, 0xA700, 0xC000):
        entry.count(1, status)

    assert ledger.close(thread, AssociationEnd.RELEASED)
    assert not ledger.close(thread, AssociationEnd.LOST)
    assert ledger.of(thread) is None
    opening, closing = told
    assert opening is RECORD
    assert (closing.record, closing.ended_by) == (RECORD, AssociationEnd.RELEASED)
    counts = closing.counts
    assert (counts.n_received, counts.n_equal, counts.n_refused, counts.n_bytes) == (2, 1, 3, 23)
    assert counts.refusals == {"0xA700": 1, "0xC000": 2}


def test_a_thread_that_died_without_a_word_is_lost() -> None:
    ledger, told = new()
    thread = threading.Thread(target=str)
    ledger.open(thread, RECORD)
    ledger.sweep()
    assert told[-1].ended_by is AssociationEnd.LOST


def test_rejections_are_bounded() -> None:
    ledger, told = new()
    for _ in range(1000):
        ledger.rejected(RECORD, "scp.calling_ae_allow")
    assert 120 <= len(told) <= 240  # a minute may begin meanwhile
    assert all(isinstance(one, AssociationClosing) for one in told)
    assert {(one.ended_by, one.reject_reason) for one in told} == {
        (AssociationEnd.REJECTED, "scp.calling_ae_allow")
    }


def test_what_an_earlier_process_left_is_lost() -> None:
    ledger, told = new()
    ledger.close_lost()
    assert told == [("host:11112", NOW)]
