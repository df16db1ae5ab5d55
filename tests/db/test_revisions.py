"""Revisions told without alembic are those that alembic tells."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from db import create_engine
from db.migrate import upgrade
from db.revisions import VERSIONS, current, head


def test_the_head_is_that_of_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    assert head() == ScriptDirectory.from_config(config).get_current_head()


def test_the_revision_of_a_database_is_that_of_alembic(database_url: str) -> None:
    engine = create_engine(database_url)
    assert current(engine) is None
    for revision in ("0001", "head"):
        upgrade(engine, revision)
        with engine.connect() as connection:
            told = MigrationContext.configure(connection).get_current_revision()
        assert current(engine) == told
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM alembic_version"))
    assert current(engine) is None
    engine.dispose()


@pytest.mark.parametrize(
    "scripts",
    [
        {},
        {
            "a": 'revision = "1"\ndown_revision = None\n',
            "b": 'revision = "2"\ndown_revision = None\n',
        },
        {"a": "revision = None\n"},
    ],
)
def test_what_has_no_head_is_no_folder_of_revisions(
    scripts: dict[str, str], tmp_path: Path
) -> None:
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(ValueError, match="revision"):
        head(tmp_path)


def test_an_annotated_script_of_alembic_is_understood(tmp_path: Path) -> None:
    first = 'revision: str = "1"\ndown_revision: str | None = None\n'
    second = 'revision: str = "2"\ndown_revision: str | None = "1"\n'
    (tmp_path / "1.py").write_text(first)
    (tmp_path / "2.py").write_text(second)
    assert head(tmp_path) == "2"
