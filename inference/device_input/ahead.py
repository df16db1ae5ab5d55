"""An iterator that runs ahead of whoever takes from it, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.2


class _End(Generic[T]):
    """What comes last: nothing more, or what was raised."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterator[T], most: int = 1) -> Iterator[T]:
    """Yield what `items` yields, of which a thread takes up to `most` in advance.

    What it raises is raised here, in its turn. When nobody takes any more, `items` is closed in its
    thread before this returns, so that what it uses is free again.
    """
    taken: queue.Queue[T | _End[T]] = queue.Queue(maxsize=most)
    over = threading.Event()

    def give(one: T | _End[T]) -> bool:
        while not over.is_set():
            try:
                taken.put(one, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        last: _End[T] = _End()
        try:
            for one in items:
                if not give(one):
                    return
        except BaseException as error:  # noqa: BLE001 - the boundary of the thread; raised by the taker
            last = _End(error)
        finally:
            if (close := getattr(items, "close", None)) is not None:
                close()
            give(last)

    thread = threading.Thread(target=run, name="preread-input", daemon=True)
    thread.start()
    try:
        while True:
            one = taken.get()
            if isinstance(one, _End):
                if one.error is not None:
                    raise one.error
                return
            yield one
    finally:
        over.set()
        thread.join()
