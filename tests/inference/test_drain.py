"""A worker that ends: it waits for what runs, says that it lives, and heeds who wants it gone."""

from __future__ import annotations

import threading
import time

from waiting import wait_for

from inference.drain import drain
from inference.watchdog import Watchdog


def test_who_ends_by_itself_gives_all_the_time_and_looks_after_itself_meanwhile() -> None:
    asked, looked = [], []

    def stop_runner(seconds: int) -> None:
        asked.append(seconds)
        wait_for(lambda: len(looked) >= 2)

    drain(
        stop_runner,
        threading.Event(),
        grace_seconds=1,
        patient_seconds=60,
        look_after=lambda: looked.append(1),
    )
    assert asked == [60]


def test_who_is_told_to_stop_waits_for_the_grace_alone() -> None:
    stop, asked = threading.Event(), []
    stop.set()
    drain(asked.append, stop, grace_seconds=3, patient_seconds=60, look_after=lambda: None)
    assert asked == [3]


def test_who_is_told_to_stop_meanwhile_does_not_wait_for_ever() -> None:
    stop = threading.Event()
    go_on, ended = threading.Event(), []
    threading.Timer(0.2, stop.set).start()

    def stop_runner(_seconds: int) -> None:
        ended.append(go_on.wait(120))

    drain(
        stop_runner,
        stop,
        grace_seconds=0,
        patient_seconds=30,
        look_after=lambda: None,
    )
    assert ended == []
    go_on.set()


def test_the_watchdog_bites_the_one_that_runs_longest_from_its_own_thread() -> None:
    ended: list[int] = []
    watchdog = Watchdog(lambda: ended.append(1))
    bitten: list[str] = []
    there = threading.Event()

    def bite(name: str) -> None:
        bitten.append(name)
        there.set()

    with watchdog.watching("first"):
        assert watchdog.current == "first"
        watchdog.start(0.4, bite)
        time.sleep(0.15)
        with watchdog.watching("second"):
            assert watchdog.current == "second"
            assert set(watchdog.running) == {"first", "second"}
            assert there.wait(60)  # this thread is the stuck one: it does not look itself
    assert bitten == ["first"]
    assert len(ended) == 2


def test_of_which_analysis_an_engine_speaks() -> None:
    watchdog = Watchdog()
    told: list[str | None] = []

    def ask() -> None:
        told.append(watchdog.current)

    def elsewhere() -> None:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    elsewhere()
    with watchdog.watching("one"):
        elsewhere()  # the only one that runs
        other = threading.Event()
        begun = threading.Event()

        def run() -> None:
            with watchdog.watching("two"):
                ask()
                begun.set()
                other.wait(60)

        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(60)
        elsewhere()  # one of two
        other.set()
        thread.join()
    assert told == [None, "one", "two", None]
