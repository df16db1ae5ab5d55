"""``preread doctor``: is everything there that a node needs."""

from __future__ import annotations

import typer
from rich.console import Console

from .. import settings
from .options import Config

BAD_STATUS = 1
_STYLES = {"good": "green", "warning": "yellow", "bad": "bold red"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(config: Config = None) -> None:
    """Look for what would keep the node from working; exit status 1 if something would."""
    from ..check import Verdict
    from ..doctor import examine

    console = Console(soft_wrap=True, highlight=False)
    bad = False
    for check in examine(settings.load(config)):
        style = _STYLES[check.verdict.value]
        console.print(f"[{style}]{check.verdict.value:8}[/] {check.name:14}", end="")
        console.print(check.message, markup=False)
        bad = bad or check.verdict is Verdict.BAD
    if bad:
        raise typer.Exit(BAD_STATUS)
