"""The watchdog: since when each analysis runs, also where one runs twice in a process."""

from __future__ import annotations

import threading
import time

import pytest

from inference.watchdog import Watchdog


def test_the_same_analysis_twice_is_watched_until_both_have_ended() -> None:
    ended: list[int] = []
    watchdog = Watchdog(lambda: ended.append(1))
    entered, leave = threading.Event(), threading.Event()

    def earlier() -> None:
        with watchdog.watching("a"):
            entered.set()
            assert leave.wait(60)

    thread = threading.Thread(target=earlier)
    thread.start()
    assert entered.wait(60)
    with watchdog.watching("a"):
        assert watchdog.running == ("a",)
        assert watchdog.current == "a"
    assert watchdog.running == ("a",)
    time.sleep(0.02)
    assert watchdog.overdue(0.01) == "a"
    leave.set()
    thread.join(60)
    assert (watchdog.running, watchdog.overdue(0), len(ended)) == ((), None, 2)


def test_what_it_waited_for_others_does_not_count_and_an_ended_one_stays_ended() -> None:
    watchdog = Watchdog()
    with watchdog.watching("a"), watchdog.watching("a"), watchdog.watching("b"):
        watchdog.excuse("a", 100)
        time.sleep(0.02)
        assert watchdog.overdue(0.01) == "b"
    watchdog.excuse("a", 100)
    assert watchdog.running == ()


def test_what_fails_in_a_block_is_raised_and_no_longer_watched() -> None:
    watchdog = Watchdog()
    with pytest.raises(ValueError, match="x"), watchdog.watching("a"):
        raise ValueError("x")
    assert watchdog.running == ()
