"""A pause ends by a wake, a stop or its time, and no wake is lost on a thread that is at work."""

from __future__ import annotations

import threading
import time

import pytest

from db.wakeable import WakeableEvent, WakeableEvents, make_wakeable


def _made_here() -> tuple[threading.Event, WakeableEvent]:
    event = WakeableEvent()
    return event, event


def _of_somebody_else() -> tuple[threading.Event, WakeableEvent]:
    event = threading.Event()
    return event, make_wakeable(event)


@pytest.fixture(params=[_made_here, _of_somebody_else])
def pair(request: pytest.FixtureRequest) -> tuple[threading.Event, WakeableEvent]:
    """What threads wait for, and what wakes them."""
    made: tuple[threading.Event, WakeableEvent] = request.param()
    return made


def test_a_wake_ends_the_pause_and_a_set_ends_all(
    pair: tuple[threading.Event, WakeableEvent],
) -> None:
    event, wakeable = pair
    said: list[bool] = []
    looked = threading.Semaphore(0)

    def loop() -> None:
        while True:
            said.append(event.wait(300))
            looked.release()
            if said[-1]:
                return

    thread = threading.Thread(target=loop)
    thread.start()
    for _ in range(3):
        wakeable.wake()
        assert looked.acquire(timeout=60)
    event.set()
    thread.join(60)
    assert not thread.is_alive()
    assert said == [False, False, False, True]
    assert event.is_set()
    assert wakeable.is_set()


def test_a_wake_before_the_pause_counts_once(
    pair: tuple[threading.Event, WakeableEvent],
) -> None:
    event, wakeable = pair
    wakeable.wake()
    wakeable.wake()
    began = time.monotonic()
    assert not event.wait(120)
    assert time.monotonic() - began < 60
    began = time.monotonic()
    assert not event.wait(0.05)
    assert time.monotonic() - began >= 0.04


def test_every_thread_hears_of_it(pair: tuple[threading.Event, WakeableEvent]) -> None:
    event, wakeable = pair
    threads = [threading.Thread(target=event.wait, args=(300,)) for _ in range(4)]
    for one in threads:
        one.start()
    wakeable.wake()
    for one in threads:
        one.join(60)
        assert not one.is_alive()


def test_one_that_is_set_already_stays_so() -> None:
    event = threading.Event()
    event.set()
    assert make_wakeable(event).wait(0)
    assert event.wait(0)


def test_a_thread_that_pauses_on_an_appended_event_is_woken_from_its_first_pause_on():
    events = WakeableEvents()
    event = threading.Event()
    events.append(event)
    paused = threading.Thread(target=event.wait, args=(300,), daemon=True)
    paused.start()
    events.wake()
    paused.join(60)
    assert not paused.is_alive()
    assert events == [event] and not event.is_set()


def test_a_pause_lasts_as_many_times_as_long_as_there_is_patience() -> None:
    patience = [4.0]
    event = WakeableEvent(lambda: patience[0])
    began = time.monotonic()
    assert not event.wait(0.05)
    assert time.monotonic() - began >= 0.2
    paused = threading.Thread(target=event.wait, args=(300,), daemon=True)
    paused.start()
    event.set()
    paused.join(60)
    assert not paused.is_alive()
