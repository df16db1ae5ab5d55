"""Senders that die or fall silent at any point: nothing half received stays, nothing leaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from encoded import image
from kept import files_of
from proxy import DeadLineProxy
from raw_pdus import (
    COMMAND,
    CT_IMAGE,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LAST,
    P_DATA,
    VERIFICATION,
    associate_request,
    echo_command,
    pdu,
    pdv,
    pdvs,
    store_command,
)
from raw_scu import Aborted, Gone, RawAssociation
from running import Node, wait_for
from senders import store_one
from vitals import N_WARM_UP, assert_back_to, warmed_up

CONTEXT = (CT_IMAGE, EXPLICIT_LITTLE)
CONTEXTS = (CONTEXT, (VERIFICATION, IMPLICIT_LITTLE))
SHORT_TIMES = "acse_timeout = 1\ndimse_timeout = 2\nnetwork_timeout = 2\n"
# So long that the node takes none for silent that has yet to die.
_TIME_TO_DIE = "acse_timeout = 10\ndimse_timeout = 10\nnetwork_timeout = 10\n"
# By default the node waits so long at least: acse_timeout.
_USUALLY_SECONDS = 30
_REQUEST = associate_request([(CT_IMAGE, [EXPLICIT_LITTLE])])
_VICTIM = image("victim", n_bytes=60_000)
_COMMAND = b"".join(pdu(P_DATA, part) for part in pdvs(1, COMMAND, store_command(_VICTIM), 16_000))
_DATA = [pdu(P_DATA, part) for part in pdvs(1, 0, _VICTIM.data, 16_000)]

BEFORE_THE_ASSOCIATION = {
    "inside the header of A-ASSOCIATE-RQ": _REQUEST[:4],
    "inside A-ASSOCIATE-RQ": _REQUEST[:100],
}
IN_THE_ASSOCIATION = {
    "after A-ASSOCIATE-AC": b"",
    "inside a PDU header": _COMMAND[:3],
    "inside a PDV header": _COMMAND[:9],
    "inside the command set": _COMMAND[:50],
    "between command set and data set": _COMMAND,
    "inside the first PDU header of the data set": _COMMAND + _DATA[0][:5],
    "inside the first PDV of the data set": _COMMAND + _DATA[0][:5_000],
    "between PDUs of the data set": _COMMAND + _DATA[0] + _DATA[1],
    "before the last PDV": _COMMAND + b"".join(_DATA[:-1]),
    "one byte before the end": (_COMMAND + b"".join(_DATA))[:-1],
}
ENDS: dict[str, Callable[[RawAssociation], None]] = {
    "reset": RawAssociation.reset,
    "close": RawAssociation.close,
    "vanish": RawAssociation.vanish,
}


def assert_nothing_left(node: Node) -> None:
    # An association takes its half image away after it has said how it ended.
    wait_for(lambda: not list((node.data / "incoming").iterdir()), 60, "the end of half an image")
    assert not any(_VICTIM.sop_instance_uid in path for path in files_of(node))
    assert node.query("SELECT COUNT(*) FROM instance") == [(N_WARM_UP,)]


def ends(node: Node) -> list[str]:
    rows = node.query("SELECT ended_by FROM association WHERE calling_ae = 'VICTIM'")
    return [str(ended_by) for (ended_by,) in rows]


def open_victims(node: Node) -> list[RawAssociation]:
    """Bring one sender to each of the points."""
    victims = []
    for start in BEFORE_THE_ASSOCIATION.values():
        victims.append(RawAssociation(node.port, ()))
        victims[-1].send(start)
    for content in IN_THE_ASSOCIATION.values():
        victims.append(RawAssociation(node.port, [CONTEXT], calling="VICTIM"))
        victims[-1].send(content)
    time.sleep(0.3)  # let the node come to the same point
    return victims


@pytest.mark.parametrize("end", ENDS)
def test_a_sender_dies(start_receiver: Any, end: str) -> None:
    node = start_receiver(_TIME_TO_DIE)
    before = warmed_up(node)
    for victim in open_victims(node):
        try:
            ENDS[end](victim)
        except PermissionError:
            pytest.skip("vanishing without a word needs CAP_NET_ADMIN")

    wait_for(lambda: len(ends(node)) == len(IN_THE_ASSOCIATION) and "None" not in ends(node), 60)
    assert set(ends(node)) == {"lost"}
    assert_nothing_left(node)
    assert_back_to(node, before)
    store_one(node, "after")


def test_a_sender_falls_silent(start_receiver: Any) -> None:
    node = start_receiver(SHORT_TIMES)
    before = warmed_up(node)
    started = time.monotonic()
    victims = open_victims(node)

    for victim in victims:  # the node ends each of them by itself
        victim.socket.settimeout(60)
        with pytest.raises((Gone, Aborted)):
            victim.read()
        victim.close()
    assert time.monotonic() - started < _USUALLY_SECONDS
    wait_for(lambda: len(ends(node)) == len(IN_THE_ASSOCIATION) and "None" not in ends(node), 60)
    assert set(ends(node)) <= {"lost", "aborted"}
    assert_nothing_left(node)
    assert_back_to(node, before)
    store_one(node, "after")


def test_a_sender_dies_before_the_response(start_receiver: Any) -> None:
    """Whether the image is kept is free; that it is whole and can be sent again is not."""
    node = start_receiver(SHORT_TIMES)
    instances = [image("unanswered", number, n_bytes=50_000) for number in range(8)]
    for number, one in enumerate(instances):
        victim = RawAssociation(node.port, [CONTEXT], calling="VICTIM")
        victim.request(one)
        (victim.reset if number % 2 else victim.close)()

    wait_for(lambda: len(ends(node)) == len(instances) and "None" not in ends(node), 60)
    with RawAssociation(node.port, [CONTEXT]) as opened:
        assert [opened.store(one) for one in instances] == [0] * len(instances)
    assert node.query("SELECT COUNT(*), COUNT(DISTINCT sop_instance_uid) FROM instance") == [
        (len(instances), len(instances))
    ]
    assert len(files_of(node)) == len(instances)


def test_lines_that_go_dead_end_in_time(start_receiver: Any) -> None:
    """Half-open: the sender is there, its line is not; neither FIN nor RST comes through."""
    node = start_receiver(SHORT_TIMES)
    before = warmed_up(node)
    proxy = DeadLineProxy(node.port)
    idle = [RawAssociation(proxy.port, [CONTEXT], calling="VICTIM") for _ in range(10)]
    busy = [RawAssociation(proxy.port, [CONTEXT], calling="VICTIM") for _ in range(10)]
    for one in busy:
        one.send(_COMMAND + _DATA[0])
    time.sleep(0.3)
    proxy.cut()
    cut = time.monotonic()

    wait_for(lambda: len(ends(node)) == 20 and "None" not in ends(node), 60)
    seconds = time.monotonic() - cut
    print(f"20 dead lines ended after {seconds:.1f} s at a network_timeout of 2 s")
    assert seconds < _USUALLY_SECONDS
    assert_back_to(node, before)
    assert_nothing_left(node)
    for one in idle + busy:
        one.close()
    proxy.close()
    store_one(node, "after")


# pynetdicom's reactor reads on while its answers are stuck, and only then works through them.
@pytest.mark.parametrize("transport", ["streaming"], indirect=True)
def test_a_sender_that_reads_no_answers_is_let_go(start_receiver: Any) -> None:
    """The node's send buffer fills up: it must not hold a thread for ever."""
    node = start_receiver(SHORT_TIMES)
    before = warmed_up(node)
    deaf = RawAssociation(node.port, CONTEXTS, calling="VICTIM")
    deaf.socket.settimeout(1)
    context_id = deaf.accepted[VERIFICATION, IMPLICIT_LITTLE]
    echo = pdu(P_DATA, pdv(context_id, COMMAND | LAST, echo_command())) * 500
    with pytest.raises((Gone, TimeoutError)):
        for _ in range(2_000):
            deaf.send(echo)
    store_one(node, "meanwhile")

    wait_for(lambda: ends(node) not in ([], ["None"]), 60, "the end of the deaf sender")
    deaf.close()
    assert_back_to(node, before)
    store_one(node, "after")
