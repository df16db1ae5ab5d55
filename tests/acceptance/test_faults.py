"""What the database, the log and the PACS say when the machine of a worker fails.

A real node, of which the worker alone is composed with engines that fail as a plan says
(`faulty_worker`); which study meets which fault is told by how bright its slices are.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faulty_worker
import pydicom
import pytest
from node_process import Node, free_port
from pacs import Pacs
from plain_ct import write_plain_bundle, write_plain_series
from waiting import wait_for

from scp import Peer, send_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Greys by which a study meets a fault; 0.2 meets none.
GOOD, OOM_ONCE, OOM_ALWAYS, POISON, LOST, STUCK, LEAK = 0.2, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85


def rows(grey: float, fault: str, times: int = 10_000) -> list[object]:
    return [grey - 0.04, grey + 0.04, fault, times]


FAULTS = {
    "rows": [
        rows(OOM_ONCE, "out_of_memory", 1),
        rows(OOM_ALWAYS, "out_of_memory"),
        rows(POISON, "poison"),
        rows(LOST, "lost"),
        rows(STUCK, "stuck"),
        rows(LEAK, "leak"),
    ]
}


class FaultyNode(Node):
    """A node whose worker has the machine of a plan."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, faulty_worker.__file__, str(self.folder / "plan.json"), *arguments]

    def events_named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["event"] == name]


Start = Callable[..., FaultyNode]


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    made = Pacs()
    yield made
    made.stop()


@pytest.fixture
def start(tmp_path: Path, pacs: Pacs) -> Iterator[Start]:
    started: list[FaultyNode] = []

    def begin(
        plan: dict[str, Any], inference: str = "", more: str = "", url: str | None = None
    ) -> FaultyNode:
        made = FaultyNode(tmp_path / "node", database_url=url)
        bundle = write_plain_bundle(tmp_path / "bundle")
        made.configure(
            f'shipped = false\nbundles = ["{bundle}"]\n{inference}\n'
            '[[rule]]\nname = "all"\nmodel = "plain"\nwhen = { Modality = "CT" }\n'
            '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\n'
            f'port = {pacs.port}\nproof = "find"\nobjects = ["sr"]\n{more}'
        )
        (made.folder / "plan.json").write_text(json.dumps(plan))
        started.append(made)
        made.start()
        return made

    yield begin
    for one in started:
        if one.process is not None:
            one.kill_everything()


class Study:
    """A study that was sent, and what became of it."""

    def __init__(self, node: FaultyNode, folder: Path, greys: Sequence[float]) -> None:
        self.node = node
        self.paths = write_plain_series(folder, greys)
        header = pydicom.dcmread(self.paths[0], stop_before_pixels=True)
        self.uid = str(header.StudyInstanceUID)
        peer = Peer("127.0.0.1", node.port, "PREREAD", "TEST")
        assert send_files(peer, self.paths).ok

    def image(self, number: int) -> str:
        return str(pydicom.dcmread(self.paths[number], stop_before_pixels=True).SOPInstanceUID)

    def ended(self, seconds: float = 180) -> tuple[str, str | None]:
        """State and reason code of its analysis, once it has ended."""
        query = (
            "SELECT state, reason_code FROM v_turnaround WHERE study_instance_uid = ? "
            "AND state <> 'pending'"
        )
        ((state, code),) = wait_for(lambda: self.node.query(query, self.uid), seconds, "the end")
        return state, code

    def engines(self, scope: str = "image") -> set[tuple[Any, ...]]:
        return set(
            self.node.query(
                "SELECT engine, engine_device, engine_batch FROM v_findings "
                "WHERE study_instance_uid = ? AND scope = ?",
                self.uid,
                scope,
            )
        )

    def steps(self) -> list[str]:
        query = "SELECT step FROM v_worker_events WHERE study_instance_uid = ? ORDER BY event_id"
        return [step for (step,) in self.node.query(query, self.uid)]

    def reports(self, pacs: Pacs) -> int:
        """How many of its reports the PACS has."""
        found = self.node.query(
            "SELECT sop_instance_uid FROM v_objects WHERE study_instance_uid = ?", self.uid
        )
        return sum(uid in pacs.stored for (uid,) in found)

    def delivered(self, pacs: Pacs) -> bool:
        wait_for(lambda: self.reports(pacs) == 1, 120, "its report in the PACS")
        return True


