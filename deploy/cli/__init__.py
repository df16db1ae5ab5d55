"""The command ``preread``.

Importing everything that all commands need takes longer than many of them run, and a worker than it
may take to its first result: a command brings its own modules alone, the help all of them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from .. import garbage
from ..arithmetic import one_thread_for_small_products
from ..huge_pages import begin_again_for_huge_pages
from .direct import direct

# The modules, in the order of the help, and their commands.
PARTS = {
    "serve": ("up", "scp", "worker", "deliver"),
    "exchange": ("send", "rules"),
    "results": ("results",),
    "show": ("show",),
    "explain": ("explain",),
    "associations": ("associations",),
    "commitments": ("commitments",),
    "jobs": ("jobs",),
    "deliveries": ("deliveries", "destinations"),
    "notifications": ("notifications",),
    "reissue": ("reissue",),
    "database": ("db",),
    "training": ("train",),
    "evaluate": ("evaluate",),
    "predict": ("predict",),
    "phantoms": ("phantoms",),
    "reference": ("reference",),
    "models": ("models",),
    "headers": ("headers",),
    "doctor": ("doctor",),
    "demo": ("demo",),
}

# Of these, the commands that run networks for longer than it takes to begin again.
_RUN_NETWORKS = ("worker", "train", "evaluate", "predict")

_HELP = "The AI pre-read for a hospital's PACS."

if TYPE_CHECKING:
    import typer

    app: typer.Typer


def main() -> None:
    """Run the command line; an expected error is one line and an exit status of its kind."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in _RUN_NETWORKS:
        begin_again_for_huge_pages(arguments)
    one_thread_for_small_products()
    with garbage.paused():
        from .run import run

        asked = direct(arguments) or command_line(part_of(arguments))
    run(asked)


def part_of(arguments: list[str]) -> str | None:
    """Return the module of the command that is asked for; None for the help and what is unknown."""
    name = arguments[0] if arguments else ""
    return next((part for part, commands in PARTS.items() if name in commands), None)


def command_line(part: str | None = None) -> typer.Typer:
    """Return the command line: of one module, or whole."""
    import typer

    from .group import PlainGroup

    made = typer.Typer(
        name="preread",
        cls=PlainGroup,
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    # A command that stands alone would be run without its name.
    made.callback(help=_HELP)(_nothing)
    for name in PARTS if part is None else (part,):
        import_module(f".{name}", __name__).add_to(made)
    return made


def _nothing() -> None:
    """Do nothing before a command."""


def __getattr__(name: str) -> object:
    if name == "app":
        globals()["app"] = command_line()
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
