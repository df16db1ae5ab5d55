"""``preread up`` and its parts ``scp``, ``worker`` and ``deliver``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import node
from .options import Config

Port = Annotated[int | None, typer.Option(help="Overrides scp.port.", show_default=False)]
AeTitle = Annotated[
    str | None, typer.Option("--ae-title", help="Overrides scp.ae_title.", show_default=False)
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Overrides data_dir.", show_default=False)
]
# Tells a process that a supervisor has started which of several acceptors it is.
Acceptor = Annotated[int | None, typer.Option("--acceptor", min=0, hidden=True)]
# The same of several workers.
Number = Annotated[int | None, typer.Option("--number", min=0, hidden=True)]


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
    node.up(config, port, ae_title, data_dir)


def scp(
    config: Config = None,
    port: Port = None,
    ae_title: AeTitle = None,
    data_dir: DataDir = None,
    acceptor: Acceptor = None,
) -> None:
    """Run the part that receives, completes series and routes them."""
    node.scp(config, port, ae_title, data_dir, acceptor)


def worker(config: Config = None, data_dir: DataDir = None, number: Number = None) -> None:
    """Run the part that analyses: a process for each GPU, or for each socket.

    Status 70 to 73: one that runs by itself wants to be started anew.
    """
    if status := node.worker(config, data_dir, number):
        raise typer.Exit(int(status))


def deliver(config: Config = None, data_dir: DataDir = None) -> None:
    """Run the part that delivers results to the destinations."""
    node.deliver(config, data_dir)
