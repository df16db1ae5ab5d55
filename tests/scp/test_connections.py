"""Connections that are no association: they take no places, and hold nothing up."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from raw_scu import RawAssociation, rejection
from waiting import wait_for

from scp.server import StorageServer


def associate(node: Any) -> Association:
    client = AE(ae_title="SENDER")
    client.add_requested_context("1.2.840.10008.1.1")
    return client.associate("127.0.0.1", node.server.port)


def connect(node: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.server.port))


def test_bare_connections_and_garbage_leave_nothing(start_node: Any) -> None:
    node = start_node(acse_timeout=0.5)
    for payload in (b"", b"GET / HTTP/1.0\r\n\r\n", b"\1\0\0\0\0\x10short"):
        with socket.create_connection(("127.0.0.1", node.server.port)) as connection:
            connection.sendall(payload)
    wait_for(lambda: node.server.n_open == 0)

    def established() -> Association | None:
        opened = associate(node)  # a slow machine does not always ask in half a second
        return opened if opened.is_established else None

    wait_for(established).release()


def test_a_peer_that_stops_inside_a_pdu_is_let_go(start_node: Any) -> None:
    node = start_node(network_timeout=0.5, acse_timeout=0.5)

    def is_let_go() -> bool:
        with connect(node) as connection:
            connection.settimeout(25)  # the settings themselves would keep it for longer
            try:
                connection.sendall(b"\1\0\0\0\x10\0only the beginning")
                return connection.recv(1) == b""
            except ConnectionError:  # it was let go for its silence: this machine is slow
                return False

    wait_for(is_let_go)
    assert node.server.n_open == 0


def test_bare_connections_use_up_no_association(start_node: Any) -> None:
    node = start_node(max_associations=2, acse_timeout=600)
    with ExitStack() as silent:
        for number in range(300):
            connection = connect(node)
            if number % 5:
                connection.close()
            else:
                silent.enter_context(connection)
        started = time.monotonic()
        first, second = associate(node), associate(node)
        assert first.send_c_echo().Status == second.send_c_echo().Status == 0
        assert time.monotonic() - started < 60
        assert node.server.n_open == 2
        assert rejection(node.server.port) == (2, 3, 2)
        first.release()
        third = associate(node)
        assert third.is_established
        third.release()
        second.release()


def test_silent_connections_are_dropped_in_time(start_node: Any) -> None:
    node = start_node(acse_timeout=0.5)
    started = time.monotonic()
    with connect(node) as connection:
        connection.settimeout(25)  # it would be 30 s without the setting
        assert connection.recv(1) == b""
        assert time.monotonic() - started > 0.4


def test_the_oldest_silent_connections_make_room(
    start_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scp.listen._MAX_SILENT", 3)
    node = start_node()
    with ExitStack() as silent:
        connections = [silent.enter_context(connect(node)) for _ in range(5)]
        for connection in connections[:2]:
            connection.settimeout(25)
            assert connection.recv(1) == b""
        for connection in connections[2:]:
            connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        opened = associate(node)
        assert opened.is_established
        opened.release()


def test_simultaneous_requests_get_exactly_the_places_there_are(start_node: Any) -> None:
    node = start_node(max_associations=5)
    with ThreadPoolExecutor(12) as pool:
        asked = list(pool.map(lambda _: associate(node), range(12)))
    assert sum(one.is_established for one in asked) == 5
    # Not `is_rejected`: pynetdicom takes a fast rejection for a failure to connect.
    assert sum(one.is_aborted or one.is_rejected for one in asked) == 7
    for one in asked:
        if one.is_established:
            one.release()


def test_a_place_is_free_when_the_release_is_answered(
    start_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the node still does with what has ended: its sender may open the next one."""
    let_end, ended = threading.Event(), StorageServer._end

    def end_late(self: StorageServer, *how: Any) -> None:
        assert let_end.wait(60)
        ended(self, *how)

    monkeypatch.setattr(StorageServer, "_end", end_late)
    node = start_node(max_associations=1)
    first = RawAssociation(node.server.port)
    first.release()
    try:
        second = RawAssociation(node.server.port)
        assert second.echo() == 0
    finally:
        let_end.set()
    second.release()
    first.close()
    second.close()


@pytest.mark.parametrize(
    "payload", [b"", b"\1\0\0\0\x10\0only the beginning", b"GET / HTTP/1.0\r\n"]
)
def test_stop_does_not_wait_for_those_who_have_requested_nothing(
    start_node: Any, payload: bytes
) -> None:
    node = start_node(shutdown_seconds=250)
    with ExitStack() as idle:
        for _ in range(20):
            idle.enter_context(connect(node)).sendall(payload)
        with RawAssociation(node.server.port) as opened:
            assert opened.echo() == 0  # those who came before it have been accepted
        started = time.monotonic()
        node.server.stop()
        assert time.monotonic() - started < 100
