"""Routine analyses pause between steps while STAT is under way: real threads, short times."""

from __future__ import annotations

import threading
import time
from functools import partial
from itertools import pairwise

import pytest
from waiting import wait_for

from inference.decode_share import Job, JobState, Stream, next_job
from inference.scheduling import DeviceQueue, Turn, giving_way, yield_to_stat
from inference.scheduling.choice import STAT_PER_ROUTINE

wait_until = partial(wait_for, every=0.001)


class Steps(threading.Thread):
    """An analysis that takes steps of some milliseconds until it is told to end."""

    def __init__(self, queue: DeviceQueue, seconds: float = 0.004, is_stat: bool = False) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.waited = 0.0
        # When each step began and ended.
        self.steps: list[tuple[float, float]] = []
        self._queue, self._seconds, self._is_stat = queue, seconds, is_stat
        self.start()

    def run(self) -> None:
        with self._queue.turn(self.name, self._is_stat, self._told):
            while not self.over.is_set():
                yield_to_stat()
                began = time.monotonic()
                time.sleep(self._seconds)
                self.steps.append((began, time.monotonic()))

    @property
    def taken(self) -> int:
        return len(self.steps)

    def _told(self, seconds: float) -> None:
        self.waited += seconds

    def end(self) -> None:
        self.over.set()
        self.join(60)
        assert not self.is_alive()


@pytest.fixture
def queue() -> DeviceQueue:
    return DeviceQueue()


def test_nobody_waits_without_stat(queue: DeviceQueue) -> None:
    yield_to_stat()
    routine = Steps(queue)
    wait_until(lambda: routine.taken > 20)
    routine.end()
    assert routine.waited == 0.0


def test_routine_waits_while_stat_has_the_process_to_itself(
    queue: DeviceQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "_ALONE_SECONDS", 600.0)
    monkeypatch.setattr(giving_way, "_TOLD_SECONDS", 0.05)
    routine = [Steps(queue) for _ in range(3)]
    wait_until(lambda: all(one.taken for one in routine))
    with queue.turn("urgent", is_stat=True):
        wait_until(lambda: len(queue._way._waiting) == len(routine))  # each has ended its step
        before = [one.taken for one in routine]
        stat = Steps(queue, is_stat=True)
        wait_until(lambda: stat.taken > 20)
        stat.end()
        assert stat.waited == 0.0
        time.sleep(0.2)
        assert [one.taken for one in routine] == before
        # Also while it waits: who looks for one that is stuck must not take it for that.
        wait_until(lambda: all(one.waited > 0.1 for one in routine))
        assert [one.taken for one in routine] == before
    wait_until(lambda: all(one.taken > was for one, was in zip(routine, before, strict=True)))
    for one in routine:
        one.end()


def test_routine_analyses_have_a_ninth_together(
    queue: DeviceQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "_ALONE_SECONDS", 0.01)
    routine = [Steps(queue) for _ in range(3)]
    wait_until(lambda: all(one.taken for one in routine))
    with queue.turn("urgent", is_stat=True):
        before = [one.taken for one in routine]
        wait_until(
            lambda: all(o.taken >= b + 5 for o, b in zip(routine, before, strict=True)), seconds=240
        )
        # The first of each may have begun before.
        taken = sorted(
            step for o, b in zip(routine, before, strict=True) for step in o.steps[b + 2 : b + 5]
        )
    for one in routine:
        one.end()
    # However long a step took, on a machine that does a lot else: one at a time, then a pause.
    for (began, ended), (following, _) in pairwise(taken):
        assert following - ended >= STAT_PER_ROUTINE * (ended - began)


def test_a_process_that_ends_holds_nobody(
    queue: DeviceQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "_ALONE_SECONDS", 600.0)
    with queue.turn("urgent", is_stat=True):
        routine = Steps(queue)
        time.sleep(0.05)
        assert not routine.taken
        queue.hold_nobody()
        wait_until(lambda: routine.taken > 3)
        routine.end()


def test_an_analysis_that_ends_in_its_step_lets_the_next_one_go(
    queue: DeviceQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "_ALONE_SECONDS", 0.0)
    with queue.turn("urgent", is_stat=True):
        first = Steps(queue, seconds=0.05)
        wait_until(lambda: first.waited or first.taken)
        second = Steps(queue)
        first.end()
        wait_until(lambda: second.taken > 1)
        second.end()


def test_whoever_comes_may_begin_where_it_would_not_pause() -> None:
    now = 0.0
    queue = DeviceQueue(clock=lambda: now)
    begun, go_on = threading.Event(), threading.Event()

    def step() -> None:
        with queue.turn("routine"):
            yield_to_stat()
            begun.set()
            assert go_on.wait(60)

    assert queue.may_begin
    routine = Steps(queue)
    wait_until(lambda: routine.taken)
    assert queue.may_begin
    routine.end()
    with queue.turn("urgent", is_stat=True):
        assert not queue.may_begin, "STAT has the first second to itself"
        # No longer than that: routine work has its share also where all workers read STAT.
        now += 1.0
        assert queue.may_begin
        held = threading.Thread(target=step)
        held.start()
        assert begun.wait(60)
        assert not queue.may_begin, "one step at a time"
        now += 2.0
        go_on.set()
        held.join(60)
        assert not queue.may_begin, "after a step there is a pause"
        now += 2.0 * STAT_PER_ROUTINE
        assert queue.may_begin
    with queue.turn("urgent", is_stat=True):
        assert not queue.may_begin
        queue.hold_nobody()
        assert queue.may_begin


def stream(*sizes: int, is_stat: bool = False, gives_way: bool = False) -> Stream:
    turn = Turn("one", is_stat, 0.0, gives_way=lambda: gives_way)
    made = Stream(turn=turn)
    made.jobs.extend(Job(None, size) for size in sizes)  # type: ignore[arg-type]
    return made


def test_images_of_stat_are_decoded_first_and_others_after_eight_of_them() -> None:
    routine, urgent = stream(1, 1), stream(1, 1, is_stat=True)
    routine.served, urgent.served = 1, 9
    urgent.jobs[0].state = JobState.RUNNING
    found = next_job([routine, urgent], 100, STAT_PER_ROUTINE - 1)
    assert found == (urgent, urgent.jobs[1])
    assert next_job([routine, urgent], 100, STAT_PER_ROUTINE) == (routine, routine.jobs[0])


def test_nothing_is_decoded_ahead_for_who_gives_way() -> None:
    routine = stream(1, 1, gives_way=True)
    assert next_job([routine], 100) is None
    routine.awaited = routine.jobs[0]
    assert next_job([routine], 100) == (routine, routine.jobs[0])
    routine.jobs[0].state = JobState.DONE
    assert next_job([routine], 100) is None
