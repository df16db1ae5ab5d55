"""Options that several commands share, and the database that they name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from db import create_engine
from db.migrate import check

from .. import settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings file (TOML). Without one: $PREREAD_CONFIG, else ./preread.toml if there.",
        show_default=False,
    ),
]


@contextmanager
def opened(config: Path | None) -> Iterator[sa.Engine]:
    """Open the database of the settings, if its schema is of this version."""
    engine = create_engine(settings.load(config).db_url)
    try:
        check(engine)
        yield engine
    finally:
        engine.dispose()
