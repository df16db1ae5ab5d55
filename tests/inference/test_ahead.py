"""Batches made one ahead: the same, in order, and never more than one that nobody asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from inference.ahead import one_ahead

_ANALYSIS: ContextVar[str] = ContextVar("analysis", default="none")


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})


def test_one_core_makes_nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    thread = threading.current_thread()
    assert set(one_ahead(threading.current_thread() for _ in range(3))) == {thread}


def test_items_come_in_order_and_all() -> None:
    assert list(one_ahead(iter(range(20)))) == list(range(20))
    assert list(one_ahead(iter(()))) == []


def test_the_next_is_made_while_this_one_is_used() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    taken = one_ahead(items())
    assert next(taken) == 1
    assert second.wait(60), "nobody works on the second item"
    assert list(taken) == [2]


def test_no_more_than_one_is_made_ahead() -> None:
    made = 0

    def items() -> Iterator[int]:
        nonlocal made
        for _ in range(10):
            made += 1
            yield made

    for given, item in enumerate(one_ahead(items()), start=1):
        assert item == given
        assert made <= given + 1


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second slice is damaged")

    taken = one_ahead(items())
    assert next(taken) == 1
    with pytest.raises(ValueError, match="second slice"):
        next(taken)


def test_who_stops_early_leaves_no_thread_and_closes_what_was_begun() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.set()

    taken = one_ahead(items())
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    del taken
    assert closed.wait(60)
    assert not [one for one in threading.enumerate() if one.name.startswith("ahead")]


def test_the_thread_knows_of_which_analysis_it_is() -> None:
    def items() -> Iterator[str]:
        yield _ANALYSIS.get()

    token = _ANALYSIS.set("seven")
    try:
        assert list(one_ahead(items())) == ["seven"]
    finally:
        _ANALYSIS.reset(token)
