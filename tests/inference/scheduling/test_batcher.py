"""Several analyses share a device: threads and engines are real, order comes from events."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from waiting import wait_for

from inference.bundle import Bundle, open_bundle
from inference.engines import (
    DeviceLostError,
    EngineIdentity,
    EngineOutOfMemoryError,
    RawOutputs,
    Rows,
)
from inference.engines.bisection import Answered
from inference.engines.choose import EngineSettings, choose_engine
from inference.engines.engine import on_host
from inference.engines.errors import EngineError, EngineRunError, PoisonedRowsError
from inference.engines.ladder import Ladder
from inference.errors import BundleError, InferenceError
from inference.scheduling import Batcher, DeviceQueue, Turn
from inference.scheduling.lane import Lane
from inference.scheduling.requests import Answers, Batch, Request
from inference.settings import shipped_bundles

wait_until = partial(wait_for, every=0.001)


@dataclass
class Doubling:
    """Doubles each row's value; may be stopped before a batch, and fails as it is told."""

    device: str = "cpu"
    best_batch: int = 4
    poison: frozenset[int] = frozenset()
    error: EngineError | None = None
    let_go: threading.Event = field(default_factory=threading.Event)
    batches: list[list[int]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("fake", "1", self.device, "float32", self.best_batch)

    def run(self, rows: Rows) -> RawOutputs:
        numbers = on_host(rows)[:, 0, 0, 0]
        self.batches.append(numbers.astype(int).tolist())
        self.threads.add(threading.current_thread().name)
        assert self.let_go.wait(60)
        if self.error is not None:
            raise self.error
        if self.poison & set(self.batches[-1]):
            raise EngineRunError("a kernel fails")
        told = numbers[:, None] * 2
        return RawOutputs((told,), told[..., None, None], self.identity.made(len(numbers)))

    def release(self) -> None:
        pass


class Counting(DeviceQueue):
    """Counts the calls that wait or waited."""

    joined = 0

    def _join(self, lane: Lane, request: Request) -> None:
        super()._join(lane, request)
        self.joined += 1


@dataclass
class Node:
    """A device and those who use it."""

    queue: Counting
    pool: ThreadPoolExecutor
    heard: list[Batch]

    def ask(
        self, engine: Batcher, name: str, numbers: list[int], *, stat: bool = False
    ) -> Future[list[int]]:
        """Begin an analysis that asks for these rows at once; return its results."""
        before = self.queue.joined
        told = self.pool.submit(self._analyse, engine, name, numbers, stat)
        wait_until(lambda: self.queue.joined > before or told.done())
        return told

    def occupy(self, engine: Batcher, at_work: Doubling) -> Future[list[int]]:
        """Begin an analysis of one row, and return once it is at work."""
        told = self.ask(engine, "first", [1])
        wait_until(lambda: at_work.batches)
        return told

    def _analyse(self, engine: Batcher, name: str, numbers: list[int], stat: bool) -> list[int]:
        with self.queue.turn(name, stat):
            outputs = engine.run(rows_of(numbers))
        assert outputs.class_maps is not None
        assert (outputs.class_maps[:, :, 0, 0] == outputs.tensors[0]).all()
        return [int(one) for one in outputs.tensors[0][:, 0]]


def rows_of(numbers: list[int]) -> NDArray[np.float32]:
    return np.full((len(numbers), 1, 2, 2), 0.0, np.float32) + np.array(
        numbers, np.float32
    ).reshape(-1, 1, 1, 1)


@contextmanager
def device(wait_seconds: float = 0.0) -> Iterator[Node]:
    heard: list[Batch] = []
    queue = Counting(wait_seconds, lambda batch, _seconds: heard.append(batch))
    with ThreadPoolExecutor(32) as pool:
        yield Node(queue, pool, heard)
    queue.close()


def in_order(node: Node) -> list[tuple[str, ...]]:
    return [tuple(turn.analysis_id for turn in batch.turns) for batch in node.heard]


def test_without_a_turn_the_engine_is_called_here_and_now() -> None:
    engine = Doubling()
    engine.let_go.set()
    with device() as node:
        batcher = Batcher("ct", Ladder(engine), node.queue)
        assert len(batcher.run(rows_of([1, 2, 3, 4, 5, 6])).tensors[0]) == 6
    assert engine.batches == [[1, 2, 3, 4, 5, 6]]
    assert engine.threads == {threading.current_thread().name}
    assert node.heard == []


def test_rows_of_several_analyses_become_one_batch_and_each_gets_its_own() -> None:
    engine = Doubling()
    with device() as node:
        batcher = Batcher("ct", Ladder(engine), node.queue)
        first = node.occupy(batcher, engine)
        others = [node.ask(batcher, str(number), [number]) for number in (2, 3, 4, 5, 6)]
        engine.let_go.set()
        assert first.result(60) == [2]
        assert [other.result(60) for other in others] == [[4], [6], [8], [10], [12]]
    assert engine.batches == [[1], [2, 3, 4, 5], [6]]
    assert engine.threads == {"device"}


def test_a_long_call_is_computed_in_parts_and_comes_back_whole() -> None:
    engine = Doubling()
    engine.let_go.set()
    with device() as node:
        batcher = Batcher("ct", Ladder(engine), node.queue)
        assert node.ask(batcher, "series", list(range(10))).result(60) == list(range(0, 20, 2))
    assert [len(batch) for batch in engine.batches] == [4, 4, 2]


def test_stat_comes_after_the_batch_in_flight_and_before_all_that_waits() -> None:
    ct, chest = Doubling(), Doubling()
    chest.let_go.set()
    with device() as node:
        slices, films = (Batcher(n, Ladder(e), node.queue) for n, e in (("ct", ct), ("cxr", chest)))
        routine = [node.ask(slices, f"ct {number}", list(range(8))) for number in range(3)]
        wait_until(lambda: ct.batches)
        urgent = node.ask(films, "urgent", [7], stat=True)
        ct.let_go.set()
        assert urgent.result(60) == [14]
        for one in routine:
            one.result(60)
    assert in_order(node)[:2] == [("ct 0",), ("urgent",)]


def test_a_poisoned_row_fails_its_own_analysis_alone() -> None:
    engine = Doubling(poison=frozenset({30}))
    with device() as node:
        batcher = Batcher("ct", Ladder(engine, tell=lambda _event: None), node.queue)
        first = node.occupy(batcher, engine)
        sound = node.ask(batcher, "sound", [10, 11])
        bad = node.ask(batcher, "bad", [20, 30, 40])
        engine.let_go.set()
        assert first.result(60) == [2]
        assert sound.result(60) == [20, 22]
        with pytest.raises(PoisonedRowsError) as caught:
            bad.result(60)
    # Of the caller's rows, which are second and third of one batch and first of the next.
    assert caught.value.rows == (1,)
    assert engine.batches[1] == [10, 11, 20, 30]


def test_where_all_rows_of_a_call_fail_it_is_told_as_without_others() -> None:
    engine = Doubling(poison=frozenset({5, 6, 9}))
    with device() as node:
        batcher = Batcher("ct", Ladder(engine, tell=lambda _event: None), node.queue)
        first = node.occupy(batcher, engine)
        sound = node.ask(batcher, "sound", [2])
        two = node.ask(batcher, "two bad ones", [5, 6])
        one = node.ask(batcher, "one bad one", [9])
        engine.let_go.set()
        assert (first.result(60), sound.result(60)) == ([2], [4])
        with pytest.raises(EngineRunError):
            two.result(60)
        with pytest.raises(PoisonedRowsError):
            one.result(60)


@pytest.mark.parametrize(
    "error",
    [EngineOutOfMemoryError("no memory"), DeviceLostError("gone"), EngineRunError("all fail")],
)
def test_what_happens_to_a_batch_reaches_everybody_in_it_and_nobody_else(
    error: EngineError,
) -> None:
    engine, other = Doubling(error=error), Doubling()
    other.let_go.set()
    with device() as node:
        batcher = Batcher("ct", Ladder(engine, tell=lambda _event: None), node.queue)
        films = Batcher("cxr", Ladder(other), node.queue)
        alone = node.ask(batcher, "alone", [1, 2])
        wait_until(lambda: engine.batches)
        beside = [node.ask(batcher, name, [3, 4]) for name in ("a", "b")]
        film = node.ask(films, "film", [5])
        engine.let_go.set()
        for told in (alone, *beside):
            with pytest.raises(type(error)):
                told.result(60)
        assert film.result(60) == [10]


def test_an_error_that_no_engine_should_raise_ends_no_thread() -> None:
    engine = Doubling()
    engine.let_go.set()

    class Broken(Ladder):
        def answer(self, rows: Rows) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    with device() as node:
        broken, sound = (
            Batcher("x", Broken(engine), node.queue),
            Batcher("y", Ladder(engine), node.queue),
        )
        with pytest.raises(ZeroDivisionError):
            node.ask(broken, "a", [1]).result(60)
        assert node.ask(sound, "b", [1]).result(60) == [2]


class Panic(BaseException):
    """As libraries of Rust raise it."""


@pytest.mark.parametrize("error", [Panic, SystemExit, KeyboardInterrupt])
def test_what_is_no_exception_reaches_the_caller_as_one(error: type[BaseException]) -> None:
    engine = Doubling()
    engine.let_go.set()

    class Broken(Ladder):
        def answer(self, rows: Rows) -> None:  # type: ignore[override]
            raise error

    with device() as node:
        broken = Batcher("x", Broken(engine), node.queue)
        sound = Batcher("y", Ladder(engine), node.queue)
        with pytest.raises(EngineError, match=error.__name__):
            node.ask(broken, "a", [1]).result(60)
        assert node.ask(sound, "b", [1]).result(60) == [2]


def test_a_thread_that_fails_leaves_nobody_waiting_and_another_takes_over() -> None:
    engine, other = Doubling(), Doubling()
    with device() as node:
        batcher = Batcher("x", Ladder(engine), node.queue)
        first = node.occupy(batcher, engine)
        beside = node.ask(Batcher("y", Ladder(other), node.queue), "b", [2])

        def fails(_batch: Batch, _seconds: float) -> None:
            raise ZeroDivisionError

        heard, node.queue._heard = node.queue._heard, fails
        engine.let_go.set()
        for told in (first, beside):
            with pytest.raises(InferenceError, match="thread of the device"):
                told.result(60)
        node.queue._heard = heard
        assert node.ask(batcher, "c", [3]).result(60) == [6]


def test_a_network_that_gives_one_row_for_several_gives_nobody_anothers() -> None:
    engine = Doubling()

    class Mean(Doubling):
        def run(self, rows: Rows) -> RawOutputs:
            told = engine.run(rows)
            return RawOutputs((told.tensors[0][:1],), None, told.made_with)

    with device() as node:
        batcher = Batcher("x", Ladder(Mean()), node.queue)
        node.occupy(batcher, engine)
        beside = [node.ask(batcher, name, [number]) for name, number in (("a", 2), ("b", 3))]
        engine.let_go.set()
        for told in beside:
            with pytest.raises(BundleError, match="for 2 rows"):
                told.result(60)
    assert engine.batches == [[1], [2, 3]]


def test_a_batch_waits_for_an_analysis_that_is_under_way_and_no_longer() -> None:
    engine = Doubling()
    engine.let_go.set()
    with device(wait_seconds=600.0) as node:
        batcher = Batcher("ct", Ladder(engine), node.queue)
        leave, come = threading.Event(), threading.Event()

        def other() -> None:
            with node.queue.turn("other"):
                batcher.run(rows_of([1]))  # from now on it is known to use this model
                come.set()
                assert leave.wait(60)

        told = node.pool.submit(other)
        assert come.wait(60)
        waiting = node.ask(batcher, "waiting", [2])
        assert not waiting.done()
        leave.set()
        assert waiting.result(60) == [4]  # long before 600 seconds
        told.result(60)
    assert engine.batches == [[1], [2]]


def test_time_spent_waiting_for_others_is_told() -> None:
    engine, waited = Doubling(), []
    with device() as node:
        batcher = Batcher("ct", Ladder(engine), node.queue)
        first = node.occupy(batcher, engine)

        def second() -> Turn:
            with node.queue.turn("second", waited=waited.append) as turn:
                batcher.run(rows_of([2]))
            return turn

        began = time.monotonic()
        told = node.pool.submit(second)
        wait_until(lambda: node.queue.joined == 2)
        time.sleep(0.05)
        engine.let_go.set()
        first.result(60)
        turn = told.result(60)
    assert 0.05 <= sum(waited) <= time.monotonic() - began
    assert turn.waited_seconds == sum(waited)
    assert (turn.rows, turn.batches) == (1, 1)
    assert turn.first_seconds is not None
    assert turn.first_seconds >= turn.waited_seconds


def test_who_waits_is_excused_for_batches_that_end_and_not_for_one_that_is_stuck() -> None:
    engine, waited = Doubling(), []
    engine.let_go.set()
    with device() as node:
        batcher = Batcher("ct", Ladder(engine), node.queue)
        stuck = Doubling()
        films = Batcher("cxr", Ladder(stuck), node.queue)
        now = 0.0
        node.queue._clock = lambda: now
        first = node.occupy(films, stuck)

        def second() -> None:
            with node.queue.turn("second", waited=waited.append):
                batcher.run(rows_of([2]))

        told = node.pool.submit(second)
        wait_until(lambda: node.queue.joined == 2)
        now = 500.0
        wait_until(lambda: node.queue.held_up_by("first", 60.0))
        wait_until(lambda: node.queue.held_up_by("second", 60.0))  # both have come to wait
        time.sleep(0.7)
        assert waited == []  # nothing has ended: whoever is computed may be stuck
        assert node.queue.held_up_by("second", 60.0) == ("first",)
        assert node.queue.held_up_by("first", 60.0) == ("first",)
        assert node.queue.held_up_by("second", 600.0) == ()  # not for so long
        with node.queue.turn("decodes"):
            assert node.queue.held_up_by("decodes", 60.0) == ()
        stuck.let_go.set()
        assert first.result(60) == [2]
        told.result(60)
    assert waited == [500.0]


def test_it_is_told_how_long_one_waits_while_it_still_waits() -> None:
    engine, waited = Doubling(), []
    with device() as node:
        batcher = Batcher("ct", Ladder(engine), node.queue)
        now = 0.0
        node.queue._clock = lambda: now
        first = node.occupy(batcher, engine)
        engine.best_batch = 1
        stats = [node.ask(batcher, f"stat{number}", [3], stat=True) for number in range(2)]

        def second() -> None:
            with node.queue.turn("second", waited=waited.append):
                batcher.run(rows_of([2]))

        told = node.pool.submit(second)
        wait_until(lambda: node.queue.joined == 4)
        now = 700.0
        stepped = threading.Event()

        class Steps(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                return stepped.wait(timeout)

        gate, engine.let_go = engine.let_go, Steps()
        gate.set()  # the first ends, the next one goes on
        assert first.result(60) == [2]
        wait_until(lambda: waited)
        assert waited == [700.0]
        stepped.set()
        told.result(60)
        assert [one.result(60) for one in stats] == [[6], [6]]


def test_a_closed_queue_leaves_nobody_waiting() -> None:
    engine = Doubling()
    with device() as node:
        batcher = Batcher("ct", Ladder(engine), node.queue)
        first = node.occupy(batcher, engine)
        second = node.ask(batcher, "second", [2])
        closing = node.pool.submit(node.queue.close)
        wait_until(lambda: node.queue._is_closed)
        engine.let_go.set()
        closing.result(60)
        assert first.result(60) == [2]
        with pytest.raises(InferenceError, match="process ends"):
            second.result(60)
        with pytest.raises(InferenceError, match="process ends"):
            node.ask(batcher, "third", [3]).result(60)


def test_a_model_that_is_let_go_is_let_go_here_too() -> None:
    engine = Doubling()
    engine.let_go.set()
    with device() as node:
        ladder = Ladder(engine)
        batcher = Batcher("ct", ladder, node.queue)
        node.ask(batcher, "a", [1]).result(60)
        node.heard.clear()
        gone = weakref.ref(ladder)
        del ladder, batcher
        gc.collect()
        wait_until(lambda: gone() is None)


def tensors(rows: NDArray[np.float32]) -> Rows:
    return torch.from_numpy(rows)


Asked = tuple[Answers, NDArray[np.float32], RawOutputs, bool]


@pytest.fixture(scope="module")
def ladders(ct_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    """Return engines, rows, what they give for all rows at once, and whether they take tensors."""
    folder, found = tmp_path_factory.mktemp("engines"), []
    for fast in (True, False):
        pytest.importorskip("onnxruntime")
        known = EngineSettings(folder, 1) if fast else EngineSettings()
        ladder = choose_engine(ct_bundle, "cpu", known).engine
        rows = np.random.default_rng(3).random((24, 3, 32, 32), dtype=np.float32)
        alone = [ladder.run(rows[number : number + 1]) for number in range(24)]
        told = RawOutputs(
            (np.concatenate([one.tensors[0] for one in alone]),), None, alone[0].made_with
        )
        found.append((ladder, rows, told, not fast))
    return found


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.002]),
    st.integers(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_results_are_the_same_whatever_is_beside_them(
    ladders: list[Asked], calls: list[tuple[int, bool]], wait_seconds: float, which: int
) -> None:
    ladder, rows, told, as_tensors = ladders[which]
    ready = threading.Barrier(len(calls))
    with device(wait_seconds) as node:
        batcher = Batcher("ct", ladder, node.queue)

        def analyse(number: int, count: int, stat: bool) -> float:
            numbers = [(5 * number + row) % len(rows) for row in range(count)]
            mine = rows[numbers]
            with node.queue.turn(str(number), stat):
                ready.wait(60)
                found = batcher.run(tensors(mine) if as_tensors else mine)
            return float(np.abs(found.tensors[0] - told.tensors[0][numbers]).max())

        drifts = [node.pool.submit(analyse, number, *call) for number, call in enumerate(calls)]
        assert max(one.result(60) for one in drifts) <= 1e-5
        assert sum(len(batch) for batch in node.heard) == sum(count for count, _ in calls)


@pytest.mark.slow
@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.name)
def test_a_shipped_bundle_gives_the_same_beside_others(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(path)
    pytest.importorskip("onnxruntime")
    ladder = choose_engine(bundle, "cpu", EngineSettings(tmp_path, 1)).engine
    size, channels = bundle.spec.size, bundle.spec.channels
    rows = np.random.default_rng(1).random((7, channels, size, size), dtype=np.float32)
    alone = [ladder.run(rows[n : n + 1]) for n in range(7)]
    with device() as node:
        batcher = Batcher(bundle.name, ladder, node.queue)
        ready = threading.Barrier(3)
        answer = ladder.answer

        def beside_others(rows: Rows) -> Answered:
            # Of what all three ask for together, nothing is computed before they all have.
            wait_until(lambda: node.queue.joined <= 3 or node.queue.joined == 6)
            return answer(rows)

        monkeypatch.setattr(ladder, "answer", beside_others)

        def analyse(numbers: list[int]) -> RawOutputs:
            with node.queue.turn(str(numbers)):
                batcher.run(rows[numbers[:1]])
                ready.wait(60)
                return batcher.run(rows[numbers])

        told = [
            (numbers, node.pool.submit(analyse, numbers)) for numbers in ([0, 1, 2, 3, 4], [5], [6])
        ]
        for numbers, found in told:
            outputs = found.result(60)
            for place, number in enumerate(numbers):
                for own, other in zip(outputs.tensors, alone[number].tensors, strict=True):
                    assert np.abs(own[place] - other[0]).max() <= 1e-5
        assert max(len(batch.turns) for batch in node.heard) > 1
