"""The reports that wait in an association, and the waiting for bytes meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from scp.transport.command import Notice
from scp.transport.reports import EventReport, Reports, Waited


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def report(heard: list[int | None]) -> EventReport:
    return EventReport(1, "1.2", "1.2.1", 1, b"", heard.append)


def response(message_id: int, status: int = 0) -> Notice:
    return Notice(0x8100, -1, "", "", False, responds_to=message_id, status=status)


Pair = tuple[socket.socket, socket.socket]


def test_one_is_sent_at_a_time_and_only_when_the_peer_is_silent(pair: Pair) -> None:
    ours, theirs = pair
    heard: list[int | None] = []
    reports, first, second = Reports(), report(heard), report(heard)
    assert reports.put(first)
    assert reports.put(second)
    theirs.send(b"x")
    assert reports.wait(ours, 10) is Waited.READABLE
    ours.recv(1)
    assert reports.wait(ours, 10) is Waited.DUE
    assert reports.next() == (1, first)
    assert reports.next() is None
    assert reports.wait(ours, 0.4) is Waited.SILENT
    reports.answered(response(7))  # it answers nothing
    assert not heard
    reports.answered(response(1, 0x0110))
    assert heard == [0x0110]
    assert reports.wait(ours, 10) is Waited.DUE
    assert reports.next() == (2, second)
    reports.close()


def test_while_an_image_was_stored_nobody_listened(pair: Pair) -> None:
    """It took longer than a peer is silent for; the peer has its answer, and sends the next."""
    ours, theirs = pair
    reports = Reports()
    theirs.send(b"x")
    assert reports.wait(ours, 10) is Waited.READABLE
    ours.recv(1)
    assert reports.put(report([]))
    time.sleep(0.3)
    theirs.send(b"x")
    assert reports.wait(ours, 10) is Waited.READABLE
    ours.recv(1)
    time.sleep(0.3)
    answered = time.monotonic()
    assert reports.wait(ours, 10) is Waited.DUE
    assert time.monotonic() - answered >= 0.25
    reports.close()


def test_a_report_wakes_who_waits(pair: Pair) -> None:
    reports = Reports()
    timer = threading.Timer(0.5, reports.put, [report([])])
    timer.start()
    assert reports.wait(pair[0], None) is Waited.DUE
    timer.join()
    reports.close()


def test_what_is_not_sent_yet_can_be_taken_back() -> None:
    heard: list[int | None] = []
    reports, first, second = Reports(), report(heard), report(heard)
    reports.put(first)
    reports.put(second)
    assert reports.next() == (1, first)
    assert not reports.withdraw(first)
    assert reports.withdraw(second)
    assert not reports.withdraw(second)
    reports.close()
    assert heard == [None]


def test_at_the_end_nobody_waits_for_an_answer() -> None:
    heard: list[int | None] = []
    reports = Reports()
    reports.put(report(heard))
    reports.put(report(heard))
    reports.next()
    reports.close()
    assert heard == [None, None]
    assert reports.is_over
    assert not reports.put(report(heard))


def test_a_peer_that_has_gone_is_noticed(pair: Pair) -> None:
    reports = Reports()
    pair[1].close()
    assert reports.wait(pair[0], None) is Waited.READABLE
    reports.close()
