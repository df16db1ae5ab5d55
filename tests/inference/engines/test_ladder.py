"""The ladder, driven by an engine that fails as it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.engines import (
    DeviceLostError,
    Engine,
    EngineIdentity,
    EngineOutOfMemoryError,
    RawOutputs,
    Rows,
)
from inference.engines.engine import on_host
from inference.engines.engine_events import Event, Step
from inference.engines.errors import EngineRunError, PoisonedRowsError
from inference.engines.ladder import Ladder


@dataclass
class FakeEngine:
    """Doubles each row's mean; fails as it is told, and keeps the sizes that it was given."""

    device: str = "cuda:0"
    fits: int = 1000
    lost_after: int | None = None
    poison: frozenset[int] = frozenset()
    broken: bool = False
    asked: list[int] = field(default_factory=list)
    released: int = 0

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("fake", "1", self.device, "float32", 4)

    def run(self, rows: Rows) -> RawOutputs:
        given = on_host(rows)
        self.asked.append(len(given))
        if self.lost_after is not None and len(self.asked) > self.lost_after:
            raise DeviceLostError("the GPU is lost")
        if len(given) > self.fits:
            raise EngineOutOfMemoryError("no memory")
        if self.broken or self.poison & set(given[:, 0, 0, 0].astype(int).tolist()):
            raise EngineRunError("a kernel fails")
        told = given.mean((1, 2, 3))[:, None] * 2
        return RawOutputs((told,), told[..., None, None], self.identity.made(len(given)))

    def release(self) -> None:
        self.released += 1


def batch(count: int) -> NDArray[np.float32]:
    """Return rows of which each holds its own number."""
    return np.broadcast_to(
        np.arange(count, dtype=np.float32)[:, None, None, None], (count, 1, 2, 2)
    ).copy()


def told(outputs: RawOutputs | None) -> list[float]:
    assert outputs is not None
    assert outputs.class_maps is not None
    np.testing.assert_array_equal(outputs.class_maps[:, 0, 0, 0], outputs.tensors[0][:, 0])
    return [float(value) for value in outputs.tensors[0][:, 0]]


def climbed(
    engine: FakeEngine, spare: FakeEngine | None = None
) -> tuple[Ladder, list[Event], Callable[[], list[str]]]:
    events: list[Event] = []
    made: Callable[[], Engine] | None = None if spare is None else lambda: spare
    ladder = Ladder(engine, made, events.append)
    return ladder, events, lambda: [str(event.step) for event in events]


def test_a_batch_that_passes_is_run_once() -> None:
    engine = FakeEngine()
    ladder, _, steps = climbed(engine)
    outputs = ladder.run(batch(8))
    assert told(outputs) == [2.0 * number for number in range(8)]
    assert outputs.made_with.batch == 8
    assert (engine.asked, steps()) == ([8], [])


@pytest.mark.parametrize(
    ("fits", "asked", "steps"),
    [
        (4, [8, 4, 4], ["smaller_batch"]),
        (2, [8, 4, 2, 2, 2, 2], ["smaller_batch", "smaller_batch"]),
    ],
)
def test_for_want_of_memory_half_and_then_a_quarter(
    fits: int, asked: list[int], steps: list[str]
) -> None:
    engine = FakeEngine(fits=fits)
    ladder, events, seen = climbed(engine)
    outputs = ladder.run(batch(8))
    assert told(outputs) == [2.0 * number for number in range(8)]
    assert outputs.made_with.batch == fits
    assert (engine.asked, seen()) == (asked, steps)
    assert engine.released == len(steps)
    assert events[0] == Event(Step.SMALLER, "fake", "cuda:0", 8, "no memory")


def test_a_size_that_did_not_fit_is_not_tried_again_at_once_but_later() -> None:
    engine = FakeEngine(fits=4)
    ladder, _, _ = climbed(engine)
    ladder.run(batch(8))
    engine.asked.clear()
    ladder.run(batch(8))
    assert engine.asked == [4, 4]
    engine.fits = 8  # another process has left the device
    for _ in range(70):
        ladder.run(batch(8))
    assert engine.asked[-1] == 8


def test_what_fits_in_no_part_is_run_on_the_spare_engine_and_the_next_batch_is_not() -> None:
    engine, spare = FakeEngine(fits=1), FakeEngine("cpu")
    ladder, _, steps = climbed(engine, spare)
    outputs = ladder.run(batch(8))
    assert told(outputs) == [2.0 * number for number in range(8)]
    assert outputs.made_with.device == "cpu"
    assert spare.asked == [4, 4]  # its best batch
    assert steps() == ["smaller_batch", "smaller_batch", "spare_engine"]
    assert ladder.run(batch(1)).made_with.device == "cuda:0"


