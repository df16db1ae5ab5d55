"""The page on models is true: every example is accepted, its SQL runs, its transforms are known."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import sqlalchemy as sa

from db import create_engine
from db.migrate import upgrade
from deploy.settings import Settings
from inference.outputs import parse_outputs
from inference.zoo import labels
from inference.zoo_planes import KNOWN_OF_PLANES
from inference.zoo_transforms import KNOWN

PAGE = (Path(__file__).parents[2] / "deploy" / "docs" / "models.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_every_example_is_accepted() -> None:
    assert len(EXAMPLES) == 7
    for example in EXAMPLES:
        settings = Settings.model_validate(tomllib.loads(example))
        for model in settings.model:
            named = model.section.get("labels", [])
            assert len(parse_outputs(labels(named, {}))) == len(named) if named else True


def test_its_sql_runs(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'x.sqlite'}")
    upgrade(engine)
    (statement,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    with engine.connect() as connection:
        assert connection.execute(sa.text(statement)).all() == []
    engine.dispose()


def test_it_names_every_transform_that_is_taken_over() -> None:
    for name in {**KNOWN, **KNOWN_OF_PLANES}:
        assert f"`{name}d`" in PAGE, name
