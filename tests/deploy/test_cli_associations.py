"""``preread associations``: the ledger for a person and for a program."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db import create_engine
from db.associations import AssociationClosing, AssociationCounts, AssociationRecord, ContextResult
from db.ingest import Ingest
from db.migrate import upgrade
from db.schema import AssociationEnd
from db.views import VIEWS
from deploy.cli import app

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Return what calls the command over a small ledger."""
    engine = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}")
    upgrade(engine)
    ingest = Ingest(engine)

    def record(number: int, calling_ae: str) -> AssociationRecord:
        opened_at = NOW + timedelta(minutes=number)
        contexts = (ContextResult("1.2.840.10008.1.1", "1.2.840.10008.1.2", 0),)
        return AssociationRecord(
            f"id{number}",
            "host:11112",
            calling_ae,
            "PREREAD",
            "10.0.0.9",
            4711,
            opened_at,
            contexts,
        )

    def end(number: int, calling_ae: str, counts: AssociationCounts, **how: object) -> None:
        opened = record(number, calling_ae)
        ingest.leave(
            AssociationClosing(opened, counts, opened.opened_at + timedelta(seconds=5), **how)  # type: ignore[arg-type]
        )

    end(1, "CT1", AssociationCounts(3, 0, 1_500_000), ended_by=AssociationEnd.RELEASED)
    end(
        2,
        "[/CT2]",
        AssociationCounts(1, 3, 10, 1, {"0xA700": 1, "0xC000": 2}),
        ended_by=AssociationEnd.ABORTED,
    )
    end(
        3,
        "NOBODY",
        AssociationCounts(),
        ended_by=AssociationEnd.REJECTED,
        reject_reason="scp.calling_ae_allow",
    )
    ingest.enter(record(4, "CT1"))
    ingest.close()
    engine.dispose()
    config = tmp_path / "preread.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n')

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["associations", "--config", str(config), *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    return call


def states(text: str) -> list[str]:
    return [row["state"] for row in json.loads(text)]


def test_the_table_names_all_that_matters(run: Callable[..., str]) -> None:
    lines = run().splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["CT1", "NOBODY", "[/CT2]", "CT1"]
    assert "scp.calling_ae_allow" in lines[2]
    assert "0xA700 1x, 0xC000 2x" in lines[3]
    assert "1.5" in lines[4].split()
    assert "5.0" in lines[4].split()


def test_filters(run: Callable[..., str]) -> None:
    assert states(run("--format", "json", "--open")) == ["open"]
    assert states(run("--format", "json", "--refused")) == ["rejected", "aborted"]
    assert states(run("--format", "json", "--calling-ae", "CT1")) == ["open", "released"]
    assert states(run("--format", "json", "--since", "2026-05-01T12:03:00")) == ["open", "rejected"]
    assert states(run("--format", "json", "--limit", "1")) == ["open"]
    assert run("--calling-ae", "ELSE") == "no associations\n"


def test_json_is_not_quoted_twice(run: Callable[..., str]) -> None:
    (row,) = json.loads(run("--format", "json", "--calling-ae", "[/CT2]"))
    assert row["refusals"] == {"0xA700": 1, "0xC000": 2}
    assert row["contexts"] == [["1.2.840.10008.1.1", "1.2.840.10008.1.2", 0]]
    assert row["opened_at"] == "2026-05-01T12:02:00+00:00"


def test_csv_has_the_columns_of_the_view(run: Callable[..., str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run("--format", "csv"))))
    assert list(rows[0]) == list(VIEWS["v_associations"])
    assert [row["trace_id"] for row in rows] == ["id4", "id3", "id2", "id1"]
