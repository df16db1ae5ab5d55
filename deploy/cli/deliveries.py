"""``preread deliveries`` and ``preread destinations``: results on their way, and where to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from db import dead_letters
from db.dead_letters import Letter
from db.query import rows_of
from db.schema import DeliveryState
from db.views import VIEWS
from scp.places import places
from scp.settings import DestinationSettings

from .. import settings
from ..errors import DeployError
from .options import Config, opened
from .output import Format, print_csv, print_json, require_unicode, short_uid, wide_console

_deliveries = typer.Typer(help="Results on their way to the destinations.", no_args_is_help=True)

DeliveryNumber = Annotated[
    int, typer.Argument(min=1, max=2**31 - 1, help="Number of the delivery.")
]
_NO_SUCH = "there is no dead letter {} to be tried again; see preread deliveries list and show"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_deliveries, name="deliveries")
    app.command("destinations")(list_destinations)


@_deliveries.command("list")
def list_deliveries(
    config: Config = None,
    state: Annotated[
        DeliveryState | None, typer.Option(help="State of the delivery; without one all.")
    ] = None,
    study: Annotated[str | None, typer.Option(help="Study Instance UID.")] = None,
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.TABLE,
) -> None:
    """Print deliveries, the latest first; JSON and CSV have the columns of v_deliveries."""
    require_unicode(study)
    given = {"state": state and state.value, "study_instance_uid": study}
    equals = {name: value for name, value in given.items() if value is not None}
    with opened(config) as engine, engine.connect() as connection:
        rows = rows_of(connection, "v_deliveries", order_by="delivery_id", equals=equals)
    if format is Format.JSON:
        print_json(rows)
    elif format is Format.CSV:
        print_csv([*VIEWS["v_deliveries"]], rows)
    else:
        _print_deliveries(rows)


def _print_deliveries(rows: Sequence[Mapping[str, Any]]) -> None:
    names = (
        "delivery",
        "destination",
        "study",
        "kind",
        "state",
        "proof",
        "attempts",
        "asked",
        "why",
    )
    table = _table(*names)
    for row in rows:
        table.add_row(
            str(row["delivery_id"]),
            row["destination"],
            short_uid(row["study_instance_uid"]),
            row["kind"],
            row["state"],
            row["proof"] or "",
            str(row["n_attempts"]),
            _time(row["created_at"]),
            row["last_error"] or "",
        )
    wide_console().print(table if rows else "no deliveries")


@_deliveries.command("show")
def show_delivery(delivery: DeliveryNumber, config: Config = None) -> None:
    """Say in words how a delivery stands, why, and what can be done."""
    with opened(config) as engine, engine.connect() as connection:
        letter = dead_letters.explain(connection, delivery)
        if letter is None:
            raise DeployError(f"there is no delivery {delivery}; see preread deliveries list")
        named = {"destination": letter.destination}
        health = rows_of(connection, "v_destinations", order_by="destination", equals=named)
    place = _places(config).get(letter.destination)
    for line in _words(letter, health[0] if health else None, place):
        print(line)


def _words(
    letter: Letter, health: dict[str, Any] | None, place: DestinationSettings | None
) -> Iterator[str]:
    what = f"{letter.kind} {letter.sop_instance_uid} of study {letter.study_instance_uid}"
    yield f"delivery {letter.id}: {what}"
    yield f"to {_address(letter.destination, place)}, asked for {_time(letter.created_at)} UTC"
    yield f"state: {_state(letter, health)}"
    yield f"attempts: {letter.n_attempts}" + (
        f", last status {letter.last_status}" if letter.last_status else ""
    )
    yield from (f"why: {reason}" for reason in _reasons(letter, health))
    yield f"file: {letter.path}, of analysis {letter.analysis_id[:12]}"
    yield f"SOP class: {letter.sop_class_uid}"
    if (way_out := _way_out(letter, place)) is not None:
        yield f"way out: {way_out}"


def _address(name: str, place: DestinationSettings | None) -> str:
    if place is None:
        return f"{name} (not in the settings)"
    if place.url is not None:
        return f"{name} (STOW-RS)"
    return f"{name} ({place.ae_title} at {place.host}:{place.port})"


def _state(letter: Letter, health: Mapping[str, Any] | None) -> str:
    if letter.state == DeliveryState.COMMITTED:
        return f"committed, proved by {letter.proof} {_time(letter.committed_at)} UTC"
    if letter.state == DeliveryState.SENT:
        return f"sent, answered with success {_time(letter.sent_at)} UTC, not proved"
    if letter.state == DeliveryState.DEAD:
        return "dead, given up"
    until = f", given up {_time(letter.deadline_at)} UTC" if letter.deadline_at else ""
    # A destination that cannot be reached is tried for all that waits for it at once.
    reached = health["next_attempt_at"] if health is not None else None
    next_ = max(_time(letter.next_attempt_at), _time(reached))
    return f"pending, next attempt {next_} UTC{until}"


def _reasons(letter: Letter, health: dict[str, Any] | None) -> Iterator[str]:
    if letter.last_error:
        yield letter.last_error
    if letter.fault and letter.replaced_by is None:
        yield f"the object has a fault: {letter.fault}"
    elif letter.fault:
        yield letter.fault
    for reason in letter.refusals:
        yield f"storage commitment was answered with {reason}"
    if letter.n_unanswered:
        yield f"storage commitment: {letter.n_unanswered} request(s) not answered"
    if health is not None and health["state"] != "working":
        since = _time(health["failing_since"])
        why = health["last_error"] if health["last_error"] != letter.last_error else "see above"
        yield f"the destination is {health['state']} since {since} UTC: {why}"


def _way_out(letter: Letter, place: DestinationSettings | None) -> str | None:
    if place is None and letter.state in (DeliveryState.PENDING, DeliveryState.DEAD):
        return f"nothing is sent to {letter.destination} until it is in the settings again"
    if letter.state != DeliveryState.DEAD:
        return None
    if letter.replaced_by is not None:
        return f"none is needed: {letter.replaced_by} took its place and is delivered instead"
    retry = f"preread deliveries retry {letter.id}"
    if letter.fault:
        return (
            "the object must not leave as it is; bring its file back from a backup or have the "
            f"series analysed again, then: {retry}"
        )
    return f"when the destination takes it (preread doctor): {retry}"


@_deliveries.command("retry")
def retry_delivery(
    delivery: Annotated[
        int | None, typer.Argument(min=1, max=2**31 - 1, help="Number of the delivery.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    destination: Annotated[
        str | None, typer.Option(help="With --all: only those of this destination.")
    ] = None,
    config: Config = None,
) -> None:
    """Try a dead letter again, or all of them, with all their attempts."""
    if (delivery is None) is not every:
        raise DeployError("name the number of a delivery, or --all")
    if destination is not None and not every:
        raise DeployError("--destination goes with --all")
    known, now = _places(config), datetime.now(UTC)
    with opened(config) as engine, engine.begin() as connection:
        names = [destination] if destination else dead_letters.destinations_of_dead(connection)
        n_revived = sum(
            dead_letters.retry(
                connection, now, delivery_id=delivery, destination=name,
                deadline_hours=known[name].deadline_hours if name in known else None,
            )
            for name in names
        )  # fmt: skip
    if delivery is None:
        print(f"{n_revived} dead letters are pending again")
    elif n_revived:
        print(f"delivery {delivery} is pending again")
    else:
        raise DeployError(_NO_SUCH.format(delivery))


def list_destinations(config: Config = None) -> None:
    """Print the destinations: whether they can be reached, and what waits for them."""
    known = _places(config)
    with opened(config) as engine, engine.connect() as connection:
        rows = rows_of(connection, "v_destinations", order_by="destination")
    used = {row["destination"]: row for row in rows}
    names = ("destination", "state", "since", "next", "pending", "sent", "committed", "dead",
             "last success", "why")  # fmt: skip
    table = _table(*names)
    for name in sorted({*known, *used}):
        table.add_row(name, *_health_cells(used.get(name), is_known=name in known))
    wide_console().print(table if known or used else "no destinations")


def _health_cells(row: dict[str, Any] | None, *, is_known: bool) -> list[str]:
    if row is None:
        return ["not used yet", "", "", "0", "0", "0", "0", "", ""]
    state, why = row["state"], row["last_error"] or ""
    if not is_known:
        state = "not in the settings"
        if row["n_pending"]:
            why = "nobody delivers there; given up at their deadlines"
    counts = [str(row[f"n_{state}"]) for state in DeliveryState]
    times = [_time(row["failing_since"]), _time(row["next_attempt_at"])]
    return [state, *times, *counts, _time(row["last_success_at"]), why]


def _places(config: Path | None) -> dict[str, DestinationSettings]:
    loaded = settings.load(config)
    return {place.name: place for place in places(loaded.destination, loaded.ae)}


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""
