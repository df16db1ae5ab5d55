"""``preread show`` with the end of a UID, as ``preread results`` prints it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from db import create_engine
from db.migrate import upgrade
from db.schema import Analysis, ResultObject, Series, Study
from deploy.cli import app
from deploy.cli.output import short_uid
from deploy.errors import DeployError
from inference.training.phantoms.files import write_chest

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
STUDY, OTHER, SHORT = "1.2.840.77.201539293187", "1.2.840.78.301539293187", "1.9"
OBJECT = "2.25.4400123456"


@pytest.fixture
def show(tmp_path: Path) -> Callable[..., str]:
    engine = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}")
    upgrade(engine)
    seen = {"received_at": NOW, "last_received_at": NOW}
    write_chest(tmp_path / "results", 1, size=64)
    (image,) = (tmp_path / "results").rglob("*.dcm")
    with engine.begin() as connection:
        for study in (STUDY, OTHER, SHORT):
            connection.execute(sa.insert(Study).values(study_instance_uid=study, **seen))
        connection.execute(
            sa.insert(Series).values(
                series_instance_uid="1.2", study_instance_uid=STUDY, trace_id="t",
                first_received_at=NOW, last_received_at=NOW,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(Analysis).values(
                id="a" * 64, study_instance_uid=STUDY, series_instance_uid="1.2",
                model_name="m", model_version="1", weights_sha256="0", configuration_digest="0",
                instance_digest="0", version=1, priority="routine", trace_id="t",
                received_at=NOW, requested_at=NOW,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(ResultObject).values(
                analysis_id="a" * 64, kind="sc", sop_class_uid="1.9", sop_instance_uid=OBJECT,
                series_instance_uid="2.25.99", path=str(image.relative_to(tmp_path)),
                size_bytes=1, sha256="0", created_at=NOW,
            )
        )  # fmt: skip
    engine.dispose()
    config = tmp_path / "preread.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n')

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["show", *arguments, "--config", str(config)])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return call


@pytest.mark.parametrize("text", [STUDY, short_uid(STUDY), "201539293187", "...7.201539293187"])
def test_a_study_is_shown_by_the_end_of_its_uid(show: Callable[..., str], text: str) -> None:
    assert show(text).startswith(f"study {STUDY}:")


def test_a_study_says_of_what_is_on_trial_that_nothing_is_delivered(
    show: Callable[..., str], tmp_path: Path
) -> None:
    assert "shadow" not in show(STUDY)
    engine = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}")
    with engine.begin() as connection:
        connection.execute(sa.update(Analysis).values(shadow=True))
    engine.dispose()
    assert "m 1, version 1: pending, shadow: nothing of it is delivered\n" in show(STUDY)


@pytest.mark.parametrize("text", [OBJECT, "...123456", "123456", "…0123456"])
def test_an_object_is_shown_by_the_end_of_its_uid(show: Callable[..., str], text: str) -> None:
    assert "sop class: Computed Radiography" in show(text)


def test_a_whole_uid_is_itself_however_short(show: Callable[..., str]) -> None:
    assert show(SHORT).startswith(f"study {SHORT}:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("...01539293187", r"ends 2 UIDs of this node, 2 of studies and 0 of result objects"),
        ("39293187", r"give more digits"),
        ("23456", r"at least 6 digits"),
        (" ", r"nothing is named: give the UID of a study or result object"),
        ("999999", r"no file, and no result object or study"),
        ("12345%", r"no file, and no result object or study"),
    ],
)
def test_what_is_no_one_end_is_said(show: Callable[..., str], text: str, said: str) -> None:
    with pytest.raises(DeployError, match=said):
        show(text)
