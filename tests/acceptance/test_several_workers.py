"""Real worker processes on one database: STAT among routine, one killed in the middle of a batch.

The workers are those of `preread worker` or `preread up`; their engines take as long for a batch as
a plan says (`faulty_worker`), and write down when each begins.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import faulty_worker
import pydicom
import pytest
from node_process import Node, free_port, wait_for
from plain_ct import write_plain_bundle, write_plain_series
from stored_studies import StoredStudies
from tiny_layouts import tiny

from db import FileStore, create_engine
from inference.bundle import Bundle, open_bundle
from inference.input_spec import InputSpec
from inference.job_states import Priority
from inference.model import load_reader
from inference.reading import SourceImage
from inference.scheduling.choice import STAT_PER_ROUTINE
from inference.training.phantoms.files import write_chest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GREYS = (0.2, 0.25, 0.3, 0.2, 0.25, 0.3, 0.2, 0.3)
# Every batch of CT takes longer, as on a machine that has to work for it.
SLOW = [[0.0, 0.5, "slow", 10_000]]
CT_SIZE = 32


class Batch(NamedTuple):
    at: float
    pid: int
    rows: int
    size: int


class Workers(Node):
    """Workers whose machine is as the plan says, and the studies that are stored for them."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, faulty_worker.__file__, str(self.folder / "plan.json"), *arguments]

    def batches(self) -> list[Batch]:
        notes = self.folder / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [Batch(float(a), *map(int, rest)) for a, *rest in map(str.split, lines)]

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["event"] == name]

    def pids(self) -> dict[str, int]:
        """Process ids by worker."""
        return dict(self.query("SELECT worker, pid FROM v_workers"))

    def hold(self) -> None:
        """Let batches that begin wait until `go_on`, however long what is between takes."""
        (self.folder / "held").touch()

    def go_on(self) -> None:
        (self.folder / "held").unlink()

    def freeze(self, pid: int) -> None:
        """Stop a process where it holds no lock of PostgreSQL, which others would wait for."""

        def is_frozen() -> bool:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.5)
            open_now = self._transactions()
            try:
                # Those of others end, however slow the machine is.
                wait_for(lambda: not open_now & self._transactions(), 10, "their end")
            except AssertionError:
                os.kill(pid, signal.SIGCONT)
                time.sleep(2)  # it makes up for what it did not do meanwhile
                return False
            return True

        wait_for(is_frozen, 240, "a moment without a transaction")

    def _transactions(self) -> set[tuple[int, str]]:
        return set(
            self.query(
                "SELECT pid, CAST(xact_start AS text) FROM pg_stat_activity "
                "WHERE datname = current_database() AND xact_start IS NOT NULL "
                "AND pid <> pg_backend_pid()"
            )
        )

    def pending(self) -> int:
        return int(self.query("SELECT COUNT(*) FROM analysis WHERE state = 'pending'")[0][0])


Start = Callable[..., tuple[Workers, Bundle, Bundle]]


@pytest.fixture
def start(tmp_path: Path, database: str | None) -> Iterator[Start]:
    started: list[Workers] = []

    def begin(part: str, workers: int, plan: dict[str, Any], more: str = "") -> Any:
        node = Workers(tmp_path / "node", database_url=database)
        ct = open_bundle(write_plain_bundle(tmp_path / "plain"))
        # Nothing is exported: these tests are about what runs it.
        spec = InputSpec("radiograph", 2 * CT_SIZE, polarity="chest")
        criteria = {"modalities": ["CR", "DX"], "body_parts": ["CHEST"]}
        chest = tiny(tmp_path / "chest", spec, ["pneumothorax"], suitability=criteria,
                     engine="torch")  # fmt: skip
        node.configure(
            f'shipped = false\nbundles = ["{ct.path}", "{chest.path}"]\nworkers = {workers}\n'
            f"decode_processes = 0\n{more}"
        )
        files = {name: str(node.folder / name) for name in ("notes", "held")}
        (node.folder / "plan.json").write_text(json.dumps(plan | files))
        started.append(node)
        node.launch(part)
        wait_for(lambda: len(node.named("worker.started")) == workers, 180, "the workers")
        return node, ct, chest

    yield begin
    for one in started:
        if one.process is not None:
            one.kill_everything()


@pytest.fixture
def stored(database: str | None) -> Iterator[Callable[[Workers], StoredStudies]]:
    made: list[Any] = []

    def of(node: Workers) -> StoredStudies:
        engine = create_engine(database or f"sqlite:///{node.data / 'preread.sqlite'}")
        studies = StoredStudies(engine, FileStore(node.data))
        made.extend((studies.close, engine.dispose))
        return studies

    yield of
    for close in made:
        close()


def seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def found_in(node: Workers, analysis: str) -> list[tuple[str, str, float]]:
    return node.query(
        "SELECT label, scope, probability FROM finding WHERE analysis_id = ? ORDER BY id", analysis
    )


