"""Rows lost in every way come back as they were, whatever is odd about the images."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from encoded import EXPLICIT_BIG
from image_store import TABLES, ImageStore
from typer.testing import CliRunner

from db.migrate import upgrade
from deploy.cli import app

# Its objects need not belong to a patient.
PRIVATE_CLASS = "1.2.826.0.1.3680043.10.1.1"


@pytest.fixture
def store(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ImageStore]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREREAD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PREREAD_DB__URL", database_url)
    monkeypatch.setattr("scp.reindex._GRACE_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # 2,000 files in a few seconds
    made = ImageStore(tmp_path / "data", database_url)
    upgrade(made.engine)
    yield made
    made.close()


def receive_oddities(store: ImageStore, random_: random.Random, n_files: int) -> None:
    """Receive images with all that may be odd about them: conflicts, mixtures, no patient."""
    known = ["1.2.0"]
    for number in range(n_files):
        study = random_.randrange(n_files // 40)
        series = f"1.2.{study}.{random_.randrange(4)}"
        uid = f"{series}.{number}"
        changes: dict[str, Any] = {}
        match random_.randrange(20):
            case 0:  # other bytes under a UID that came before
                uid = random_.choice(known)
            case 1:
                changes = {"patient": "P-OTHER"}
            case 2:  # a series that another study uses, too
                series = f"1.2.{random_.randrange(n_files // 40)}.0"
            case 3:
                changes = {"study": "", "series": "", "sop_class": PRIVATE_CLASS}
            case 4:
                changes = {"syntax": EXPLICIT_BIG}
            case 5:  # looks like the name of other bytes
                uid = f"{series}.{10**15 + number}"
        known.append(uid)
        given = {"study": f"1.2.{study}", "series": series, "patient": f"P-{study}"} | changes
        store.receive(uid, number=number, **given)


def lose_at_random(store: ImageStore, random_: random.Random) -> None:
    """Lose some rows of each table, some whole studies, or everything but a few rows."""
    everything = {
        table: [key for (key,) in store.rows(f"SELECT {column} FROM {table}")]
        for table, column in (
            ("instance", "id"),
            ("series", "series_instance_uid"),
            ("study", "study_instance_uid"),
        )
    }
    statements = []
    for table, keys in everything.items():
        share = random_.choice((0, 0.01, 0.3, 0.9, 1))
        lost = random_.sample(sorted(keys), int(share * len(keys)))
        column = "id" if table == "instance" else f"{table}_instance_uid"
        for start in range(0, len(lost), 500):
            values = ", ".join(repr(key) for key in lost[start : start + 500])
            statements.append(f"DELETE FROM {table} WHERE {column} IN ({values})")
    store.lose(*statements)


@pytest.mark.slow
def test_rows_lost_at_random_come_back_as_they_were(store: ImageStore) -> None:
    receive_oddities(store, random.Random(20260102), 2000)
    before, ids = store.snapshot(), store.ids()
    assert len(before["instance"]) > 1900
    assert sum(row["revision"] for row in before["instance"]) > 50
    assert sum(row["has_conflict"] for row in before["study"]) > 0

    for seed in range(8):
        lose_at_random(store, random.Random(seed))
        kept = store.ids()
        result = CliRunner().invoke(app, ["db", "reindex", "--analyse"])
        assert result.exit_code == 0, result.output
        after = store.snapshot()
        for table in TABLES:
            assert after[table] == before[table], f"{table} after seed {seed}"
        assert kept.items() <= store.ids().items()
        assert ids.keys() == store.ids().keys()
