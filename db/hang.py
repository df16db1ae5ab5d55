"""A watch over transactions that hang."""

from __future__ import annotations

import threading
import weakref

from .group import GroupWriter

_LOOK_SECONDS = 1.0


def watch(writer: GroupWriter, seconds: float, stopping: threading.Event) -> None:
    """Break off transactions of `writer` that take longer than `seconds`, until `stopping` is set.

    The thread keeps nothing alive: it ends with the writer, too. SQLite needs none.
    """
    if writer.can_hang:
        threading.Thread(
            target=_look,
            args=(weakref.ref(writer), seconds, stopping),
            name="hang-watch",
            daemon=True,
        ).start()


def _look(
    reference: weakref.ReferenceType[GroupWriter], seconds: float, stopping: threading.Event
) -> None:
    while not stopping.wait(_LOOK_SECONDS):
        writer = reference()
        if writer is None:
            return
        writer.break_off(seconds)
        del writer
