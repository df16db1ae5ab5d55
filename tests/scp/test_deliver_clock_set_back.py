"""A clock that is set back while deliveries wait: they wait no longer for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from outbox import Clock, Outbox, settings_for
from pacs import Pacs

from db.deliveries import claim
from db.schema import DeliveryState
from scp import Destination
from scp.clock_steps import ClockSteps

HOUR = 3600


class Steady(Clock):
    """A clock that nobody sets."""

    def seconds(self) -> float:
        return self.now.timestamp()


def sender_to(
    pacs: Pacs, outbox: Outbox, clock: Clock, steady: Steady, **settings: Any
) -> Destination:
    return Destination(
        outbox.engine, outbox.files, settings_for(pacs.port, **settings), "PREREAD", clock,
        steps=ClockSteps(steady.seconds),
    )  # fmt: skip


def test_what_was_to_be_tried_in_a_moment_is_not_tried_in_an_hour(
    outbox: Outbox, pacs: Pacs
) -> None:
    clock, steady = Clock(), Steady()
    clock.advance(HOUR)  # it is wrong
    sender = sender_to(pacs, outbox, clock, steady, breaker_failures=2)
    pacs.stop()
    first = outbox.put("pacs")
    assert (sender.run_once(), sender.run_once()) == (1, 0)
    pacs.start()
    clock.advance(-HOUR)
    assert sender.run_once() == 0  # its back-off, as it was
    (waiting,) = outbox.rows()
    assert 5 < (waiting.next_attempt_at - clock.now).total_seconds() < 11
    clock.advance(12)
    steady.advance(12)
    assert sender.run_once() == 1
    assert pacs.received == [first]
    assert outbox.row().state == "sent"


def test_a_new_delivery_does_not_wait_for_the_wrong_time(outbox: Outbox, pacs: Pacs) -> None:
    clock, steady = Clock(), Steady()
    sender = sender_to(pacs, outbox, clock, steady)
    assert sender.run_once() == 0
    outbox.put("pacs")  # at the time that it was until now
    clock.advance(-HOUR)
    assert sender.run_once() == 1
    assert outbox.row().state == "sent"


def test_a_destination_that_waits_waits_no_longer(outbox: Outbox, pacs: Pacs) -> None:
    clock, steady = Clock(), Steady()
    sender = sender_to(pacs, outbox, clock, steady, breaker_failures=1)
    pacs.stop()
    outbox.put("pacs")
    assert sender.run_once() == 1
    clock.advance(-HOUR)
    assert sender.run_once() == 0
    assert 0 < (outbox.health().open_until - clock.now).total_seconds() < 11


def test_a_clock_that_is_kept_right_is_not_set() -> None:
    clock, steady = Clock(), Steady()
    steps = ClockSteps(steady.seconds)
    assert steps.since(clock()) == 0
    for _ in range(10):  # it is made to go slower
        clock.advance(0.4)
        steady.advance(0.5)
        assert steps.since(clock()) == 0
    clock.advance(-HOUR)
    assert steps.since(clock()) == -HOUR
    assert steps.since(clock()) == 0
    clock.advance(2 * HOUR)
    steady.advance(HOUR)
    assert steps.since(clock()) == HOUR


def test_a_database_that_is_away_as_the_clock_is_set_back_is_told_of_it_later(
    outbox: Outbox, pacs: Pacs
) -> None:
    clock, steady = Clock(), Steady()
    sender = sender_to(pacs, outbox, clock, steady)
    assert sender.run_once() == 0
    outbox.put("pacs")
    clock.advance(-HOUR)
    with away(outbox.engine), pytest.raises(OSError, match="away"):
        sender.run_once()
    assert sender.run_once() == 1
    assert outbox.row().state == "sent"


@contextmanager
def away(engine: sa.Engine) -> Iterator[None]:
    def refuse(_connection: sa.Connection) -> None:
        raise OSError("the database is away")

    sa.event.listen(engine, "begin", refuse)
    yield
    sa.event.remove(engine, "begin", refuse)


def test_who_is_started_after_the_clock_was_set_back_does_not_wait_either(
    outbox: Outbox, pacs: Pacs
) -> None:
    clock, steady = Clock(), Steady()
    outbox.put("pacs")
    clock.advance(-HOUR)
    sender = sender_to(pacs, outbox, clock, steady)
    assert sender.run_once() == 1
    assert outbox.row().state == "sent"


def test_what_somebody_has_taken_since_is_left_to_them(outbox: Outbox, pacs: Pacs) -> None:
    clock, steady = Clock(), Steady()
    sender = sender_to(pacs, outbox, clock, steady)
    clock.advance(HOUR)
    assert sender.run_once() == 0
    outbox.put("pacs")
    clock.advance(-HOUR)
    with outbox.engine.begin() as connection:
        taken = claim(
            connection, "pacs", ["sr"], [DeliveryState.PENDING],
            now=clock.now, leased_until=clock.now + timedelta(minutes=2),
        )  # fmt: skip
    assert len(taken) == 1
    assert sender.run_once() == 0
    assert pacs.received == []
