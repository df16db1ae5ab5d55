"""Processes that read and decode files for a training, in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from types import TracebackType
from typing import Any, Self

from ..errors import InferenceError
from .phantom_samples import one_thread_each

Task = tuple[Callable[..., Any], tuple[Any, ...]]


class Pool:
    """Runs tasks and gives their results in the order of the tasks, whatever their number.

    Parameters
    ----------
    workers : int
        Processes; with one the work is done here, when its result is asked for.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return self._workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        """Begin a task and return what waits for its result.

        Raises
        ------
        InferenceError
            By the returned callable, if a process died; and whatever the task raises.
        """
        if self._workers <= 1:
            return lambda: function(*arguments)
        with one_thread_each():
            future = self._started().submit(function, *arguments)
        return lambda: _result(future)

    def map(self, tasks: Iterable[Task]) -> Iterator[Any]:
        """Yield the results of `tasks`, some of which are under way before they are asked for."""
        waiting: deque[Callable[[], Any]] = deque()
        for function, arguments in tasks:
            waiting.append(self.submit(function, *arguments))
            if len(waiting) > 4 * self._workers:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Spawned, not forked: the parent has threads of torch.
            context = get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, context, initializer=_begin)
        return self._pool


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise InferenceError(
            "a process that reads images ended by itself; memory may be short: use fewer --workers"
        ) from error


def _begin() -> None:
    """Die with the parent: one that was killed cannot say goodbye."""
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