@pytest.fixture
def send(tmp_path: Path) -> Callable[..., Study]:
    made: list[Study] = []

    def begin(node: FaultyNode, *greys: float) -> Study:
        made.append(Study(node, tmp_path / f"study-{len(made)}", greys))
        return made[-1]

    return begin


def test_what_fails_is_helped_or_told(
    start: Start, send: Callable[..., Study], pacs: Pacs, database: str | None
) -> None:
    metrics = free_port()
    plan = {"lives": {"1": FAULTS, "2": {"gpus": 0}}}
    node = start(plan, more=f"[metrics]\nport = {metrics}\n", url=database)

    good = send(node, *[GOOD] * 8)
    assert good.ended() == ("done", None)
    assert good.engines() == good.engines("series") == {("faulty", "cuda:0", 8)}
    assert good.delivered(pacs) and good.steps() == []

    once = send(node, *[OOM_ONCE] * 8)
    assert once.ended() == ("done", None)
    assert once.engines() == {("faulty", "cuda:0", 4)}
    assert once.delivered(pacs)
    wait_for(lambda: once.steps() == ["smaller_batch"], 60, "its event")

    always = send(node, *[OOM_ALWAYS] * 8)
    assert always.ended() == ("done", None)
    assert always.engines() == {("torch", "cpu", 4)}
    assert always.delivered(pacs)
    wait_for(lambda: always.steps()[-1:] == ["spare_engine"], 60, "its event")

    poisoned = send(node, *[GOOD] * 5, POISON, *[GOOD] * 2)
    after = send(node, *[GOOD] * 3)
    assert poisoned.ended() == ("failed", "poisoned_input")
    ((facts, reason),) = node.query(
        "SELECT facts, reason FROM analysis WHERE study_instance_uid = ?", poisoned.uid
    )
    assert json.loads(facts) == {"poisoned": [poisoned.image(5)]}
    assert poisoned.image(5) in reason and "a kernel fails" in reason
    assert poisoned.engines() == set()
    assert after.ended() == ("done", None) and after.delivered(pacs)
    wait_for(lambda: poisoned.steps() == ["poisoned_row"], 60, "its event")
    assert "poisoned_input" in node.preread("results").stdout

    lost = send(node, *[LOST] * 4)
    assert lost.ended() == ("done", None)
    assert lost.engines() == {("torch", "cpu", 4)}
    assert lost.delivered(pacs)
    wait_for(lambda: lost.steps() == ["device_lost"], 60, "its event")
    wait_for(lambda: node.events_named("worker.on_cpu_instead"), 150, "the next worker")
    on_cpu = send(node, *[GOOD] * 4)
    assert on_cpu.ended() == ("done", None)
    assert {device for _, device, _ in on_cpu.engines()} == {"cpu"}
    assert on_cpu.delivered(pacs)

    # Of what went well nothing is told, also not later.
    assert good.steps() == after.steps() == []
    # The log
    levels = {event["event"]: event["level"] for event in node.events()}
    assert levels["engine.device_lost"] == "critical"
    assert levels["worker.device_lost"] == "critical"
    assert levels["worker.on_cpu_instead"] == "critical"
    assert levels["engine.spare_engine"] == levels["engine.poisoned_row"] == "warning"
    (ended,) = node.events_named("part.ended")
    assert (ended["name"], ended["status"]) == ("worker", 71)
    # The database
    workers = node.query("SELECT device, wanted_device, trouble IS NULL FROM v_workers")
    assert [(one, wanted, bool(well)) for one, wanted, well in workers] == [
        ("cpu", "cuda:0", False)
    ]
    # The PACS: nothing of what failed
    assert poisoned.reports(pacs) == 0
    assert len(pacs.stored) == 6
    # Doctor and metrics
    doctor = node.preread("doctor").stdout
    assert "not on cuda:0" in doctor and "nvidia-smi" in doctor
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=60) as answer:
        counted = answer.read().decode()
    for line in (
        'preread_worker_events_total{step="device_lost"} 1.0',
        'preread_worker_events_total{step="poisoned_row"} 1.0',
        'preread_worker_events_total{step="on_cpu_instead"} 1.0',
        "preread_worker_on_cpu_instead 1.0",
    ):
        assert line in counted
    assert node.stop() == 0


