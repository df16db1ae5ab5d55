"""The checkpoint of pynetdicom's reactor: nobody sends while it may still take a response."""

from __future__ import annotations

import threading
import time
from typing import Any

from scp.checkpoint import Checkpoint, checkpoint_of
from scp.requestor import Context, association, exclusive
from scp.structure import IMPLICIT_LITTLE


def test_who_has_passed_is_waited_for() -> None:
    passed, go_on, ending = threading.Event(), threading.Event(), threading.Event()

    def react() -> None:
        while not ending.is_set():
            checkpoint.wait()
            passed.set()
            go_on.wait()

    reactor = threading.Thread(target=react)
    checkpoint = Checkpoint(reactor)
    reactor.start()
    passed.wait()
    sender = threading.Thread(target=checkpoint.clear)
    sender.start()
    while checkpoint.is_set():
        time.sleep(0.001)
    assert sender.is_alive()
    go_on.set()
    sender.join(60)
    assert not sender.is_alive()
    passed.clear()
    ending.set()
    assert not passed.is_set()
    checkpoint.set()
    reactor.join(60)
    assert passed.is_set()
    checkpoint.clear()  # nobody is left to be held


def test_what_the_flag_says_is_not_asked(node: Any) -> None:
    """A thread that serves an N-EVENT-REPORT takes it back while the reactor is held."""
    with association(node.peer, [Context("1.2.840.10008.1.1", IMPLICIT_LITTLE)]) as opened:
        with exclusive(opened):
            assert opened._is_paused
            opened._is_paused = False
        checkpoint_of(opened).clear()
        opened._is_paused = False
        with exclusive(opened):
            pass
