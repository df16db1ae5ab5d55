"""The part of a node that delivers; those that receive and analyse are in files of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event
from typing import Protocol

from scp.places import places

from . import garbage
from .bells import Bell, hearing
from .ground import Ground

# Well within what the supervisor waits before it kills.
_STOP_SECONDS = 30.0


def serve_deliver(base: Ground, stop: Event) -> None:
    """Deliver results, notifications and answers until `stop` is set."""
    # Only this part needs them; some look into the objects, with what takes long to import.
    from scp import CommitmentReporter, Deliverer, Destination, Guards
    from scp.clock_steps import ClockSteps

    from .left_over import LeftOver
    from .notify.notifier import Notifier, Target
    from .result_check import fallback, fault_of

    settings = base.settings
    guards = Guards(check=fault_of, fallback=fallback)
    known = places(settings.destination, settings.ae)
    deliverer = Deliverer(
        [
            Destination(
                base.engine,
                base.files,
                place,
                settings.scp.ae_title,
                guards=guards,
                steps=ClockSteps(),
            )
            for place in known
        ]
    )
    notifier = Notifier(
        [Target(base.engine, base.files, one, steps=ClockSteps()) for one in settings.notify]
    )

    def look() -> None:
        deliverer.wake()
        notifier.wake()

    parts: tuple[Stoppable, ...] = (
        deliverer,
        notifier,
        CommitmentReporter(base.engine, base.files, settings.ae, steps=ClockSteps()),
        LeftOver(
            base.engine, [place.name for place in known], [one.name for one in settings.notify]
        ),
    )
    garbage.settle()
    for part in parts:
        part.start()
    try:
        with hearing(settings.data_dir, Bell.OUTBOX, look):
            stop.wait()
    finally:
        stop_together(parts, _STOP_SECONDS)


class Stoppable(Protocol):
    """A part of a process with threads of its own."""

    def start(self) -> None:
        """Start and return."""

    def tell_to_stop(self) -> None:
        """Begin nothing new; return at once."""

    def stop(self, seconds: float = ...) -> None:
        """Stop, waiting for so long at most."""


def stop_together(parts: Sequence[Stoppable], seconds: float) -> None:
    """Stop all parts at the same time, within `seconds` in all."""
    for part in parts:
        part.tell_to_stop()
    deadline = time.monotonic() + seconds
    for part in parts:
        part.stop(max(0.0, deadline - time.monotonic()))
