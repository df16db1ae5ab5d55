"""Metrics: counted by several processes, added up for one port, cheap, and documented."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from held_port import held_port
from prometheus_client import CollectorRegistry, generate_latest

from deploy import metrics
from deploy.errors import NodeError
from deploy.exporter import exporter
from deploy.metrics import METRICS, Counting, metrics_folder, share_values
from deploy.reference import PATH
from deploy.settings import Settings, load

_ROOT = str(Path(__file__).parents[2])
# An acceptor that says what it counts, for as many lines as it is given.
_ACCEPTOR = """
import sys
from pathlib import Path
from deploy.metrics import Counting, share_values
assert share_values(Path(sys.argv[1]), sys.argv[2])
counting = Counting()
print("ready", flush=True)
for line in sys.stdin:
    eval(line)
    print("done", flush=True)
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREREAD_SHARED_DATA", raising=False)
    with held_port() as holder:
        port = holder.getsockname()[1]
        yield load(flags={"data_dir": tmp_path / "data", "metrics": {"port": port}})


class Acceptor:
    """A process that counts."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ACCEPTOR, str(metrics_folder(settings.data_dir)), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": _ROOT},
        )
        self._answer("ready")

    def count(self, call: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"counting.{call}\n")
        self.process.stdin.flush()
        self._answer("done")

    def _answer(self, expected: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == expected

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def acceptors(settings: Settings) -> Iterator[Any]:
    started: list[Acceptor] = []

    def start(name: str) -> Acceptor:
        started.append(Acceptor(settings, name))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


def scrape(settings: Settings) -> dict[str, float]:
    url = f"http://127.0.0.1:{settings.metrics.port}/metrics"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return parse(answer.read().decode())


def parse(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_processes_are_added_up_and_survive_their_end(settings: Settings, acceptors: Any) -> None:
    with exporter(settings) as ended:
        first, second = acceptors("scp"), acceptors("scp-1")
        for one in (first, second):
            one.count("stored('new', 1000, 0.004)")
            one.count("association_opened()")
        second.count("refused(0xA700)")
        second.count("association_rejected('disk')")
        for one in (first, second):
            one.count("commitment_asked()")
        first.count("commitment_refused(0x0112)")
        seen = scrape(settings)
        assert seen['preread_instances_total{result="new"}'] == 2
        assert seen["preread_received_bytes_total"] == 2000
        assert seen['preread_store_seconds_bucket{le="0.005"}'] == 2
        assert seen['preread_instances_refused_total{status="0xA700"}'] == 1
        assert seen['preread_associations_rejected_total{kind="disk"}'] == 1
        assert seen['preread_associations_rejected_total{kind="calling_ae"}'] == 0
        assert seen["preread_commitment_requests_total"] == 2
        assert seen['preread_commitment_instances_refused_total{reason="0x0112"}'] == 1
        assert seen['preread_commitment_instances_refused_total{reason="0x0119"}'] == 0
        assert seen["preread_associations_open"] == 2
        assert seen["preread_disk_free_bytes"] > 0
        assert seen["preread_disk_low"] == 0

        second.kill()
        ended("scp-1")
        seen = scrape(settings)
        assert seen['preread_instances_total{result="new"}'] == 2
        assert seen["preread_associations_open"] == 1

        again = acceptors("scp-1")
        again.count("stored('new', 1000, 0.004)")
        seen = scrape(settings)
        assert seen['preread_instances_total{result="new"}'] == 3
        assert seen["preread_associations_open"] == 1
        assert len(list(metrics_folder(settings.data_dir).iterdir())) == 8

    with exporter(settings):
        assert "preread_received_bytes_total" not in scrape(settings)


def test_a_port_in_use_is_named(settings: Settings) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", settings.metrics.port))
        other.listen()
        with (
            pytest.raises(NodeError, match=r"metrics\.port \d+ on 127\.0\.0\.1 cannot be had"),
            exporter(settings),
        ):
            pass


def test_without_room_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = metrics.values.ValueClass
    assert not share_values(tmp_path / "metrics", "scp")
    assert metrics.values.ValueClass is before


def test_group_commits_are_sampled() -> None:
    registry = CollectorRegistry()
    counting = Counting(registry)
    ingest: Any = SimpleNamespace(
        n_groups=3, n_rows=12, seconds=0.5, n_unindexed=7, is_database_away=True
    )
    counting.sample(ingest)
    ingest.n_groups, ingest.n_rows, ingest.is_database_away = 4, 20, False
    counting.sample(ingest)
    seen = parse(generate_latest(registry).decode())
    assert seen["preread_group_commits_total"] == 4
    assert seen["preread_group_commit_rows_total"] == 20
    assert seen["preread_group_commit_seconds_total"] == 0.5
    assert (seen["preread_unindexed_instances"], seen["preread_database_away"]) == (7, 0)


def test_every_metric_is_described_and_every_description_true(settings: Settings) -> None:
    registry = CollectorRegistry()
    Counting(registry)
    text = generate_latest(registry).decode()
    with exporter(settings):
        url = f"http://127.0.0.1:{settings.metrics.port}/metrics"
        text += urllib.request.urlopen(url, timeout=60).read().decode()
    kinds = dict(re.findall(r"^# TYPE (preread_\S+) (\S+)$", text, re.MULTILINE))
    made = {name: kind for name, kind in kinds.items() if not name.endswith("_created")}
    assert made == {metric.name: metric.kind for metric in METRICS}
    labelled = dict(re.findall(r"^(preread_\w+)\{(\w+)=", text, re.MULTILINE))
    labelled.pop("preread_store_seconds_bucket")  # le, as every histogram
    labelled = {name: label for name, label in labelled.items() if not name.endswith("_created")}
    assert labelled == {metric.name: metric.label for metric in METRICS if metric.label}
    reference = PATH.read_text(encoding="utf-8")
    for metric in METRICS:
        assert f"`{metric.name}`" in reference


def test_an_image_costs_little(settings: Settings, acceptors: Any) -> None:
    """In an acceptor with files, as in a node."""
    program = _ACCEPTOR.replace("for line in sys.stdin", "for line in ()") + (
        "import resource, time\n"
        "def one(n):\n"
        "    began = time.process_time()\n"
        "    for _ in range(n): counting.stored('new', 537000, 0.003)\n"
        "    return 1e6 * (time.process_time() - began) / n\n"
        "least = min(one(2000) for _ in range(5))\n"
        "print(least, resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(metrics_folder(settings.data_dir)), "scp"],
        env={**os.environ, "PYTHONPATH": _ROOT},
        capture_output=True,
        text=True,
        check=True,
    )
    microseconds, waits = done.stdout.split()[-2:]
    assert float(microseconds) < 200
    assert int(waits) < 5000  # of 10,000 images: no sync, no lock of other processes
