"""Which batch is next, by what waits: no threads, no clock."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference.engines.bisection import Answered
from inference.engines.engine import EngineIdentity, RawOutputs, Rows
from inference.scheduling.choice import STAT_PER_ROUTINE, Choice, Course, choose
from inference.scheduling.lane import Lane
from inference.scheduling.requests import Batch, Request, kind_of
from inference.scheduling.turn import Turn


class Named:
    """Something with an identity; it computes nothing."""

    def __init__(self, best_batch: int, device: str) -> None:
        self.identity = EngineIdentity("none", "0", device, "float32", best_batch)

    def answer(self, rows: Rows) -> Answered:
        raise AssertionError

    def run(self, rows: Rows) -> RawOutputs:
        raise AssertionError

    def release(self) -> None:
        raise AssertionError


def lane(model: str = "ct", best_batch: int = 4, device: str = "cpu") -> Lane:
    return Lane(model, Named(best_batch, device))


def turn(name: str, began: float = 0.0, stat: bool = False) -> Turn:
    return Turn(name, stat, began)


def ask(at: Lane, who: Turn, rows: int, arrived: float = 0.0, size: int = 2) -> Request:
    values = np.zeros((rows, 1, size, size), dtype=np.float32)
    request = Request(who, values, arrived, kind_of(values, who))
    at.join(request)
    return request


def chosen(*lanes: Lane, course: Course | None = None, **told: object) -> Choice:
    known: dict[str, object] = {"stat_under_way": False, "wait_seconds": 0.0, "now": 0.0} | told
    return choose(lanes, course or Course(), **known)  # type: ignore[arg-type]


def shares(batch: Batch | None) -> dict[str, int]:
    assert batch is not None
    return {who.analysis_id: rows for who, rows in batch.turns.items()}


def taken(*lanes: Lane, **told: object) -> dict[str, int]:
    choice = chosen(*lanes, **told)
    assert choice.batch is not None
    assert choice.lane is not None
    choice.lane.take(choice.batch)
    return shares(choice.batch)


def test_a_film_of_one_row_is_not_behind_a_series_of_300() -> None:
    model = lane()
    ask(model, turn("series", 0), 300)
    assert taken(model) == {"series": 4}
    ask(model, turn("film", 1), 1)
    # It counts as served as the series is, which began first; then it is the least served.
    assert [taken(model), taken(model)] == [{"series": 4}, {"film": 1, "series": 3}]


def test_an_analysis_that_is_to_run_alone_shares_no_batch() -> None:
    model = lane()
    suspect = Turn("suspect", False, 0.0, is_alone=True)
    ask(model, suspect, 2)
    ask(model, turn("other", 1), 2)
    ask(model, suspect, 1)
    assert [taken(model), taken(model)] == [{"suspect": 3}, {"other": 2}]


def test_two_series_take_turns_whatever_they_bring_at_once() -> None:
    model = lane()
    ask(model, turn("one", 0), 40)
    ask(model, turn("two", 1), 40)
    given = [taken(model) for _ in range(20)]
    assert given == [{"one": 4}, {"two": 4}] * 10


def test_one_that_comes_late_has_no_claim_for_the_time_before() -> None:
    model = lane()
    ask(model, turn("long", 0), 400)
    for _ in range(50):
        taken(model)
    ask(model, turn("late", 1), 400)
    assert [next(iter(taken(model))) for _ in range(6)] == ["long", "late"] * 3


def test_between_models_it_is_the_devices_time_that_counts() -> None:
    slow, fast = lane("slow"), lane("fast")
    ask(slow, turn("a", 0), 100)
    ask(fast, turn("b", 1), 100)
    given = []
    for _ in range(9):
        choice = chosen(slow, fast)
        assert choice.batch is not None
        assert choice.lane is not None
        choice.lane.take(choice.batch)
        choice.lane.served += 3.0 if choice.lane is slow else 1.0
        given.append(choice.batch.model)
    # Three of the fast one for each of the slow one.
    assert given.count("fast") in (6, 7)


def test_rows_of_another_shape_wait_for_a_batch_of_their_own() -> None:
    model = lane()
    ask(model, turn("small", 0), 1, size=2)
    ask(model, turn("large", 1), 1, size=3)
    ask(model, turn("small too", 2), 1, size=2)
    assert [taken(model), taken(model)] == [{"small": 1, "small too": 1}, {"large": 1}]


def test_stat_goes_first_and_routine_has_a_ninth() -> None:
    routine, stat = lane("ct"), lane("chest")
    ask(routine, turn("ct", 0), 400)
    ask(stat, turn("urgent", 1, stat=True), 400)
    course, given = Course(), []
    for number in range(2 * (STAT_PER_ROUTINE + 1)):
        choice = chosen(routine, stat, course=course, stat_under_way=True)
        assert choice.batch is not None
        assert choice.lane is not None
        choice.lane.take(choice.batch)
        choice.lane.served += 1.0
        course.note(choice.batch, 1.0, float(number), routine_waits=True)
        given.append(choice.batch.model)
    assert given == (["chest"] * STAT_PER_ROUTINE + ["ct"]) * 2


def test_stat_batches_for_which_nobody_waited_do_not_count() -> None:
    stat = lane("chest")
    course = Course()
    ask(stat, turn("urgent", 0, stat=True), 400)
    for _ in range(50):
        choice = chosen(stat, course=course, stat_under_way=True)
        assert choice.batch is not None
        stat.take(choice.batch)
        course.note(choice.batch, 1.0, 0.0, routine_waits=False)
    routine = lane("ct")
    ask(routine, turn("ct", 1), 4)
    assert taken(routine, stat, course=course, stat_under_way=True) == {"urgent": 4}


def test_while_stat_decodes_routine_is_held_for_some_time_not_for_ever() -> None:
    routine = lane()
    ask(routine, turn("ct"), 8)
    course = Course(routine_seconds=0.1, held_since=10.0)
    held = chosen(routine, course=course, stat_under_way=True, now=10.3)
    assert held.batch is None
    assert held.again is not None
    assert abs(held.again - 0.5) < 1e-9
    assert shares(chosen(routine, course=course, stat_under_way=True, now=10.81).batch) == {"ct": 4}
    assert shares(chosen(routine, course=course, now=10.3).batch) == {"ct": 4}


def test_stat_that_asks_now_and_then_does_not_take_routine_works_ninth() -> None:
    """It decodes for a while, asks for one row, decodes: no pause is as long as eight batches."""
    model, routine, stat = lane(), turn("routine"), turn("stat", stat=True)
    ask(model, routine, 100)
    course, now, began, got = Course(routine_seconds=0.1), 0.0, 0.0, []
    while now < 20.0:
        if now - began >= 0.7:
            ask(model, stat, 1)
        choice = chosen(model, course=course, stat_under_way=True, now=now)
        if choice.batch is None:
            assert choice.again is not None
            now += min(0.01, choice.again)
            continue
        assert choice.lane is not None
        choice.lane.take(choice.batch)
        seconds = 0.02 if choice.batch.is_stat else 0.1
        now += seconds
        if choice.batch.is_stat:
            began = now
        else:
            got.append(now)
        course.note(choice.batch, seconds, now, routine_waits=True)
    assert 0.1 * len(got) > 20.0 / 10


def test_routine_rows_fill_a_stat_batch_where_that_costs_no_time() -> None:
    for device, expected in (("cpu", {"urgent": 1}), ("cuda:0", {"urgent": 1, "film": 1})):
        model = lane(device=device)
        ask(model, turn("film", 0), 1)
        ask(model, turn("urgent", 1, stat=True), 1)
        assert taken(model, stat_under_way=True) == expected


def test_a_batch_waits_for_rows_that_may_come_and_for_no_others() -> None:
    model = lane()
    one, two = turn("one", 0), turn("two", 1)
    ask(model, one, 2, arrived=5.0)
    told = {"wait_seconds": 0.25, "now": 5.0}
    # Nobody else is known to use this model.
    assert shares(chosen(model, **told).batch) == {"one": 2}
    model.users.add(two)
    waits = chosen(model, **told)
    assert (waits.batch, waits.again) == (None, 0.25)
    assert shares(chosen(model, **told | {"now": 5.25}).batch) == {"one": 2}
    # All that may bring rows have brought theirs.
    ask(model, two, 1, arrived=5.0)
    assert shares(chosen(model, **told).batch) == {"one": 2, "two": 1}
    ask(model, turn("three", 2), 9, arrived=5.0)
    assert sum(shares(chosen(model, **told).batch).values()) == 4


def test_stat_waits_for_nobody_and_nothing_waits_beside_it() -> None:
    model = lane()
    model.users.add(turn("other"))
    ask(model, turn("urgent", stat=True), 1)
    assert shares(chosen(model, stat_under_way=True, wait_seconds=9.0).batch) == {"urgent": 1}
    ask(model, turn("ct"), 1)
    course = Course(stat_in_row=STAT_PER_ROUTINE)
    let_in = chosen(model, course=course, stat_under_way=True, wait_seconds=9.0)
    assert shares(let_in.batch) == {"ct": 1}


def test_another_model_is_computed_while_a_batch_waits_to_be_filled() -> None:
    waiting, ready = lane("ct"), lane("chest")
    waiting.users.add(turn("other"))
    ask(waiting, turn("ct"), 1)
    ask(ready, turn("film", 1), 1)
    ready.served = 99.0
    assert shares(chosen(waiting, ready, wait_seconds=1.0).batch) == {"film": 1}


@given(
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 6),
)
def test_every_row_is_computed_once_and_no_class_starves(
    calls: list[tuple[int, bool]], best_batch: int
) -> None:
    model = lane(best_batch=best_batch)
    course = Course()
    requests = [
        ask(model, turn(str(number), number, stat), rows)
        for number, (rows, stat) in enumerate(calls)
    ]
    stat_in_row = 0
    seen: dict[Request, list[int]] = {request: [] for request in requests}
    while model.requests:
        routine_waits = model.waits(stat=False)
        choice = chosen(model, course=course, stat_under_way=model.waits(stat=True), now=1e9)
        batch = choice.batch
        assert batch is not None
        assert 1 <= len(batch) <= best_batch
        model.take(batch)
        course.note(batch, 0.0, 0.0, model.waits(stat=False))
        stat_in_row = stat_in_row + 1 if batch.is_stat and routine_waits else 0
        assert stat_in_row <= STAT_PER_ROUTINE
        for piece in batch.pieces:
            seen[piece.request] += range(piece.start, piece.stop)
    assert all(rows == list(range(len(request.rows))) for request, rows in seen.items())
