"""``preread send`` and ``preread rules``: images out by hand, and where they would go."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from db.completeness import Sender
from inference.catalogue import open_catalogue
from scp import Peer, examine, send_files
from scp.errors import ScpError
from scp.facts import Examined

from .. import settings
from ..errors import DeployError
from ..own_results import device_uids
from .options import Config
from .rules_told import blocks

NOT_ALL_SENT_STATUS = 1

_rules = typer.Typer(help="Routing rules.", no_args_is_help=True)

Files = Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("send")(send)
    app.add_typer(_rules, name="rules")


def send(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where to send to.")],
    files: Files,
    called: Annotated[str, typer.Option("--called", help="AE title to call.")] = "PREREAD",
    calling: Annotated[str, typer.Option("--calling", help="AE title to call with.")] = "PREREAD",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the peer.")] = 60.0,
) -> None:
    """Send files by C-STORE, as they are; exit status 1 if any was not stored."""
    host, port = _address(address)
    paths = list(_expand(files))
    peer = Peer(host=host, port=port, called_ae=called, calling_ae=calling, timeout=timeout)
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("sending", total=len(paths))
        report = send_files(peer, paths, lambda _outcome: progress.advance(task))
    for outcome in report.outcomes:
        if not outcome.ok:
            print(f"preread: {outcome.path}: {outcome.error}", file=sys.stderr)
    if report.failure is not None:
        print(f"preread: {report.failure}", file=sys.stderr)
    stored = sum(outcome.ok for outcome in report.outcomes)
    print(f"{stored} of {len(paths)} stored by {called} at {address}")
    if not report.ok:
        raise typer.Exit(NOT_ALL_SENT_STATUS)


@_rules.command("test")
def test(
    files: Files,
    calling: Annotated[
        str | None, typer.Option("--calling", help="AE title that sends them.", show_default=False)
    ] = None,
    called: Annotated[
        str | None,
        typer.Option(
            "--called", help="AE title that it calls; else scp.ae_title.", show_default=False
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Say for each series of files which model would read it, which rules hold or not, and why.

    Images of one series of which the rules say the same are joined. A series goes to every model
    that a rule gives one of its images to; of a long one the node asks up to 16 headers.
    """
    # The job engine takes a second to import, and only this needs it.
    from ..receiving import usable_rules

    loaded = settings.load(config)
    bundles = open_catalogue(loaded.inference, loaded.model)
    rules = usable_rules(loaded, bundles)
    own = device_uids(bundle.identity for bundle in bundles.values())
    senders = _senders(calling, called, loaded.scp.ae_title)
    examined: list[Examined] = []
    failed = False
    for path in _expand(files):
        try:
            examined.append(examine(path, rules, own, senders))
        except (OSError, ScpError) as error:
            failed = True
            print(f"preread: {error}", file=sys.stderr)
    for block in blocks(examined):
        print(block)
    if failed:
        raise typer.Exit(NOT_ALL_SENT_STATUS)


def _senders(calling: str | None, called: str | None, own: str) -> tuple[Sender, ...]:
    if calling is None and called is None:
        return ()
    return (Sender(calling or "", called or own),)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise DeployError(f"{text!r} is no HOST:PORT, such as 127.0.0.1:11112")
    return host.strip("[]"), int(port)


def _expand(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(inner for inner in path.rglob("*") if inner.is_file())
        elif path.exists():
            yield path
        else:
            raise DeployError(f"{path} does not exist")
