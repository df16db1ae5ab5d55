"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings file (TOML). Without one: $PREREAD_CONFIG, else ./preread.toml if there.",
        show_default=False,
    ),
]