def test_where_the_spare_engine_has_no_memory_either_it_is_a_coded_failure() -> None:
    ladder, _, steps = climbed(FakeEngine(fits=0), FakeEngine("cpu", fits=0))
    with pytest.raises(EngineOutOfMemoryError) as caught:
        ladder.run(batch(4))
    assert caught.value.code == "out_of_memory"
    assert steps()[-2:] == ["spare_engine", "exhausted"]


def test_without_a_spare_engine_the_ladder_ends_with_a_quarter() -> None:
    engine = FakeEngine(fits=0)
    ladder, _, steps = climbed(engine)
    with pytest.raises(EngineOutOfMemoryError):
        ladder.run(batch(8))
    assert engine.asked == [8, 4, 2]
    assert steps() == ["smaller_batch", "smaller_batch", "exhausted"]


def test_a_lost_device_is_never_asked_again_and_somebody_is_told_once() -> None:
    engine, spare = FakeEngine(lost_after=1), FakeEngine("cpu")
    ladder, _, steps = climbed(engine, spare)
    assert ladder.run(batch(2)).made_with.device == "cuda:0"
    for _ in range(3):
        assert ladder.run(batch(2)).made_with.device == "cpu"
    assert len(engine.asked) == 2
    assert steps() == ["device_lost"]
    assert ladder.lost == "the GPU is lost"
    assert ladder.identity.device == "cpu"


def test_a_lost_device_without_a_spare_engine_is_a_coded_failure() -> None:
    ladder, _, _ = climbed(FakeEngine(lost_after=0))
    for _ in range(2):
        with pytest.raises(DeviceLostError) as caught:
            ladder.run(batch(2))
        assert caught.value.code == "device_lost"


def test_a_poisoned_row_fails_alone() -> None:
    engine = FakeEngine(poison=frozenset({5}))
    ladder, events, steps = climbed(engine)
    answered = ladder.answer(batch(8))
    assert answered.rows == (0, 1, 2, 3, 4, 6, 7)
    assert told(answered.outputs) == [2.0 * number for number in answered.rows]
    assert list(answered.poisoned) == [5]
    assert steps() == ["poisoned_row"]
    assert events[0].reason == "a kernel fails"
    assert sum(engine.asked) <= 8 * 4  # bisected: once at each of the four sizes
    with pytest.raises(PoisonedRowsError, match="row 5 of its batch: a kernel fails") as caught:
        ladder.run(batch(8))
    assert (caught.value.rows, caught.value.code) == ((5,), "poisoned_input")


def test_where_all_rows_fail_it_is_not_the_rows() -> None:
    ladder, _, steps = climbed(FakeEngine(broken=True))
    with pytest.raises(EngineRunError):
        ladder.answer(batch(4))
    assert steps() == []


def test_want_of_memory_while_a_poisoned_row_is_looked_for_climbs_on() -> None:
    ladder, _, _ = climbed(FakeEngine(fits=4, poison=frozenset({2})))
    answered = ladder.answer(batch(8))
    assert answered.rows == (0, 1, 3, 4, 5, 6, 7)
    assert told(answered.outputs) == [2.0 * number for number in answered.rows]


@given(
    count=st.integers(1, 24),
    fits=st.integers(1, 24),
    poison=st.frozensets(st.integers(0, 23), max_size=6),
    lost_after=st.none() | st.integers(0, 6),
)
@settings(max_examples=150, deadline=None)
def test_every_row_has_its_own_result_or_its_own_fault(
    count: int, fits: int, poison: frozenset[int], lost_after: int | None
) -> None:
    engine = FakeEngine(fits=fits, poison=poison, lost_after=lost_after)
    ladder, _, _ = climbed(engine, FakeEngine("cpu", poison=poison))
    bad = sorted(poison & set(range(count)))
    if len(bad) == count > 1:
        with pytest.raises(EngineRunError):
            ladder.answer(batch(count))
        return
    answered = ladder.answer(batch(count))
    assert sorted(answered.poisoned) == bad
    assert answered.rows == tuple(row for row in range(count) if row not in bad)
    if answered.rows:
        assert told(answered.outputs) == [2.0 * row for row in answered.rows]
