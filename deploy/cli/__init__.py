"""The command ``preread``."""

from __future__ import annotations

import sys

import sqlalchemy as sa
import typer

from db import DatabaseError
from inference import InferenceError
from scp.errors import ScpError

from ..errors import DeployError
from . import database, demo, doctor, exchange, jobs, results, serve, training

# What a person can mend. Everything else is a defect, and its traceback is wanted.
_EXPECTED = (DatabaseError, InferenceError, ScpError, DeployError)
USAGE_STATUS = 2

app = typer.Typer(
    name="preread",
    help="The AI pre-read for a hospital's PACS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (serve, exchange, results, jobs, database, training, doctor, demo):
    part.add_to(app)


def main() -> None:
    """Run the command line; an expected error is one line and exit status 2."""
    try:
        app()
    except _EXPECTED as error:
        _refuse(str(error))
    except sa.exc.OperationalError as error:
        # The driver's text says where and why; it carries no patient data before a connection.
        reason = " ".join(str(error.orig).split())
        _refuse(f"the database cannot be used: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse(reason: str) -> None:
    print(f"preread: {reason}", file=sys.stderr)
    sys.exit(USAGE_STATUS)
