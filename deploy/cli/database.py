"""``preread db``: the schema and the views."""

from __future__ import annotations

import typer

from db import create_engine
from db.migrate import current, head
from db.views import VIEWS

from .. import settings
from .options import Config

_db = typer.Typer(help="The database.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_db, name="db")


@_db.command("upgrade")
def upgrade(config: Config = None) -> None:
    """Bring the schema up to date; safe to repeat."""
    from ..node import upgrade_all

    engine = create_engine(settings.load(config).db_url)
    before = current(engine)
    upgrade_all(engine)
    print(f"schema {before or 'empty'} -> {head()}")


@_db.command("views")
def views() -> None:
    """Print what each column of the SQL views means."""
    for name, columns in VIEWS.items():
        print(name)
        for column, meaning in columns.items():
            print(f"  {column:22} {meaning}")
