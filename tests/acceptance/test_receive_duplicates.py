"""One SOP Instance UID many times: equal bytes are one instance, other bytes another one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from encoded import image, sha256
from kept import assert_kept, assert_nothing_besides, files_of
from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE, Instance
from raw_scu import RawAssociation
from running import Node, wait_for

CONTEXT = (CT_IMAGE, EXPLICIT_LITTLE)
PRIVATE_SYNTAX = "1.2.3.4.5.6.7.8"
N_SENDERS = 8


@pytest.fixture(params=["streaming", pytest.param("pynetdicom", marks=pytest.mark.slow)])
def transport(request: pytest.FixtureRequest) -> str:
    """What is tested here lies behind the transport: the other one may wait for the slow suite."""
    return str(request.param)


def rows(node: Node) -> list[tuple[Any, ...]]:
    return node.query("SELECT sha256, transfer_syntax_uid, revision FROM instance ORDER BY id")


def is_flagged(node: Node) -> bool:
    return [bool(flag) for (flag,) in node.query("SELECT has_conflict FROM v_studies")] == [True]


def test_equal_bytes_are_one_instance(start_receiver: Any, database: str | None) -> None:
    node = start_receiver(database_url=database)
    one = image("again")
    for _ in range(3):
        with RawAssociation(node.port, [CONTEXT]) as opened:
            assert [opened.store(one), opened.store(one)] == [0, 0]

    assert len(rows(node)) == len(files_of(node)) == 1
    assert_kept(node, {one.sop_instance_uid: sha256(one)})
    assert not is_flagged(node)
    counts = "SELECT n_received, n_equal, n_refused FROM v_associations WHERE state = 'released'"
    wait_for(lambda: sorted(node.query(counts)) == [(2, 1, 0), (2, 2, 0), (2, 2, 0)], 60)


def test_other_bytes_are_kept_too_and_flag_the_study(
    start_receiver: Any, database: str | None
) -> None:
    node = start_receiver(database_url=database)
    versions = [image("revised", pixels=number) for number in range(3)]
    with RawAssociation(node.port, [CONTEXT]) as opened:
        assert [opened.store(one) for one in versions + versions] == [0] * 6

    expected = [(sha256(one), EXPLICIT_LITTLE, number) for number, one in enumerate(versions)]
    assert rows(node) == expected
    assert sorted(files_of(node).values()) == sorted(sha256(one) for one in versions)
    assert is_flagged(node)


def test_equal_bytes_in_another_transfer_syntax_are_another_instance(
    start_receiver: Any, database: str | None
) -> None:
    """What they mean depends on the syntax: neither may stand for the other."""
    node = start_receiver(database_url=database)
    one = image("syntax")
    other = replace(one, transfer_syntax_uid=PRIVATE_SYNTAX)
    with RawAssociation(node.port, [one.context, other.context]) as opened:
        assert [opened.store(each) for each in (one, other, one, other)] == [0] * 4

    digest = sha256(one)
    assert rows(node) == [(digest, EXPLICIT_LITTLE, 0), (digest, PRIVATE_SYNTAX, 1)]
    assert list(files_of(node).values()) == [digest, digest]
    assert is_flagged(node)


def at_once(node: Node, instances: Sequence[Instance]) -> list[int]:
    """Send each instance on an association of its own, the last bytes at the same moment."""
    together = threading.Barrier(len(instances))
    statuses: list[int] = []

    def send(one: Instance) -> None:
        with RawAssociation(node.port, [CONTEXT]) as opened:
            together.wait(30)
            statuses.append(opened.store(one))

    start = [threading.Thread(target=send, args=(one,)) for one in instances]
    for thread in start:
        thread.start()
    for thread in start:
        thread.join(60)
    return statuses


def rounds(node: Node, versions: Callable[[int], list[Instance]], n_rounds: int = 8) -> int:
    acknowledged: list[int] = []
    for number in range(n_rounds):
        acknowledged += at_once(node, versions(number))
    assert acknowledged == [0] * (N_SENDERS * n_rounds)
    return n_rounds


def test_eight_send_the_same_at_once(start_receiver: Any, database: str | None) -> None:
    node = start_receiver(database_url=database)
    n_rounds = rounds(
        node, lambda number: [image("same", number, n_bytes=4_000 << number % 8)] * N_SENDERS
    )
    assert len(rows(node)) == len(files_of(node)) == n_rounds
    assert {revision for _, _, revision in rows(node)} == {0}
    assert not is_flagged(node)
    assert_nothing_besides(node)


def test_eight_send_different_bytes_under_one_uid_at_once(
    start_receiver: Any, database: str | None
) -> None:
    node = start_receiver(database_url=database)
    n_rounds = rounds(
        node,
        lambda number: [
            image("other", number, n_bytes=4_000 << number % 8, pixels=sender)
            for sender in range(N_SENDERS)
        ],
    )
    found = rows(node)
    assert len(found) == len({digest for digest, _, _ in found}) == n_rounds * N_SENDERS
    assert sorted(files_of(node).values()) == sorted(digest for digest, _, _ in found)
    by_uid = node.query(
        "SELECT COUNT(*), MIN(revision), MAX(revision) FROM instance GROUP BY sop_instance_uid"
    )
    assert by_uid == [(N_SENDERS, 0, N_SENDERS - 1)] * n_rounds
    assert is_flagged(node)
    assert_nothing_besides(node)
