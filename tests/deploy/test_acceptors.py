"""Several acceptors: how many there are, and a port that no second node joins."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from held_port import held_port

from deploy.acceptors import acceptor_id, reserved_port
from deploy.errors import NodeError, SettingsError
from deploy.node import acceptor_parts
from deploy.settings import Settings, load

POSTGRESQL = {"url": "postgresql+psycopg://preread@nowhere/preread"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREREAD_SHARED_DATA", raising=False)


def settings(**scp: Any) -> Settings:
    db = scp.pop("db", {})
    return load(flags={"scp": scp, "db": db})


# How many ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_cores", "expected"), [(1, 1), (4, 4), (64, 8)])
def test_postgresql_takes_as_many_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, n_cores: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(n_cores)))
    assert settings(db=POSTGRESQL).n_acceptors == expected
    assert settings().n_acceptors == 1
    assert settings(db=POSTGRESQL, port=0).n_acceptors == 1


def test_a_number_is_taken_as_it_is() -> None:
    assert settings(acceptors=2).n_acceptors == 2
    assert settings(acceptors=12, db=POSTGRESQL).n_acceptors == 12


@pytest.mark.parametrize(
    ("scp", "named"),
    [
        ({"acceptors": 3}, "scp.acceptors: 3 is too many for SQLite"),
        ({"acceptors": 2, "port": 0}, "scp.port: 0 gives each"),
        ({"acceptors": 65, "db": POSTGRESQL}, "scp.acceptors"),
    ],
)
def test_numbers_that_cannot_work_are_named(scp: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        settings(**scp)


def test_each_acceptor_has_a_name_of_its_own() -> None:
    parts = acceptor_parts(settings(acceptors=2))
    assert [part.name for part in parts] == ["scp", "scp-1"]
    assert [list(part.command[-2:]) for part in parts] == [["--acceptor", "0"], ["--acceptor", "1"]]
    names = [acceptor_id(settings(port=104), number) for number in range(2)]
    assert names == [f"{socket.gethostname()}:104", f"{socket.gethostname()}:104#1"]


# The port ----------------------------------------------------------------------------------------


def listening(port: int, *, shared: bool) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


@pytest.fixture
def port() -> Iterator[int]:
    with held_port() as holder:
        yield int(holder.getsockname()[1])


def refused(port: int) -> None:
    with (
        pytest.raises(NodeError, match=rf"port {port} on 127.0.0.1 is in use.*scp\.port"),
        reserved_port("127.0.0.1", port),
    ):
        pass


def test_acceptors_share_a_reserved_port_and_come_back(port: int) -> None:
    with reserved_port("127.0.0.1", port), ExitStack() as stack:
        first = stack.enter_context(listening(port, shared=True))
        stack.enter_context(listening(port, shared=True))
        first.close()
        stack.enter_context(listening(port, shared=True))
    with reserved_port("127.0.0.1", port):
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_somebody_listens_on_is_refused(port: int, shared: bool) -> None:
    with listening(port, shared=shared):
        refused(port)


def test_a_second_node_is_refused_before_the_first_listens(port: int) -> None:
    with reserved_port("127.0.0.1", port):
        refused(port)


def test_connections_that_wind_down_do_not_count(port: int) -> None:
    with listening(port, shared=True) as listener:
        client = socket.create_connection(("127.0.0.1", port))
        listener.accept()[0].close()  # closed here first: it stays in TIME_WAIT here
        client.close()
    with reserved_port("127.0.0.1", port):
        pass


def test_what_else_is_wrong_is_left_to_the_acceptors(port: int) -> None:
    with reserved_port("no such host.invalid", port):
        pass
