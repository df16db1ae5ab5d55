"""Models within a budget: which go, which stay, and who waits for whom."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.warm_store import Told, WarmStore


class Model:
    """Something that takes memory."""


@dataclass
class Machine:
    """Memory that is in use, and what was told."""

    sizes: dict[str, int]
    budget: int = 100
    in_use: int = 1000
    told: list[Told] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    alive: dict[str, weakref.ref[Model]] = field(default_factory=dict)
    remembered: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store: WarmStore[Model] = WarmStore(
            self.budget, lambda: self.in_use, self._give_back, self.told.append,
            self.remembered.get,
        )  # fmt: skip

    def held(self, name: str) -> AbstractContextManager[Model]:
        return self.store.held(name, lambda: self.sizes[name] + 5, lambda: self._load(name))

    def use(self, *names: str) -> None:
        for name in names:
            with self.held(name):
                pass

    def _load(self, name: str) -> Model:
        self.loads.append(name)
        self.in_use += self.sizes[name]
        model = Model()
        self.alive[name] = weakref.ref(model)
        return model

    def _give_back(self) -> None:
        for name, model in list(self.alive.items()):
            if model() is None:
                self.in_use -= self.sizes[name]
                self.gone.append(name)
                del self.alive[name]

    def events(self, event: str) -> list[str]:
        return [one.name for one in self.told if one.event == event]


def test_the_least_recently_used_goes_and_its_memory_is_given_back() -> None:
    machine = Machine({"a": 40, "b": 40, "c": 40})
    machine.use("a", "b", "a", "c")
    assert machine.loads == ["a", "b", "c"]
    assert machine.gone == ["b"]
    assert machine.store.names == ("a", "c")
    assert machine.in_use == 1080
    machine.use("b")
    assert machine.store.names == ("c", "b")
    assert machine.events("unloaded") == ["b", "a"]
    # What was measured counts, not what was thought.
    assert {(one.name, one.n_bytes) for one in machine.told} == {("a", 40), ("b", 40), ("c", 40)}


def test_without_a_budget_nothing_goes() -> None:
    machine = Machine({"a": 40, "b": 400}, budget=0)
    machine.use("a", "b", "a", "b")
    assert machine.loads == ["a", "b"]
    assert machine.store.fits("b", 10**9)


def test_what_is_larger_than_the_budget_is_loaded_alone_and_stays() -> None:
    machine = Machine({"a": 40, "huge": 400})
    machine.use("a", "huge", "huge")
    assert machine.store.names == ("huge",)
    assert machine.loads == ["a", "huge"]
    assert machine.events("over_budget") == ["huge"]
    machine.use("a")
    assert machine.store.names == ("a",)


def test_what_is_in_use_stays_and_nobody_waits_for_it() -> None:
    machine = Machine({"a": 60, "b": 60})
    with machine.held("a"):
        with machine.held("b"):
            assert machine.store.names == ("a", "b")
            assert machine.events("over_budget") == ["b"]
        assert machine.store.names == ("a", "b")  # the last one stays, a is at work
    assert machine.store.names == ("a",)


def test_loading_one_blocks_no_reading_of_another_and_is_done_once() -> None:
    machine = Machine({"slow": 40, "other": 40})
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> Model:
        begun.set()
        assert go_on.wait(60)
        return machine._load("slow")

    def hold() -> int:
        with machine.store.held("slow", lambda: 40, slowly) as model:
            return id(model)

    machine.use("other")
    with ThreadPoolExecutor() as pool:
        several = [pool.submit(hold) for _ in range(4)]
        assert begun.wait(60)
        machine.use("other", "other")
        assert not any(one.done() for one in several)
        go_on.set()
        assert len({one.result(60) for one in several}) == 1
    assert machine.loads == ["other", "slow"]


def test_what_cannot_be_loaded_says_so_to_all_and_is_tried_again() -> None:
    machine = Machine({"a": 40})

    def fails() -> Model:
        raise ValueError("broken")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"), machine.store.held("a", lambda: 40, fails):
            pass
    assert machine.store.names == ()
    machine.use("a")
    assert machine.store.names == ("a",)


def test_a_load_among_others_is_not_measured_by_what_they_take() -> None:
    machine = Machine({"a": 40, "b": 40}, budget=1000)

    def beside() -> Model:
        machine.use("b")
        return machine._load("a")

    with machine.store.held("a", lambda: 45, beside):
        pass
    sizes = {one.name: one.n_bytes for one in machine.told if one.event == "loaded"}
    assert sizes == {"a": 45, "b": 45}  # the estimates: each was loaded while the other was


@given(
    st.lists(st.sampled_from("abcdef"), max_size=40),
    st.lists(st.integers(1, 90), min_size=6, max_size=6),
)
def test_the_budget_holds_whatever_is_asked_for(asked: list[str], sizes: list[int]) -> None:
    machine = Machine(dict(zip("abcdef", sizes, strict=True)))
    for name in asked:
        machine.use(name)
        loaded = machine.store.names
        assert loaded[-1] == name
        assert sum(machine.sizes[one] for one in loaded) <= 100
        assert machine.in_use == 1000 + sum(machine.sizes[one] for one in loaded)


def test_whatever_fails_while_it_is_loaded_nobody_waits_for_ever() -> None:
    fails = True

    def measure() -> int:
        if fails:
            raise OSError("too many open files")
        return 0

    store = WarmStore[Model](0, measure, lambda: None)
    with pytest.raises(OSError, match="too many"), store.held("a", lambda: 1, Model):
        pass
    fails = False
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(store.held("a", lambda: 1, Model).__enter__)
        assert isinstance(held.result(60), Model)


def test_what_is_loaded_is_not_estimated_again() -> None:
    machine = Machine({"a": 10})
    machine.use("a")

    def estimate() -> int:
        raise AssertionError("it reads files")

    with machine.store.held("a", estimate, Model):
        pass


def test_what_an_earlier_process_measured_is_used_before_it_is_loaded_again() -> None:
    machine = Machine({"a": 40, "b": 40}, budget=90, remembered={"a": 40, "b": 40})
    assert machine.store.fits("a", 95)
    machine.use("a")
    assert machine.store.fits("b", 95), "by a guess of 95 it would not"
    machine.use("b")
    assert machine.store.names == ("a", "b")


def test_only_what_is_loaded_into_fresh_memory_is_told_as_measured() -> None:
    machine = Machine({"a": 40, "b": 80, "c": 30}, budget=100)
    machine.use("a", "b", "c")
    loaded = {one.name: one.is_measured for one in machine.told if one.event == "loaded"}
    assert loaded == {"a": True, "b": False, "c": False}
    beside = Machine({"a": 40, "b": 40}, budget=100)
    with beside.held("a"):
        beside.use("b")
    assert [one.is_measured for one in beside.told if one.event == "loaded"] == [True, False]


def test_a_remembered_size_does_not_move_the_bound_for_libraries() -> None:
    machine = Machine({"a": 60}, remembered={"a": 10})
    machine.use("a")
    (told,) = (one for one in machine.told if one.event == "loaded")
    assert (told.n_bytes, told.is_measured) == (60, True), "4 x the guess of 65 is the bound"


def test_what_was_loaded_into_left_memory_keeps_its_estimate() -> None:
    machine = Machine({"a": 40})
    grown = iter((1000, 1001))  # by a page, of a model of forty
    store: WarmStore[Model] = WarmStore(100, lambda: next(grown), lambda: None, machine.told.append)
    with store.held("a", lambda: 40, Model):
        pass
    (told,) = machine.told
    assert (told.n_bytes, told.is_measured) == (40, False)
