"""The association ledger on SQLite and PostgreSQL: one row for each, never a commit of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from records import BAD_RECORD, RECORD, records, rows

from db.associations import (
    AssociationClosing,
    AssociationCounts,
    AssociationRecord,
    ContextResult,
    LostAcceptor,
    entry_of,
)
from db.errors import DatabaseAwayError, DatabaseError
from db.ingest import Ingest
from db.ledger_queue import LedgerBatch, LedgerQueue
from db.schema import AssociationEnd

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
CONTEXTS = (
    ContextResult("1.2.840.10008.1.1", "1.2.840.10008.1.2", 0),
    ContextResult("1.2.840.10008.5.1.4.1.1.2", None, 4),
)


def record(number: int, acceptor: str = "a1", **changes: Any) -> AssociationRecord:
    plain = AssociationRecord(
        f"id{number}", acceptor, "SENDER", "PREREAD", "10.0.0.1", 104, NOW, CONTEXTS
    )
    return replace(plain, **changes)


def closing(
    number: int, end: AssociationEnd = AssociationEnd.RELEASED, **counts: Any
) -> AssociationClosing:
    return AssociationClosing(record(number), AssociationCounts(**counts), LATER, end)


@pytest.fixture
def ingest(engine: sa.Engine) -> Iterator[Ingest]:
    ingest = Ingest(engine)
    yield ingest
    ingest.close()


def ledger(engine: sa.Engine, columns: str) -> list[tuple[Any, ...]]:
    return rows(engine, f"SELECT {columns} FROM v_associations ORDER BY trace_id")


def test_open_and_close(engine: sa.Engine, ingest: Ingest) -> None:
    ingest.enter(record(1))
    assert ingest.flush(30)
    assert ledger(engine, "state, ended_at, seconds") == [("open", None, None)]
    refusals = {"0xA700": 1, "0xC000": 2}
    ingest.leave(closing(1, n_received=3, n_refused=3, n_bytes=2**40, n_equal=1, refusals=refusals))
    assert ingest.flush(30)

    ((state, n_received, n_equal, n_refused, told, n_bytes, seconds, contexts),) = ledger(
        engine,
        "state, n_received, n_equal, n_refused, refusals, n_bytes, seconds, contexts",
    )
    assert (state, n_received, n_equal, n_refused, n_bytes) == ("released", 3, 1, 3, 2**40)
    assert json.loads(told) == refusals
    assert seconds == pytest.approx(60)
    assert json.loads(contexts) == [list(one) for one in CONTEXTS]


def test_opening_and_end_of_a_short_association_are_one_row(
    engine: sa.Engine, ingest: Ingest
) -> None:
    ingest.enter(record(1))
    ingest.leave(closing(1, n_received=1))
    ingest.leave(closing(2, n_received=2))  # its opening was lost
    assert ingest.flush(30)
    assert ledger(engine, "state, n_received") == [("released", 1), ("released", 2)]


def test_the_first_end_counts(engine: sa.Engine, ingest: Ingest) -> None:
    for end in (AssociationEnd.ABORTED, AssociationEnd.LOST):
        ingest.leave(closing(1, end))
        assert ingest.flush(30)
    ingest.enter(record(1))
    assert ingest.flush(30)
    assert ledger(engine, "state") == [("aborted",)]


def test_a_rejected_association_says_why(engine: sa.Engine, ingest: Ingest) -> None:
    ingest.leave(replace(closing(1, AssociationEnd.REJECTED), reject_reason="scp.max_associations"))
    assert ingest.flush(30)
    assert ledger(engine, "state, reject_reason") == [("rejected", "scp.max_associations")]


def test_only_what_an_earlier_process_opened_is_lost(engine: sa.Engine, ingest: Ingest) -> None:
    for number, acceptor in enumerate(["a1", "a1", "a2"]):
        ingest.enter(record(number, acceptor))
    ingest.leave(closing(0))
    ingest.enter(record(3, opened_at=LATER + timedelta(seconds=1)))
    assert ingest.flush(30)
    ingest.close_lost("a1", LATER)
    assert ingest.flush(30)
    assert ledger(engine, "state") == [("released",), ("lost",), ("open",), ("open",)]


def test_equal_contexts_are_kept_once(engine: sa.Engine, ingest: Ingest) -> None:
    for number in range(3):
        ingest.enter(record(number))
        assert ingest.flush(30)
    ingest.enter(record(3, contexts=CONTEXTS[:1]))
    assert ingest.flush(30)
    assert rows(engine, "SELECT COUNT(*) FROM context_set") == [(2,)]


def test_rows_ride_along_with_images(
    engine: sa.Engine, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many associations there are, nothing but groups of images is committed."""
    # Or a slow machine gives the flusher its chance between two images.
    monkeypatch.setattr("db.ingest._FLUSH_SECONDS", 600.0)
    transactions = 0
    run = ingest._writer._transaction

    def counted(write: Any) -> Any:
        nonlocal transactions
        transactions += 1
        return run(write)

    ingest._writer._transaction = counted  # type: ignore[method-assign]
    *images, last = records(21)
    for number, image in enumerate(images):
        ingest.enter(record(number))
        ingest.add(image)
        ingest.leave(closing(number, n_received=1))
    assert transactions == 20
    ingest.add(last)  # takes the last end along
    assert transactions == 21
    assert ledger(engine, "state") == [("released",)] * 20


