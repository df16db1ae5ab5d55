"""Storage commitment as proof: on the same association, on a new one, refused, never answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from outbox import NOW, Clock, Outbox, settings_for
from pacs import PUSH_MODEL, Pacs
from pynetdicom import AE, build_context, evt
from running import start_orthanc

from db import commitments
from db.schema import CommitmentSought
from scp import Destination
from scp.commitment_data import read_answer


def sender_to(
    outbox: Outbox, pacs: Pacs, clock: Clock | None = None, **changes: Any
) -> Destination:
    settings = settings_for(pacs.port, proof="commit", **changes)
    return Destination(outbox.engine, outbox.files, settings, "PREREAD", clock or Clock())


def sought(outbox: Outbox) -> list[Any]:
    with outbox.engine.connect() as connection:
        query = sa.select(CommitmentSought.__table__).order_by(CommitmentSought.requested_at)
        return list(connection.execute(query))


def all_kept(transaction: str, instances: list[str]) -> dict[str, int]:
    return {}


@pytest.fixture
def acceptor(outbox: Outbox) -> Iterator[Any]:
    """An SCP of this node that takes answers on associations of their own."""
    taken: list[bool] = []
    came = threading.Event()

    def reported(event: evt.Event) -> tuple[int, None]:
        answer = read_answer(
            event.request.EventInformation.getvalue(), str(event.context.transfer_syntax)
        )
        with outbox.engine.begin() as connection:
            taken.append(
                commitments.record_answer(
                    connection, answer.transaction_uid, answer.committed, answer.failed, NOW
                )
            )
        came.set()
        return 0, None

    handlers: Any = [(evt.EVT_N_EVENT_REPORT, reported)]
    context = build_context(PUSH_MODEL)
    context.scu_role, context.scp_role = True, True
    server: Any = AE(ae_title="PREREAD").start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=handlers, contexts=[context]
    )
    server.taken, server.came = taken, came
    yield server
    server.shutdown()


def test_the_answer_comes_on_the_same_association(outbox: Outbox, pacs: Pacs) -> None:
    uids = [outbox.put("pacs") for _ in range(2)]
    pacs.answers = all_kept
    sender_to(outbox, pacs).run_once()
    assert {(row.state, row.proof, row.leased_until) for row in outbox.rows()} == {
        ("committed", "commit", None)
    }
    assert pacs.received == uids
    assert (pacs.n_associations, pacs.n_finds) == (1, 0)
    assert [instances for _, instances in pacs.asked] == [[uid] for uid in uids]
    assert len({transaction for transaction, _ in pacs.asked}) == 2
    assert all(row.answered_at is not None for row in sought(outbox))


def test_an_answer_that_is_faster_than_the_response(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs")
    outbox.put("pacs")
    pacs.answers, pacs.reports_first = all_kept, True
    sender_to(outbox, pacs, commit_hold_seconds=0).run_once()
    assert {(row.state, row.proof) for row in outbox.rows()} == {("committed", "commit")}
    assert (pacs.n_associations, len(pacs.received)) == (1, 2)


def test_a_pacs_that_releases_while_we_listen(outbox: Outbox, pacs: Pacs) -> None:
    outbox.put("pacs")
    pacs.leaves = True
    sender_to(outbox, pacs, commit_hold_seconds=200).run_once()  # the test would time out
    assert (outbox.row().state, outbox.health().n_failures) == ("sent", 0)


def test_the_answer_comes_on_a_new_association(outbox: Outbox, pacs: Pacs, acceptor: Any) -> None:
    outbox.put("pacs")
    pacs.answers, pacs.report_port = all_kept, acceptor.server_address[1]
    sender_to(outbox, pacs, commit_hold_seconds=0).run_once()
    assert acceptor.came.wait(60)
    assert acceptor.taken == [True]
    assert (outbox.row().state, outbox.row().proof) == ("committed", "commit")


def test_an_answer_elsewhere_ends_the_wait(outbox: Outbox, pacs: Pacs, acceptor: Any) -> None:
    outbox.put("pacs")
    pacs.answers, pacs.report_port = all_kept, acceptor.server_address[1]
    sender_to(outbox, pacs, commit_hold_seconds=200).run_once()  # the test would time out
    assert outbox.row().state == "committed"


def test_the_pacs_takes_requests_on_an_association_of_their_own_only(
    outbox: Outbox, pacs: Pacs
) -> None:
    outbox.put("pacs")
    pacs.answers, pacs.commits_only_alone = all_kept, True
    sender_to(outbox, pacs).run_once()
    assert (outbox.row().state, outbox.row().proof) == ("committed", "commit")
    assert pacs.proposed[1] == {PUSH_MODEL}
    assert (pacs.n_associations, len(pacs.received)) == (2, 1)


def test_a_refused_commitment_is_sent_again(outbox: Outbox, pacs: Pacs) -> None:
    uid = outbox.put("pacs")
    other = outbox.put("pacs")
    pacs.answers = lambda transaction, instances: {uid: 0x0112} if instances == [uid] else {}
    clock = Clock()
    sender = sender_to(outbox, pacs, clock)
    sender.run_once()
    failed, kept = outbox.rows()
    assert (failed.state, failed.last_status, kept.state) == ("pending", "0x0112", "committed")
    assert "no such object instance" in failed.last_error
    assert sender.run_once() == 0
    pacs.answers = all_kept
    clock.advance(30)
    sender.run_once()
    assert {row.state for row in outbox.rows()} == {"committed"}
    assert pacs.received == [uid, other, uid]
    assert [row.failure_reason for row in sought(outbox)].count("0x0112") == 1


def test_commitments_that_always_fail_end_as_a_dead_letter(outbox: Outbox, pacs: Pacs) -> None:
    uid = outbox.put("pacs")
    pacs.answers = lambda transaction, instances: {uid: 0x0213}
    clock = Clock()
    sender = sender_to(outbox, pacs, clock)
    for _ in range(6):
        sender.run_once()
        clock.advance(60)
    assert (outbox.row().state, outbox.row().n_attempts) == ("dead", 3)
    assert "resource limitation" in outbox.row().last_error
    assert pacs.received == [uid] * 3


@pytest.mark.parametrize("shown", [True, False])
def test_no_answer_then_a_query_decides(outbox: Outbox, pacs: Pacs, shown: bool) -> None:
    uid = outbox.put("pacs")
    clock = Clock()
    sender = sender_to(outbox, pacs, clock, commit_hold_seconds=0.1)
    sender.run_once()
    row = outbox.row()
    assert (row.state, row.leased_until) == ("sent", None)
    assert (row.next_attempt_at - clock()).total_seconds() == 300
    another = outbox.put("pacs")
    assert sender.run_once() == 1  # it blocks nobody
    assert pacs.received == [uid, another]
    clock.advance(299)
    assert sender.run_once() == 0
    pacs.shown = shown
    pacs.answers = all_kept
    clock.advance(2)
    sender_to(outbox, pacs, clock).run_once()
    row = outbox.rows()[0]
    assert (row.state, row.proof) == ("committed", "find" if shown else "commit")
    assert pacs.received.count(uid) == (1 if shown else 2)


@pytest.mark.parametrize("how", ["by status", "by context"])
def test_a_pacs_without_storage_commitment_is_asked_by_find(
    outbox: Outbox, pacs: Pacs, how: str
) -> None:
    outbox.put("pacs")
    if how == "by status":
        pacs.action_status = 0x0110
    else:
        pacs.stop()
        pacs.commits = False
        pacs.start()
    sender_to(outbox, pacs).run_once()
    assert (outbox.row().state, outbox.row().proof) == ("committed", "find")
    assert (len(pacs.received), outbox.row().n_attempts) == (1, 1)


def test_without_commitment_and_shown_nowhere_the_reasons_are_said(
    outbox: Outbox, pacs: Pacs
) -> None:
    outbox.put("pacs")
    pacs.action_status, pacs.shown = 0x0110, False
    sender_to(outbox, pacs).run_once()
    assert outbox.row().state == "sent"
    assert "refused with status 0x0110" in outbox.row().last_error
    assert "does not show" in outbox.row().last_error


def test_a_pacs_that_aborts_after_storing_is_asked_again(outbox: Outbox, pacs: Pacs) -> None:
    uids = [outbox.put("pacs") for _ in range(2)]
    clock = Clock()
    # What was aborted is never answered: all else is by then, and nothing is waited for.
    sender = sender_to(outbox, pacs, clock, commit_hold_seconds=0)
    pacs.answers, pacs.reports_first, pacs.aborts_action = all_kept, True, 1
    sender.run_once()
    unsure, proved = outbox.rows()
    assert (unsure.state, unsure.leased_until, proved.state) == ("sent", None, "committed")
    clock.advance(301)
    sender.run_once()
    assert [row.proof for row in outbox.rows()] == ["find", "commit"]
    assert pacs.received == uids


@pytest.mark.peer
def test_orthanc_answers_on_an_association_of_its_own(
    outbox: Outbox, acceptor: Any, tmp_path: Path
) -> None:
    outbox.put("pacs")
    modality = ["PREREAD", "127.0.0.1", acceptor.server_address[1]]
    orthanc = start_orthanc(tmp_path / "orthanc", DicomModalities={"preread": modality})
    try:
        settings = settings_for(
            orthanc.dicom_port, ae_title="ORTHANC", proof="commit", commit_hold_seconds=0
        )
        Destination(outbox.engine, outbox.files, settings, "PREREAD", Clock()).run_once()
        assert acceptor.came.wait(120)
    finally:
        orthanc.process.terminate()
        orthanc.process.wait(60)
    assert (outbox.row().state, outbox.row().proof) == ("committed", "commit")