def expected_of(bundle: Bundle, paths: Sequence[Path]) -> list[tuple[str, str, float]]:
    """What one process finds that does nothing else."""
    images = []
    for number, path in enumerate(paths):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        syntax = header.file_meta.TransferSyntaxUID
        uid, kind = str(header.SOPInstanceUID), str(header.SOPClassUID)
        images.append(SourceImage(number, uid, kind, str(syntax), path))
    reading = load_reader(bundle, "cpu", 8).read(images)
    return [(one.label.name, str(one.scope), one.probability) for one in reading.findings]


def assert_as_expected(
    node: Workers, analyses: Sequence[str], expected: list[tuple[str, str, float]]
) -> None:
    for one in analyses:
        got = found_in(node, one)
        assert sorted(row[:2] for row in got) == sorted(row[:2] for row in expected)
        assert sorted(row[2] for row in got) == pytest.approx(
            sorted(row[2] for row in expected), abs=1e-5
        )


def test_a_stat_film_among_routine_series_of_two_workers(
    start: Start, stored: Callable[[Workers], StoredStudies], tmp_path: Path
) -> None:
    node, ct, chest = start("worker", 2, {"rows": [[0.0, 0.5, "pause", 10_000]]})
    studies = stored(node)
    heads = write_plain_series(tmp_path / "head", GREYS)
    film = write_chest(tmp_path / "film", seed=3, pneumothorax=True, size=256)
    copies = studies.copies(heads, 36)
    ((uid, rows),) = studies.copies([film], 1)
    node.hold()
    routine = [studies.ask(ct, *one, Priority.ROUTINE) for one in copies]
    wait_for(lambda: len({one.pid for one in node.batches()}) == 2, 120, "both at work")
    urgent = studies.ask(chest, uid, rows, Priority.STAT)
    committed = time.time()
    node.go_on()
    wait_for(lambda: len(node.named("analysis.ended")) > len(routine), 180, "all of them")

    ((overtaken,),) = node.query(
        "SELECT COUNT(*) FROM analysis "
        "WHERE finished_at > (SELECT finished_at FROM analysis WHERE id = ?)",
        urgent,
    )
    assert overtaken > 20
    (begun,) = [one for one in node.named("analysis.started") if one["analysis"] == urgent[:12]]
    ((worker, started),) = node.query(
        "SELECT worker, state FROM v_turnaround WHERE analysis_id = ?", urgent
    )
    assert started == "done"
    (own,) = [one for one in node.batches() if one.size != CT_SIZE]
    assert own.pid == node.pids()[worker]
    between = [one for one in node.batches() if one.pid == own.pid and committed < one.at < own.at]
    # What was in flight when it was asked for is not in it; one more begins before it is found,
    # and where it is long until it asks for the device, routine work has a ninth of that time.
    after_start = [one for one in between if one.at > seconds(begun)]
    until_own = own.at - seconds(begun)
    assert len(after_start) <= 1 + until_own / (STAT_PER_ROUTINE * faulty_worker.PAUSE_SECONDS)

    everything = [*routine, urgent]
    states = node.query("SELECT state, COUNT(*) FROM analysis GROUP BY state")
    assert states == [("done", len(everything))]
    expected = Counter({one[:12]: 1 for one in everything})
    assert Counter(one["analysis"] for one in node.named("analysis.started")) == expected
    assert Counter(one["analysis"] for one in node.named("analysis.ended")) == expected
    shares = dict(node.query("SELECT worker, COUNT(*) FROM v_turnaround GROUP BY worker"))
    assert len(shares) == 2 and min(shares.values()) >= 5
    assert_as_expected(node, routine, expected_of(ct, heads))
    assert_as_expected(node, [urgent], expected_of(chest, [film]))
    print(
        f"STAT to first batch {own.at - committed:.2f} s, batches of routine begun meanwhile on "
        f"that worker {len(between)}, after it was taken {len(after_start)}; shares {shares}"
    )
    assert node.stop() == 0


