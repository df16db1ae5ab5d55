"""Running a command: an expected error is one line and an exit status of its kind."""

from __future__ import annotations

import sys
from collections.abc import Callable

import sqlalchemy as sa

from db import DatabaseError
from db.errors import DatabaseSettingsError, SchemaVersionError
from inference.errors import InferenceError
from scp.errors import ScpError

from ..errors import DeployError

# What a person can mend: settings, arguments, models, a schema of another version.
_WRONG = (DeployError, InferenceError, ScpError, SchemaVersionError, DatabaseSettingsError)
USAGE_STATUS = 2
# What mends itself, or elsewhere: a database or a disk that is away. EX_TEMPFAIL of sysexits.h.
AWAY_STATUS = 75


def run(command: Callable[[], object]) -> None:
    """Run the command line, or one command."""
    try:
        command()
    except _WRONG as error:
        _refuse(str(error), USAGE_STATUS)
    except DatabaseError as error:
        _refuse(str(error), AWAY_STATUS)
    except sa.exc.OperationalError as error:
        # The driver's text says where and why; it carries no patient data before a connection.
        reason = " ".join(str(error.orig).split())
        _refuse(f"the database cannot be used: {reason}", AWAY_STATUS)
    except BrokenPipeError:
        # The reader of our output has gone, as with `preread results | head`.
        sys.stderr.close()
        sys.exit(AWAY_STATUS)
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse(reason: str, status: int) -> None:
    print(f"preread: {reason}", file=sys.stderr)
    sys.exit(status)
