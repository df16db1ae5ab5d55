"""The next batch is made while the network is at work on this one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Take items in a thread of their own, one before it is asked for.

    Libraries that decode, scale and run networks let go of the interpreter for most of their time,
    so the thread works on a core that the network leaves idle. One item more is in memory. Where
    the process has one core nothing is gained, and they are taken as they are asked for.

    Parameters
    ----------
    items : iterator
        Never advanced by two threads at once; what it raises is raised here in its turn.

    Yields
    ------
    Item
        The same, in the same order.
    """
    if len(os.sched_getaffinity(0)) == 1:
        yield from items
        return
    end = object()
    # Logs of the thread bear the names of the analysis, too.
    context = copy_context()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(context.run, next, items, end)  # type: ignore[arg-type]
        while (item := coming.result()) is not end:
            coming = thread.submit(context.run, next, items, end)  # type: ignore[arg-type]
            yield item
            del item  # its memory before the next one is waited for
