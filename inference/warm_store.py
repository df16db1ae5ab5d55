"""What is kept loaded within a budget of memory: the least recently used goes first. Light."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
# What took so many times what it was thought to take came with libraries, which stay.
_WITH_LIBRARIES = 4
# What took so much less was loaded into memory that something else had left: half the precision
# takes a quarter of what weights and what is made of them are thought to take.
_INTO_LEFT_MEMORY = 8


@dataclass(slots=True, eq=False)
class _Kept(Generic[T]):
    """One model; `value` is None while it is loaded.

    Attributes
    ----------
    n_bytes : int
        What it takes; an estimate until it was measured.
    estimate : int
        What it was thought to take before anybody had measured.
    users : int
        Analyses that it is at work for.
    used : int
        The larger the later.
    """

    name: str
    n_bytes: int
    estimate: int
    value: T | None = None
    users: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of a model that was loaded or unloaded, or for which there is no room.

    Attributes
    ----------
    event : str
        ``loaded``, ``unloaded``, ``over_budget``.
    n_bytes, total_bytes : int
        Of the model, and of all that are loaded now.
    is_measured : bool
        Whether it was loaded alone, into memory that no other model had left: then `n_bytes` is
        what it takes in any process.
    """

    event: str
    name: str
    n_bytes: int
    total_bytes: int
    is_measured: bool = False


class WarmStore(Generic[T]):
    """Loads by name, once, and keeps what it has loaded.

    What is in use stays. Where everything else is, the budget is exceeded for so long: an analysis
    never waits for another one to end. What is larger than the budget is loaded alone.

    Parameters
    ----------
    budget : int
        Bytes; 0 is no limit.
    measure : callable
        Bytes in use now, by this process or on its GPU.
    give_back : callable
        Gives memory back that nobody refers to any more.
    tell : callable
        Is told what happens, outside of locks.
    remember : callable
        Gives what one of a name was found to take in an earlier process, None if nobody knows.
    """

    def __init__(
        self,
        budget: int,
        measure: Callable[[], int],
        give_back: Callable[[], None],
        tell: Callable[[Told], None] = lambda _told: None,
        remember: Callable[[str], int | None] = lambda _name: None,
    ) -> None:
        self._budget = budget
        self._measure = measure
        self._give_back = give_back
        self._tell = tell
        self._remember = remember
        # Memory that was given back once may be taken without the process growing.
        self._is_fresh = True
        self._changed = threading.Condition()
        self._kept: dict[str, _Kept[T]] = {}
        # What models were found to take when they were loaded before.
        self._sizes: dict[str, int] = {}
        self._moves = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What is loaded, the least recently used first."""
        with self._changed:
            ready = [one for one in self._kept.values() if one.value is not None]
            return tuple(one.name for one in sorted(ready, key=lambda one: one.used))

    def fits(self, name: str, estimate: int) -> bool:
        """Tell whether something could be loaded and all that is loaded stays."""
        remembered = self._remember(name)
        with self._changed:
            needed = self._sizes.get(name, remembered or estimate)
            return not self._budget or not self._kept or self._total() + needed <= self._budget

    @contextmanager
    def held(self, name: str, estimate: Callable[[], int], load: Callable[[], T]) -> Iterator[T]:
        """Hold what has this name for the duration of the block, loading it if it is not there.

        Several threads may load different things at the same time; of one thing the first loads
        and the others wait.

        Parameters
        ----------
        name : str
        estimate : callable
            Gives the bytes that it is thought to take; asked when it has to be loaded.
        load : callable
            What it raises reaches all who wait for it; the next one who asks tries again.
        """
        kept = self._taken(name) or self._loaded(name, estimate(), load)
        assert kept.value is not None
        try:
            yield kept.value
        finally:
            with self._changed:
                kept.users -= 1
                gone = self._make_room(keep=name)
            self._let_go(gone)

    def _taken(self, name: str) -> _Kept[T] | None:
        """Return what is loaded, for one more user; None after leaving a mark that it is loaded."""
        with self._changed:
            while (kept := self._kept.get(name)) is not None:
                if kept.value is not None:
                    self._use(kept)
                    return kept
                self._changed.wait()
        return None

    def _loaded(self, name: str, estimate: int, load: Callable[[], T]) -> _Kept[T]:
        remembered = self._remember(name)
        with self._changed:
            if name in self._kept:  # somebody was faster
                kept = None
            else:
                kept = _Kept[T](name, self._sizes.get(name, remembered or estimate), estimate)
                self._kept[name] = kept
                gone = self._make_room(keep=name)
                over = self._total() if self._is_over() else None
        if kept is None:
            return self._taken(name) or self._loaded(name, estimate, load)
        try:
            self._let_go(gone)
            if over is not None:
                self._tell(Told("over_budget", name, kept.n_bytes, over))
            moves, before = self._moves_alone(kept), self._measure()
            value = load()
            taken = self._measure() - before
        except BaseException:
            # Whatever failed: with the mark there, others would wait for ever.
            with self._changed:
                del self._kept[name]
                self._changed.notify_all()
            raise
        return self._filled(kept, value, taken, moves)

    def _filled(self, kept: _Kept[T], value: T, taken: int, moves: int | None) -> _Kept[T]:
        with self._changed:
            # What others did meanwhile is in the difference too: then the estimate is better.
            is_alone = moves is not None and moves == self._moves
            least, most = kept.estimate / _INTO_LEFT_MEMORY, _WITH_LIBRARIES * kept.estimate
            is_measured = is_alone and taken > 0 and least <= taken <= most
            if is_measured:
                kept.n_bytes = self._sizes[kept.name] = taken
            is_fresh = self._is_fresh
            kept.value = value
            self._use(kept)
            gone = self._make_room(keep=kept.name)
            total = self._total()
            self._changed.notify_all()
        self._tell(Told("loaded", kept.name, kept.n_bytes, total, is_measured and is_fresh))
        self._let_go(gone)
        return kept

    def _moves_alone(self, kept: _Kept[T]) -> int | None:
        """Return a number that is the same as long as nothing else happens; None if it does."""
        with self._changed:
            others = (one for one in self._kept.values() if one is not kept)
            busy = any(one.users or one.value is None for one in others)
            return None if busy else self._moves

    def _use(self, kept: _Kept[T]) -> None:
        # The one that loads is no move of another.
        self._moves += 1
        kept.users += 1
        kept.used = self._moves

    def _total(self) -> int:
        return sum(one.n_bytes for one in self._kept.values())

    def _is_over(self) -> bool:
        return bool(self._budget) and self._total() > self._budget

    def _make_room(self, keep: str) -> list[_Kept[T]]:
        """Take out what nobody uses, the least recently used first, until the rest fits."""
        gone: list[_Kept[T]] = []
        while self._is_over():
            idle = [
                one
                for one in self._kept.values()
                if one.value is not None and not one.users and one.name != keep
            ]
            if not idle:
                break
            first = min(idle, key=lambda one: one.used)
            gone.append(self._kept.pop(first.name))
        return gone

    def _let_go(self, gone: list[_Kept[T]]) -> None:
        if not gone:
            return
        self._is_fresh = False
        for kept in gone:
            kept.value = None
        self._give_back()
        with self._changed:
            total = self._total()
        for kept in gone:
            self._tell(Told("unloaded", kept.name, kept.n_bytes, total))
