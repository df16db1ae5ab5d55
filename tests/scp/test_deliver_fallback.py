"""Reports in the best class that a PACS takes: kept, shared and sent ever after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from outbox import Clock, Fallbacks, Outbox, settings_for
from pacs import SR, SR_3D, SR_ENHANCED, Pacs

from scp import Destination, Guards
from scp.errors import FaultError


@pytest.fixture
def fallbacks() -> Fallbacks:
    return Fallbacks()


def sender_to(
    outbox: Outbox, pacs: Pacs, fallbacks: Any, clock: Clock | None = None, **changes: Any
) -> Destination:
    settings = settings_for(pacs.port, **changes)
    guards = Guards(fallback=fallbacks)
    return Destination(outbox.engine, outbox.files, settings, "PREREAD", clock or Clock(), guards)


def again(pacs: Pacs, *classes: str) -> None:
    pacs.stop()
    pacs.classes = classes
    pacs.start()


@pytest.mark.parametrize(
    ("classes", "expected"),
    [((SR_3D, SR, SR_ENHANCED), SR_3D), ((SR, SR_ENHANCED), SR), ((SR_ENHANCED,), SR_ENHANCED)],
)
def test_the_best_accepted_class_is_sent(
    outbox: Outbox, pacs: Pacs, fallbacks: Fallbacks, classes: tuple[str, ...], expected: str
) -> None:
    uid = outbox.put("pacs")
    again(pacs, *classes)
    sender_to(outbox, pacs, fallbacks, proof="find").run_once()
    assert pacs.proposed[0] == {SR_3D, SR, SR_ENHANCED}
    assert outbox.row().state == "committed"
    assert len(pacs.received) == 1
    assert (pacs.received == [uid]) is (expected == SR_3D)
    assert fallbacks.made == ([] if expected == SR_3D else [expected])
    sent = next(one for one in outbox.objects() if one.id == outbox.row().result_object_id)
    assert sent.sop_class_uid == expected
    assert sent.fallback_of_id == (None if expected == SR_3D else 1)


@pytest.mark.parametrize("status", [0x0122, 0xA900])
def test_a_class_refused_by_status(
    outbox: Outbox, pacs: Pacs, fallbacks: Fallbacks, status: int
) -> None:
    uid = outbox.put("pacs")
    again(pacs, SR_3D, SR, SR_ENHANCED)
    pacs.by_class = {SR_3D: status, SR: status}
    sender_to(outbox, pacs, fallbacks).run_once()
    assert (outbox.row().state, outbox.row().n_attempts) == ("sent", 1)
    assert (pacs.received[0], len(pacs.received)) == (uid, 3)
    assert len(pacs.stored) == 1
    assert fallbacks.made == [SR, SR_ENHANCED]


def test_the_same_bytes_ever_after_and_for_others(
    outbox: Outbox, pacs: Pacs, fallbacks: Fallbacks
) -> None:
    outbox.put("pacs", "archive", "third")
    again(pacs, SR)
    clock = Clock()
    pacs.status = 0xA700
    sender_to(outbox, pacs, fallbacks, clock).run_once()
    pacs.status = 0
    clock.advance(60)
    sender_to(outbox, pacs, fallbacks, clock).run_once()
    sender_to(outbox, pacs, fallbacks, clock, name="archive").run_once()
    assert fallbacks.made == [SR]  # made once, kept, shared
    assert len(set(pacs.received)) == 1
    assert len(outbox.objects()) == 2
    states = [(row.state, row.result_object_id) for row in outbox.rows()]
    assert states[:2] == [("sent", 2), ("sent", 2)]
    assert states[2] == ("pending", 1)
    assert pacs.proposed[1] == {SR, SR_ENHANCED}


def test_a_pacs_that_takes_no_report(outbox: Outbox, pacs: Pacs, fallbacks: Fallbacks) -> None:
    outbox.put("pacs")
    again(pacs, "1.2.840.10008.5.1.4.1.1.7")
    sender_to(outbox, pacs, fallbacks).run_once()
    assert outbox.row().state == "pending"
    assert "accepts none" in outbox.row().last_error
    assert outbox.health() is None  # it was reached
    assert fallbacks.made == []


def test_a_fallback_that_cannot_be_made_fails_closed(outbox: Outbox, pacs: Pacs) -> None:
    def none(stored_path: Path, sop_class_uid: str) -> bytes:
        raise FaultError("the report is invalid")

    outbox.put("pacs")
    good = outbox.put("pacs", sop_class=SR)
    again(pacs, SR)
    sender_to(outbox, pacs, none).run_once()
    dead, sent = outbox.rows()
    assert (dead.state, sent.state) == ("dead", "sent")
    assert "the report is invalid" in dead.last_error
    assert pacs.received == [good]


def test_a_fallback_under_the_same_uid_is_none(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs")
    again(pacs, SR)
    sender_to(outbox, pacs, lambda path, sop_class: path.read_bytes()).run_once()
    assert outbox.row().state == "dead"
    assert pacs.received == []


def test_what_a_correction_replaced_meanwhile_is_not_sent(
    outbox: Outbox, pacs: Pacs, fallbacks: Fallbacks
) -> None:
    """Two were claimed together; while the first one is sent, a person corrects the study."""
    first, second = outbox.put("pacs"), outbox.put("pacs")

    def correct(_association: Any, uid: str) -> None:
        with outbox.engine.begin() as connection:
            connection.execute(sa.text("UPDATE result_object SET fault = 'replaced' WHERE id = 2"))

    pacs.breaks = correct
    sender_to(outbox, pacs, fallbacks).run_once()
    assert pacs.received == [first]
    assert second not in pacs.stored
    assert [row.state for row in outbox.rows()] == ["sent", "dead"]
    assert outbox.rows()[1].last_error == "not sent: replaced"
