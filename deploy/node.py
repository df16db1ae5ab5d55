"""The processes of a node: ``up`` and its parts ``scp``, ``worker`` and ``deliver``.

Light: each part imports what it needs, in the order in which it needs it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from inference.endings import Ending

from . import garbage, logs, settings
from .acceptors import acceptor_name, reserved_port
from .huge_pages import for_huge_pages
from .supervisor import Part, PartEnd, Supervisor

if TYPE_CHECKING:
    from .ground import Ground

_GRACE_SECONDS = 60.0


def up(config: Path | None, port: int | None, ae_title: str | None, data_dir: Path | None) -> None:
    """Run a whole node: receive, analyse and deliver, each in a process that is kept running.

    Parameters
    ----------
    config : Path or None
        Settings file.
    port, ae_title, data_dir
        Stand in for what the settings say.
    """
    flags = _flags(port, ae_title, data_dir)
    loaded = settings.load(config, flags)
    # The order in which they are told to stop: nothing new comes while the rest ends.
    parts = [*acceptor_parts(loaded), *worker_parts(loaded), _part("deliver")]
    _supervise("up", parts, loaded, config, flags)


def scp(
    config: Path | None,
    port: int | None,
    ae_title: str | None,
    data_dir: Path | None,
    acceptor: int | None,
) -> None:
    """Run the part that receives, completes series and routes them; `acceptor` says which one."""
    flags = _flags(port, ae_title, data_dir)
    if acceptor is None:
        loaded = settings.load(config, flags)
        if loaded.n_acceptors > 1:
            _supervise("acceptors", acceptor_parts(loaded), loaded, config, flags)
            return
    from .receiving import serve_scp

    number = acceptor or 0
    with (
        _process(acceptor_name(number), config, flags, may_be_away=True) as (base, stop),
        # An acceptor of a supervisor leaves answering to that one.
        _metrics(base.settings) if acceptor is None else nullcontext(),
    ):
        serve_scp(base, stop, number)


def worker(config: Path | None, data_dir: Path | None, number: int | None) -> Ending:
    """Run the part that analyses; `number` says which of several workers; return why it ended."""
    flags = _flags(None, None, data_dir)
    if number is None:
        loaded = settings.load(config, flags)
        if len(parts := worker_parts(loaded)) > 1:
            _supervise("workers", parts, loaded, config, flags)
            return Ending.STOPPED
    garbage.hold()
    from .analysing import serve_worker
    from .worker_parts import worker_name, worker_places

    with _process(worker_name(number or 0), config, flags) as (base, stop):
        # What a supervisor counted may be there no more: then the last place is taken twice.
        places = worker_places(base.settings)
        return serve_worker(base, stop, places[min(number or 0, len(places) - 1)])


def deliver(config: Path | None, data_dir: Path | None) -> None:
    """Run the part that delivers results to the destinations."""
    garbage.hold()
    from .delivering import serve_deliver

    with _process("deliver", config, _flags(None, None, data_dir)) as (base, stop):
        serve_deliver(base, stop)


def acceptor_parts(loaded: settings.Settings) -> list[Part]:
    """Return the processes that receive."""
    return [
        Part(acceptor_name(number), [*_part("scp").command, "--acceptor", str(number)])
        for number in range(loaded.n_acceptors)
    ]


def worker_parts(loaded: settings.Settings) -> list[Part]:
    """Return the processes that analyse."""
    from .worker_parts import worker_places

    huge = for_huge_pages(os.environ)
    return [
        Part(place.name, [*_part("worker").command, "--number", str(place.number)], huge)
        for place in worker_places(loaded)
    ]


def _part(name: str) -> Part:
    return Part(name, [sys.executable, "-m", "deploy", name])


def _supervise(
    name: str,
    parts: Sequence[Part],
    loaded: settings.Settings,
    config: Path | None,
    flags: dict[str, Any],
) -> None:
    logs.configure(loaded.log, name)
    environment = dict(os.environ) | _as_variables(flags)
    environment["PREREAD_PARENT"] = str(os.getpid())
    path = settings.config_path(config)
    if path is not None:
        environment[settings.CONFIG_VARIABLE] = str(path)
    if loaded.log.format == "auto" and sys.stderr.isatty():
        environment["PREREAD_LOG__FORMAT"] = "console"
    stop = _stop_on_signals()
    _prepare(loaded)
    receives = parts[0].name == acceptor_name(0)
    with ExitStack() as stack:
        if receives and loaded.n_acceptors > 1:
            stack.enter_context(reserved_port(loaded.scp.host, loaded.scp.port))
        # Whoever receives answers Prometheus.
        ended = stack.enter_context(_metrics(loaded)) if receives else _nobody_counts
        counted = _counted_ends(loaded) if receives else _nobody_counts
        told = stack.enter_context(_told_of_ends(loaded, parts, counted))

        def on_end(end: PartEnd) -> None:
            ended(end.name)
            told(end)

        Supervisor(parts, environment, _GRACE_SECONDS, on_end, at_once=(Ending.RECYCLED,)).run(stop)


def _nobody_counts(_name: str) -> None:
    """Do not count."""


def _told_of_ends(
    loaded: settings.Settings, parts: Sequence[Part], counted: Callable[[str], None]
) -> AbstractContextManager[Callable[[PartEnd], None]]:
    """Return what is told of workers that were killed, as long as the block goes on."""
    from .worker_ends import told_of_ends

    workers = {part.name for part in parts if "worker" in part.command}
    return told_of_ends(loaded, workers, counted)


def _counted_ends(loaded: settings.Settings) -> Callable[[str], None]:
    """Return what counts how workers ended, if that is asked for."""
    if not loaded.metrics.port:
        return _nobody_counts
    from .worker_metrics import count_ends

    return count_ends(loaded)


@contextmanager
def _metrics(loaded: settings.Settings) -> Iterator[Callable[[str], None]]:
    """Answer Prometheus, if that is asked for; yield what is to be told of parts that ended."""
    if not loaded.metrics.port:
        yield lambda name: None
        return
    from .exporter import exporter

    with exporter(loaded) as ended:
        yield ended


@contextmanager
def _process(
    name: str, config: Path | None, flags: dict[str, Any], *, may_be_away: bool = False
) -> Iterator[tuple[Ground, Event]]:
    """Be one process of the node: yield what it stands on, and what is set to stop it."""
    from .ground import ground
    from .orphans import end_with_parent

    stop = _stop_on_signals()
    end_with_parent()
    loaded = settings.load(config, flags)
    logs.configure(loaded.log, name)
    with ground(loaded, may_be_away=may_be_away) as base:
        yield base, stop


def _prepare(loaded: settings.Settings) -> None:
    """Fail before anything is started if a part could not start, and only once."""
    from inference.catalogue import open_catalogue
    from scp.tls import server_context

    from .ground import ground
    from .receiving import usable_rules

    usable_rules(loaded, open_catalogue(loaded.inference, loaded.model))
    server_context(loaded.scp)
    with ground(loaded, pool_size=1, may_be_away=True):
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