def test_an_opening_is_never_later_than_its_first_image(engine: sa.Engine, ingest: Ingest) -> None:
    """Whatever the flusher does: a reader that sees the image sees its association."""
    stop = threading.Event()
    orphans: list[object] = []

    def read() -> None:
        while not stop.is_set():
            orphans.extend(
                rows(
                    engine,
                    "SELECT sop_instance_uid FROM instance WHERE NOT EXISTS "
                    "(SELECT 1 FROM association WHERE association.id = instance.association_id)",
                )
            )

    def send(sender: int) -> None:
        for number in range(20):
            name = f"{sender}-{number}"
            ingest.enter(replace(record(0), id=name))
            uid = f"1.2.3.{sender + 1}.{number}"
            ingest.add(replace(RECORD, sop_instance_uid=uid, association_id=name))

    reader = threading.Thread(target=read)
    senders = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in (reader, *senders):
        thread.start()
    for thread in senders:
        thread.join(60)
    stop.set()
    reader.join(60)
    assert orphans == []


def test_a_bad_image_does_not_cost_the_ledger_its_rows(engine: sa.Engine, ingest: Ingest) -> None:
    ingest.enter(record(1))
    with pytest.raises(DatabaseError):
        ingest.add(BAD_RECORD)
    assert ledger(engine, "state") == [("open",)]


def test_rows_wait_for_a_database_that_is_away(
    engine: sa.Engine, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def away(*_: object, **__: object) -> None:
            raise DatabaseAwayError("away")

        patch.setattr(ingest._writer, "write", away)
        ingest.enter(record(1))
        assert not ingest.flush(0.5)
        ingest.leave(closing(1))
    assert ingest.flush(30)
    assert ledger(engine, "state") == [("released",)]


@given(
    st.builds(
        AssociationRecord,
        id=st.text(max_size=40), acceptor=st.text(max_size=200), calling_ae=st.text(max_size=40),
        called_ae=st.text(max_size=40), peer_host=st.text(max_size=99), peer_port=st.just(104),
        opened_at=st.just(NOW),
        contexts=st.lists(
            st.builds(
                ContextResult, st.text(max_size=99), st.none() | st.text(max_size=99),
                st.integers(0, 255),
            ),
            max_size=200,
        ).map(tuple),
    )
)  # fmt: skip
def test_what_a_peer_chooses_is_bounded(chosen: AssociationRecord) -> None:
    entry = entry_of(chosen)
    texts = [entry.id, *(str(one) for one in entry.peer)]
    assert all(text.isprintable() for text in texts)
    assert [len(text) <= most for text, most in zip(texts, (32, 128, 16, 16, 64, 5), strict=True)]
    contexts = json.loads(entry.contexts or "[]")
    assert len(contexts) == min(128, len(chosen.contexts))
    assert all(len(abstract) <= 64 for abstract, _, _ in contexts)
    json.dumps(contexts).encode()


def test_the_queue_forgets_the_oldest_ends_but_no_open_association() -> None:
    queue = LedgerQueue(limit=3)
    queue.put(entry_of(record(0)))
    for number in range(1, 6):
        queue.put(entry_of(closing(number)))
    assert [one.id for one in queue.take().entries] == ["id0", "id4", "id5"]
    for number in range(6):
        queue.put(entry_of(record(number)))
    assert len(queue) == 6


def test_what_is_put_back_does_not_undo_what_was_said_since() -> None:
    queue = LedgerQueue()
    queue.put_lost(LostAcceptor("a1", NOW))
    queue.put(entry_of(record(1)))
    queue.put(entry_of(record(2)))
    batch = queue.take()
    assert not queue.take()
    queue.put(entry_of(closing(2)))
    queue.put(entry_of(record(3)))
    queue.put_back(batch)
    again = queue.take()
    assert again.lost == (LostAcceptor("a1", NOW),)
    assert [(one.id, one.ended_at) for one in again.entries] == [
        ("id1", None), ("id2", LATER), ("id3", None),
    ]  # fmt: skip
    assert not queue.wait_empty(0.01)
    queue.written(again)
    assert queue.wait_empty(0.01)
    assert not LedgerBatch()