def test_a_stuck_kernel_is_given_up_and_harms_nobody_else(
    start: Start, send: Callable[..., Study], pacs: Pacs
) -> None:
    node = start(FAULTS, "timeout_seconds = 15\nconcurrency = 2\n")
    stuck = send(node, *[STUCK] * 4)
    wait_for(lambda: node.events_named("analysis.started"), 150, "the start of the analysis")
    beside = send(node, *[GOOD] * 4)
    assert stuck.ended() == ("failed", "stuck")
    assert beside.ended() == ("done", None)
    assert beside.delivered(pacs)
    # The next process queues what the one before was at; what is put back is no news.
    assert stuck.steps()[:3] == ["stuck", "taken_over", "stuck"]
    assert stuck.reports(pacs) == 0
    # The process ends when it has said so.
    wait_for(lambda: len(node.events_named("part.ended")) == 2, 60, "its second end")
    assert {event["status"] for event in node.events_named("part.ended")} == {70}
    assert {event["level"] for event in node.events_named("analysis.stuck")} == {"critical"}
    ((reason,),) = node.query("SELECT reason FROM v_turnaround WHERE state = 'failed'")
    assert "longer than 15 s, 2 times" in reason and "inference.timeout_seconds" in reason
    # The worker that is there now works.
    later = send(node, *[GOOD] * 4)
    assert later.ended() == ("done", None)
    assert len(node.events_named("part.ended")) == 2
    assert node.stop() == 0


def test_without_a_spare_engine_want_of_memory_is_a_coded_failure(
    start: Start, send: Callable[..., Study], pacs: Pacs
) -> None:
    node = start(FAULTS | {"no_spare": True})
    failed = send(node, *[OOM_ALWAYS] * 4)
    assert failed.ended() == ("failed", "out_of_memory")
    good = send(node, *[GOOD] * 4)
    assert good.ended() == ("done", None) and good.delivered(pacs)
    wait_for(lambda: failed.steps()[-1:] == ["exhausted"], 60, "its event")
    assert failed.reports(pacs) == 0
    assert "engine.exhausted" in {e["event"] for e in node.events() if e["level"] == "error"}
    # A person tries it again.
    ((analysis,),) = node.query("SELECT analysis_id FROM v_turnaround WHERE state = 'failed'")
    assert node.preread("jobs", "retry", analysis[:12]).returncode == 0
    assert node.stop() == 0


def test_a_worker_that_has_grown_is_replaced_at_once(
    start: Start, send: Callable[..., Study], pacs: Pacs
) -> None:
    node = start(FAULTS, "memory_mb = 900\n")
    for _ in range(5):  # 256 MiB leak at each
        study = send(node, *[LEAK] * 2)
        assert study.ended() == ("done", None)
        assert study.delivered(pacs)
    (first, *_) = wait_for(lambda: node.events_named("part.ended"), 150, "the end of a worker")
    assert (first["name"], first["status"], first["again_in_seconds"]) == ("worker", 72, 0.0)
    (recycled, *_) = node.query("SELECT step, reason FROM v_worker_events ORDER BY event_id")
    assert recycled[0] == "recycled"
    assert "more than the mark of 900 MiB" in recycled[1]
    assert node.stop() == 0


def test_a_gpu_on_which_nothing_can_be_loaded_does_not_keep_the_node_from_working(
    start: Start, send: Callable[..., Study], pacs: Pacs
) -> None:
    node = start({"loads": False}, 'device = "cuda:0"\n')
    study = send(node, *[GOOD] * 2)
    assert study.ended() == ("done", None)
    assert study.delivered(pacs)
    (said,) = node.events_named("worker.on_cpu_instead")
    assert said["level"] == "critical"
    assert "cuda:0 cannot be used" in said["reason"] and "CUDA unknown error" in said["reason"]
    assert node.events_named("part.ended") == []
    assert node.stop() == 0