def test_what_a_killed_worker_was_at_is_done_by_the_other_one(
    start: Start, stored: Callable[[Workers], StoredStudies], tmp_path: Path
) -> None:
    node, ct, _ = start("worker", 2, {"rows": SLOW})
    studies = stored(node)
    heads = write_plain_series(tmp_path / "head", GREYS)
    copies = studies.copies(heads, 8)
    node.hold()
    asked = [studies.ask(ct, *one, Priority.ROUTINE) for one in copies]
    wait_for(lambda: len({one.pid for one in node.batches()}) == 2, 120, "both at work")
    # Each has begun another one meanwhile, which waits for the device.
    wait_for(lambda: len(node.named("analysis.started")) == 4, 60, "all slots at work")
    killed = node.batches()[-1].pid  # it is in the middle of its batch
    (name,) = [worker for worker, pid in node.pids().items() if pid == killed]
    os.kill(killed, signal.SIGKILL)
    at = time.time()
    node.go_on()
    wait_for(lambda: len(node.named("analysis.ended")) >= len(asked), 240, "every analysis")

    assert node.query("SELECT state, COUNT(*) FROM analysis GROUP BY state") == [
        ("done", len(asked))
    ]
    retried = {
        one for (one,) in node.query("SELECT analysis_id FROM v_worker_events WHERE step = ?",
                                     "taken_over")
    }  # fmt: skip
    assert len(retried) == 2
    starts = Counter(one["analysis"] for one in node.named("analysis.started"))
    assert starts == Counter({one[:12]: 1 + (one in retried) for one in asked})
    ends = Counter(one["analysis"] for one in node.named("analysis.ended"))
    assert ends == Counter({one[:12]: 1 for one in asked})
    assert_as_expected(node, asked, expected_of(ct, heads))
    (taken, *_) = node.named("worker.taken_over")
    assert taken["worker"] == name
    again = [
        seconds(one)
        for one in node.named("analysis.started")
        if one["analysis"] in {x[:12] for x in retried} and seconds(one) > at
    ]
    print(
        f"taken over {seconds(taken) - at:.2f} s after the kill by {taken['by']}, "
        f"begun again after {', '.join(f'{one - at:.2f}' for one in again)} s"
    )
    # Each two seconds somebody looks whether its process is there; it takes two minutes until its
    # silence tells.
    assert "nothing was heard" not in taken["reason"] and seconds(taken) - at < 60
    # Whoever started it writes that down on its own.
    told = "SELECT worker, reason FROM v_worker_events WHERE step = ?"
    ((event, reason),) = wait_for(lambda: node.query(told, "killed"), 60, "how it ended")
    assert (event, f"process {killed} was killed by SIGKILL" in reason) == (name, True)
    wait_for(lambda: len(node.pids()) == 2, 120, "the successor")
    assert node.stop() == 0


# One that is frozen in the middle of a transaction holds SQLite's write lock, and so everybody.
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_frozen_worker_is_given_up_and_ends_when_it_goes_on(
    start: Start, stored: Callable[[Workers], StoredStudies], tmp_path: Path
) -> None:
    node, ct, _ = start("worker", 2, {"rows": SLOW}, "silence_seconds = 15\nconcurrency = 1\n")
    studies = stored(node)
    heads = write_plain_series(tmp_path / "head", GREYS)
    copies = studies.copies(heads, 4)
    node.hold()
    asked = [studies.ask(ct, *one, Priority.ROUTINE) for one in copies]
    wait_for(lambda: len({one.pid for one in node.batches()}) == 2, 120, "both at work")
    frozen = node.batches()[-1].pid
    node.freeze(frozen)
    node.go_on()
    try:
        wait_for(lambda: node.named("worker.taken_over"), 120, "the other one")
        wait_for(lambda: node.pending() == 0, 120, "every analysis")
    finally:
        os.kill(frozen, signal.SIGCONT)
    wait_for(lambda: node.named("part.ended"), 60, "its end")

    assert [one["status"] for one in node.named("part.ended")] == [73]
    ends = Counter(one["analysis"] for one in node.named("analysis.ended"))
    assert ends == Counter({one[:12]: 1 for one in asked})
    steps = node.query("SELECT step FROM v_worker_events ORDER BY event_id")
    assert steps == [("taken_over",), ("given_up",)]
    assert_as_expected(node, asked, expected_of(ct, heads))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_only_worker_is_killed_and_the_node_tells(
    start: Start, stored: Callable[[Workers], StoredStudies], tmp_path: Path
) -> None:
    metrics = free_port()
    node, ct, _ = start("up", 1, {"rows": SLOW}, f"[metrics]\nport = {metrics}\n")
    studies = stored(node)
    heads = write_plain_series(tmp_path / "head", GREYS)
    ((uid, rows),) = studies.copies(heads, 1)
    node.hold()
    asked = studies.ask(ct, uid, rows, Priority.ROUTINE)
    wait_for(node.batches, 120, "a batch")
    ((name, killed),) = node.pids().items()
    os.kill(killed, signal.SIGKILL)
    at = time.time()
    node.go_on()
    wait_for(lambda: node.named("worker.killed"), 60, "the log")
    wait_for(lambda: node.named("analysis.ended"), 240, "the analysis")

    (first, second) = node.named("analysis.started")
    print(f"begun again {seconds(second) - at:.2f} s after the kill")
    assert first["analysis"] == second["analysis"] == asked[:12]
    assert node.query("SELECT state FROM analysis") == [("done",)]
    assert len(node.named("analysis.ended")) == 1
    # Two processes write them down, each on its own.
    steps = "SELECT worker, step FROM v_worker_events ORDER BY step"
    both = [(name, "killed"), (name, "taken_over")]
    wait_for(lambda: node.query(steps) == both, 60, "what became of it in the database")
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=60) as answer:
        counted = answer.read().decode()
    assert 'preread_worker_events_total{step="killed"} 1.0' in counted
    doctor = node.preread("doctor").stdout
    assert "1 killed" in doctor and f"process {killed} was killed by SIGKILL" in doctor
    assert node.stop() == 0
