"""``preread commitments list``: for a person and for a program."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db import commitments_asked, create_engine
from db.migrate import upgrade
from db.views import VIEWS
from deploy.cli import app

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    engine = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}")
    upgrade(engine)
    with engine.begin() as connection:
        for number, calling_ae in enumerate(("CT1", "MR1")):
            made = commitments_asked.record_request(
                connection,
                transaction_uid=f"1.9.{number}",
                calling_ae=calling_ae,
                called_ae="PREREAD",
                association_id=f"a{number}",
                instances=[("1.2", "1.2.3"), ("1.2", "1.2.4")],
                now=NOW.replace(minute=number),
                leased_until=NOW,
            )
            assert made is not None
        commitments_asked.mark_looked_at(connection, made, {"1.2.4": 0x0112})
        commitments_asked.mark_failed(connection, made, "add [[ae]] to preread.toml", None)
    engine.dispose()
    config = tmp_path / "preread.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n')

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["commitments", "list", "--config", str(config), *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    return call


def test_the_table_says_what_to_do(run: Callable[..., str]) -> None:
    _, dead, waiting = run().splitlines()
    assert dead.split()[2:7] == ["MR1", "dead", "2", "1", "0"]
    assert dead.endswith("add [[ae]] to preread.toml")
    assert waiting.split()[2:] == ["CT1", "pending", "2", "0"]
    assert run("--state", "reported") == "no requests for storage commitment\n"


def test_json_and_csv(run: Callable[..., str]) -> None:
    (row,) = json.loads(run("--format", "json", "--state", "dead"))
    assert row["instances"] == [["1.2", "1.2.3"], ["1.2", "1.2.4"]]
    assert row["failures"] == {"1.2.4": "0x0112"}
    rows = list(csv.DictReader(io.StringIO(run("--format", "csv"))))
    assert list(rows[0]) == list(VIEWS["v_commitments"])
    assert [one["calling_ae"] for one in rows] == ["MR1", "CT1"]
