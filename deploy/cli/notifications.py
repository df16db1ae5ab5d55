"""``preread notifications``: who was told of findings, and who could not be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from db import notifications
from db.query import rows_of
from db.schema import NotificationState

from .. import settings
from ..errors import DeployError, NotifyError
from .options import Config, opened
from .output import short_uid, wide_console

_notifications = typer.Typer(
    help="Notifications of findings, to a webhook or by HL7.", no_args_is_help=True
)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_notifications, name="notifications")


@_notifications.command("list")
def list_notifications(
    config: Config = None,
    state: Annotated[
        NotificationState | None, typer.Option(help="State of the notification; without one all.")
    ] = None,
) -> None:
    """Print notifications, the latest first."""
    with opened(config) as engine, engine.connect() as connection:
        equals = {} if state is None else {"state": state.value}
        rows = rows_of(connection, "v_notifications", order_by="notification_id", equals=equals)
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("notification", "target", "study", "model", "state", "attempts", "status", "asked",
               "why")  # fmt: skip
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(
            str(row["notification_id"]),
            row["target"],
            short_uid(row["study_instance_uid"]),
            row["model_name"],
            row["state"],
            str(row["n_attempts"]),
            row["last_status"] or "",
            f"{row['created_at']:%Y-%m-%d %H:%M:%S}",
            row["last_error"] or "",
        )
    wide_console().print(table if rows else "no notifications")


@_notifications.command("retry")
def retry_notification(
    notification: Annotated[
        int, typer.Argument(min=1, max=2**31 - 1, help="Number of the notification.")
    ],
    config: Config = None,
) -> None:
    """Try a dead letter again, with all its attempts and all its time."""
    with opened(config) as engine, engine.begin() as connection:
        if not notifications.retry(connection, notification, datetime.now(UTC)):
            raise DeployError(
                f"there is no dead letter {notification}; see preread notifications list"
            )
    print(f"notification {notification} is pending again")


@_notifications.command("test")
def test_target(
    name: Annotated[str, typer.Argument(help="Name of a notify section of the settings.")],
    config: Config = None,
) -> None:
    """Send one message that is marked as a test, of nobody; exit status 2 if it is not accepted.

    A webhook gets the event "test"; an HL7 message has T in MSH-11 and names the patient
    PREREAD-TEST. Nothing is entered in the database.
    """
    from ..notify.message import test_message
    from ..notify.notifier import channel_of

    targets = {target.name: target for target in settings.load(config).notify}
    if name not in targets:
        known = ", ".join(targets) or "none"
        raise DeployError(f"there is no [[notify]] {name!r} in the settings; there are: {known}")
    message = test_message(datetime.now(UTC))
    try:
        status = channel_of(targets[name]).send(message)
    except NotifyError as error:
        raise DeployError(f"{name}: {error.in_full}") from None
    print(f"{name} accepted test message {message.identifier} ({status})")
