"""The top of the command line: what is wrong with an option is said without words of a library."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

# What pydantic, by which typer checks values, puts before a message.
_PREFIX = "Value error, "


class PlainGroup(TyperGroup):
    """A group of commands whose mistakes in options are told in our words."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.replace(_PREFIX, "")
            raise
