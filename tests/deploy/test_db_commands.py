"""``preread db check`` and ``preread db reindex``: what they say, change and leave alone."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from click.testing import Result
from image_store import ImageStore
from typer.testing import CliRunner

from db.claim import claimed
from db.migrate import upgrade
from deploy.cli import app, database
from deploy.errors import DeployError
from scp.part10 import read_layout
from scp.reconcile import LOCK_NAME, REBUILT

Run = Callable[..., Result]


@pytest.fixture
def store(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ImageStore]:
    """An image store that the commands find by their settings; its database has no schema."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREREAD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PREREAD_DB__URL", database_url)
    made = ImageStore(tmp_path / "data", database_url)
    yield made
    made.close()


@pytest.fixture
def filled(store: ImageStore) -> ImageStore:
    """The same with six images of one series."""
    upgrade(store.engine)
    for number in range(6):
        store.receive(f"1.2.3.4.{number}", number=number)
    return store


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("scp.reindex._GRACE_SECONDS", 0.0)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, ["db", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


# ----------------------------------------------------------------------------------------- reindex


def test_reindex_fills_an_empty_database(filled: ImageStore, run: Run) -> None:
    before, times = filled.snapshot(), filled.rows("SELECT received_at FROM instance ORDER BY path")
    filled.lose_everything()

    result = run("reindex", "--analyse")

    assert result.exit_code == 0, result.output
    assert "6 rows made" in result.output
    assert filled.snapshot() == before
    assert filled.rows("SELECT received_at FROM instance ORDER BY path") == times
    assert filled.rows("SELECT DISTINCT association_id FROM instance") == [("reindexed",)]


def test_reindex_makes_the_schema(store: ImageStore, run: Run) -> None:
    store.put()
    assert run("reindex").exit_code == 0
    assert store.rows("SELECT count(*) FROM v_studies") == [(1,)]


def test_reindex_changes_nothing_in_a_whole_database(filled: ImageStore, run: Run) -> None:
    before = filled.everything()
    assert run("reindex", "--verify").exit_code == 0
    assert filled.everything() == before


def test_rebuilt_series_are_analysed_only_when_that_is_asked_for(
    filled: ImageStore, run: Run
) -> None:
    filled.lose_everything()

    result = run("reindex")

    assert "--analyse" in result.output
    assert filled.rows("SELECT state, routing FROM series") == [("complete", REBUILT)]
    assert filled.rows("SELECT state FROM v_series") == [("parked",)]
    assert "1 series opened" in run("reindex", "--analyse").output
    assert filled.rows("SELECT state, routing FROM series") == [("open", None)]
    assert "opened" not in run("reindex", "--analyse").output


def test_a_known_series_that_gets_images_back_keeps_its_state(filled: ImageStore, run: Run) -> None:
    filled.lose("DELETE FROM instance WHERE instance_number > 2")
    with filled.engine.begin() as connection:
        connection.execute(sa.text("UPDATE series SET state = 'complete', routing = '{}'"))
    run("reindex")
    assert filled.rows("SELECT state, routing FROM series") == [("complete", "{}")]


def test_results_go_on_referring_to_their_rows(filled: ImageStore, run: Run) -> None:
    before = filled.ids()
    filled.lose("DELETE FROM instance WHERE instance_number IN (0, 2, 3)")
    kept = filled.ids()
    run("reindex")
    after = filled.ids()
    assert len(kept) == 3
    assert after.keys() == before.keys()
    assert kept.items() <= after.items()


def test_reindex_reports_what_is_damaged_and_missing(filled: ImageStore, run: Run) -> None:
    damaged, gone, *_ = sorted(filled.ids())
    filled.lose(f"DELETE FROM instance WHERE path = '{damaged}'")
    os.truncate(filled.absolute(damaged), 400)
    filled.absolute(gone).unlink()

    result = run("reindex")

    assert result.exit_code == 1
    assert re.search(f"damaged: {re.escape(damaged)}: truncated", result.stderr)
    assert f"missing: {gone}: study 1.2.3" in result.stderr
    assert "PHANTOM" not in result.output
    assert filled.rows("SELECT count(*) FROM instance WHERE missing_at IS NOT NULL") == [(1,)]


def test_verify_finds_a_flipped_bit(filled: ImageStore, run: Run) -> None:
    ((path,),) = filled.rows("SELECT path FROM instance WHERE instance_number = 3")
    with filled.absolute(path).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")

    assert run("reindex").exit_code == 0
    result = run("reindex", "--verify")
    assert result.exit_code == 1
    assert f"altered: {path}: study 1.2.3: other bytes than were received" in result.stderr


def test_reindex_refuses_a_folder_without_images(store: ImageStore, run: Run) -> None:
    (store.files.root / "images").rename(store.files.root / "elsewhere")
    with pytest.raises(DeployError, match="is it the right folder"):
        run("reindex")


def test_reindex_waits_for_a_recovery_to_end(
    filled: ImageStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Event()
    ended: list[int] = []

    def look_again(seconds: float) -> None:
        waits.set()
        time.sleep(seconds)

    monkeypatch.setattr(database, "time", SimpleNamespace(sleep=look_again, monotonic=float))
    with claimed(filled.files.root / LOCK_NAME):
        waiting = threading.Thread(target=lambda: ended.append(run("reindex").exit_code))
        waiting.start()
        assert waits.wait(60)
        assert ended == []
    waiting.join(120)
    assert ended == [0]


def test_reindex_beside_a_node_that_receives(
    store: ImageStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scp.reindex._GRACE_SECONDS", 0.5)
    monkeypatch.setattr("scp.reindex._GROUP", 7)
    upgrade(store.engine)

    def put(number: int) -> str:
        study = f"1.2.{number % 5}"
        return store.put(f"{study}.0.{number}", study=study, series=f"{study}.0", number=number)

    for number in range(200):
        put(number)  # without rows; of the same series as what is received
    received = [put(number) for number in range(200, 400)]

    def receive(paths: list[str]) -> None:
        for path in paths:
            store.index(path)

    senders = [threading.Thread(target=receive, args=(received[k::4],)) for k in range(4)]
    for sender in senders:
        sender.start()
    results = [run("reindex"), run("reindex")]
    for sender in senders:
        sender.join()

    assert [result.exit_code for result in results] == [0, 0], results[0].output
    counts = store.rows("SELECT count(*), count(DISTINCT sop_instance_uid) FROM instance")
    assert counts == [(400, 400)]
    # What the node received last is open, whoever made the row of its series.
    assert store.rows("SELECT DISTINCT state FROM series") == [("open",)]


def test_real_images_come_back_as_they_were(store: ImageStore, run: Run, shared_data: Path) -> None:
    upgrade(store.engine)
    paths = sorted(shared_data.rglob("*.dcm"))
    for path in paths:
        content = path.read_bytes()
        layout = read_layout(content)
        encoded = content[layout.data_set_offset :]
        syntax = layout.transfer_syntax_uid
        store.index(
            store.put_encoded(layout.sop_instance_uid, layout.sop_class_uid, syntax, encoded)
        )
    before = store.snapshot()
    assert len(before["instance"]) > 20
    store.lose_everything()

    assert run("reindex", "--analyse").exit_code == 0
    assert store.snapshot() == before
    assert run("reindex", "--verify").exit_code == 0


# ------------------------------------------------------------------------------------------- check


def test_check_finds_nothing_in_a_whole_store(filled: ImageStore, run: Run) -> None:
    result = run("check")
    assert (result.exit_code, result.stdout) == (0, "6 files, 6 rows\n")


def test_check_reports_and_changes_nothing(filled: ImageStore, run: Run) -> None:
    paths = sorted(filled.ids())
    filled.lose(f"DELETE FROM instance WHERE path = '{paths[0]}'")
    (filled.files.root / paths[1]).unlink()
    (filled.files.root / "images/00/notes.txt").write_text("x")
    (filled.files.root / "unindexed/1-1-1.jsonl").write_text("{}\n{}\n")
    (filled.files.root / "unindexed/refused-1-1.jsonl").write_text("{}\n")
    filled.files.quarantine("bad", [b"x"])
    before = filled.everything()

    result = run("check")

    assert result.exit_code == 1
    for line in (
        "2 images wait for the database",
        "1 image was refused",
        "1 file in quarantine",
        "1 file without a row",
        "1 row without its file",
        "1 not put there by Preread",
    ):
        assert line in result.stdout
    assert f"unindexed: {paths[0]}" in result.stderr
    assert f"missing: {paths[1]}" in result.stderr
    assert filled.everything() == before


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM series",
        "DELETE FROM study",
    ],
)
def test_check_finds_rows_without_their_study_or_series(
    filled: ImageStore, run: Run, damage: str
) -> None:
    before = filled.snapshot()
    filled.lose(damage)
    assert "6 rows without a row of their study or series" in run("check").stdout
    assert run("check").exit_code == 1
    run("reindex", "--analyse")
    assert filled.snapshot() == before
    assert run("check").exit_code == 0
