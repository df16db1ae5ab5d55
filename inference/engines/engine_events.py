"""What happens to an engine, as it is told to those who count and those who are alerted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import structlog

_log = structlog.get_logger()


class Step(StrEnum):
    """What a ladder did."""

    SMALLER = "smaller_batch"
    SPARE = "spare_engine"
    DEVICE_LOST = "device_lost"
    POISONED = "poisoned_row"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class Event:
    """A step, for those who count and those who are alerted.

    Attributes
    ----------
    engine, device : str
        On which it became necessary.
    rows : int
        Of the batch, or of the part of it, that did not pass.
    reason : str
        What the engine said; never of a patient.
    """

    step: Step
    engine: str
    device: str
    rows: int
    reason: str


def log_event(event: Event) -> None:
    """Write a step into the log; a lost device as critical, that somebody comes."""
    level = {Step.DEVICE_LOST: _log.critical, Step.EXHAUSTED: _log.error}.get(
        event.step, _log.warning
    )
    level(
        f"engine.{event.step}",
        engine=event.engine,
        device=event.device,
        rows=event.rows,
        reason=event.reason,
    )
