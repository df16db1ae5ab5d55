"""``preread up`` and its parts ``scp``, ``worker`` and ``deliver``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from .. import logs, settings
from ..supervisor import Part, Supervisor
from .options import Config

_GRACE_SECONDS = 60.0
# The order in which they are started, and told to stop: nothing new comes while the rest ends.
_ORDER = ("scp", "worker", "deliver")

Port = Annotated[int | None, typer.Option(help="Overrides scp.port.", show_default=False)]
AeTitle = Annotated[
    str | None, typer.Option("--ae-title", help="Overrides scp.ae_title.", show_default=False)
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Overrides data_dir.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("scp")(scp)
    app.command("worker")(worker)
    app.command("deliver")(deliver)


def up(
    config: Config = None,
    port: Port = None,
    ae_title: AeTitle = None,
    data_dir: DataDir = None,
) -> None:
    """Run a whole node: receive, analyse and deliver, each in a process that is kept running."""
    flags = _flags(port, ae_title, data_dir)
    loaded = settings.load(config, flags)
    logs.configure(loaded.log, "up")
    environment = dict(os.environ) | _as_variables(flags)
    environment["PREREAD_PARENT"] = str(os.getpid())
    path = settings.config_path(config)
    if path is not None:
        environment[settings.CONFIG_VARIABLE] = str(path)
    if loaded.log.format == "auto" and sys.stderr.isatty():
        environment["PREREAD_LOG__FORMAT"] = "console"
    _prepare(loaded)
    parts = [Part(name, [sys.executable, "-m", "deploy", name]) for name in _ORDER]
    Supervisor(parts, environment, _GRACE_SECONDS).run(_stop_on_signals())


def scp(
    config: Config = None,
    port: Port = None,
    ae_title: AeTitle = None,
    data_dir: DataDir = None,
) -> None:
    """Run the part that receives, completes series and routes them."""
    _serve("scp", config, _flags(port, ae_title, data_dir))


def worker(config: Config = None, data_dir: DataDir = None) -> None:
    """Run a part that analyses; one for each GPU."""
    _serve("worker", config, _flags(None, None, data_dir))


def deliver(config: Config = None, data_dir: DataDir = None) -> None:
    """Run the part that delivers results to the destinations."""
    _serve("deliver", config, _flags(None, None, data_dir))


def _serve(part: str, config: Path | None, flags: dict[str, Any]) -> None:
    from ..node import PARTS, ground
    from ..orphans import end_with_parent

    stop = _stop_on_signals()
    end_with_parent()
    loaded = settings.load(config, flags)
    logs.configure(loaded.log, part)
    with ground(loaded) as base:
        PARTS[part](base, stop)


def _prepare(loaded: settings.Settings) -> None:
    """Fail before anything is started if a part could not start, and only once."""
    from inference.catalogue import open_catalogue

    from ..node import ground, usable_rules

    usable_rules(loaded, open_catalogue(loaded.inference, loaded.model))
    with ground(loaded, pool_size=1):
        pass


def _stop_on_signals() -> Event:
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop


def _flags(port: int | None, ae_title: str | None, data_dir: Path | None) -> dict[str, Any]:
    flags: dict[str, Any] = {}
    received = {"port": port, "ae_title": ae_title}
    given = {name: value for name, value in received.items() if value is not None}
    if given:
        flags["scp"] = given
    if data_dir is not None:
        flags["data_dir"] = data_dir
    return flags


def _as_variables(flags: dict[str, Any], prefix: str = settings.PREFIX) -> dict[str, str]:
    """Return flags as the environment variables by which the parts get them."""
    variables: dict[str, str] = {}
    for name, value in flags.items():
        if isinstance(value, dict):
            variables |= _as_variables(value, f"{prefix}{name.upper()}__")
        else:
            variables[f"{prefix}{name.upper()}"] = str(value)
    return variables
