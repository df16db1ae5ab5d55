"""Receiving while others use the database: latencies, lock errors, size of the log.

Small images come at a steady rate over eight associations, in series that complete after a second
and are routed and enqueued by the node itself; two processes record findings for what was enqueued
and one reads pages of studies. Every sync takes 2 ms longer than the disk does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from figures import Measure
from load import Sender
from parties import READY
from peers import Field, Preread
from phantoms import Image, UidSource
from processes import PeerError

SHARES: Mapping[str, int] = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
PER_SECOND = 700
ADDED_MILLISECONDS = 2.0
_N_ASSOCIATIONS = 8
_PER_SERIES = 25
# Of what the node takes alone: the other parties need the rest of the processor. Above that what is
# measured is a queue that grows.
_LOAD = 0.5
_SETTINGS = {"quiet_seconds": 1, "open_association_seconds": 1}


def measure(name: str, unit: str = "ms") -> Measure:
    """Return a measure of the mixed load."""
    return Measure(f"mixed load, {name}", unit)


class Parties:
    """The processes beside the node: two writers and a reader, ready when this returns."""

    def __init__(self, url: str, seconds: float, environment: Mapping[str, str]) -> None:
        main = [sys.executable, str(Path(__file__).parent)]
        roles = (["writer", url, str(seconds), number] for number in "01")
        self._processes = [
            subprocess.Popen([*main, *role], stdout=subprocess.PIPE, text=True, env=environment)
            for role in (*roles, ["reader", url, str(seconds)])
        ]
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != READY:
                raise PeerError("a writer or the reader did not start")

    def accounts(self) -> list[dict[str, list[float]]]:
        """Wait for their ends; return what they did."""
        return [json.loads(process.communicate()[0]) for process in self._processes]


class LogSize:
    """The largest size of SQLite's write-ahead log while a ``with`` block runs, in MB."""

    def __init__(self, database: Path) -> None:
        self._log = database.with_name(database.name + "-wal")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.largest = 0.0

    def __enter__(self) -> LogSize:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            if self._log.exists():
                self.largest = max(self.largest, self._log.stat().st_size / 1e6)


def run(
    field: Field,
    image: Image,
    uids: UidSource,
    seconds: float,
    environment: Mapping[str, str],
    *,
    on_postgres: bool,
) -> dict[Measure, float]:
    """Return the figures of one run.

    Raises
    ------
    PeerError
        If the node lost something or nothing was analysed: then the load was not what it claims.
    """
    series = replace(image, per_series=_PER_SERIES)
    with field.start_preread(_SETTINGS, environment, on_postgres=on_postgres) as node:
        node.wait()
        sender = Sender(node.target, series, uids)
        able = sender.for_seconds(_N_ASSOCIATIONS, 1.0)
        rate = min(PER_SECOND, _LOAD * able.per_second)
        parties = Parties(node.url, seconds, environment)
        with LogSize(node.data / "preread.sqlite") as log:
            load = sender.steadily(_N_ASSOCIATIONS, rate, seconds)
        accounts = parties.accounts()
        node.n_expected += able.n + load.n
        node.check()
        found = {
            measure("images offered", "images/s"): rate,
            measure("images stored", "images/s"): load.per_second,
            **{
                measure(f"C-STORE {name}"): percentile(load.latencies, share)
                for name, share in SHARES.items()
            },
            **_of_parties(accounts),
            **_of_node(node),
        }
        if not on_postgres:
            found[measure("write-ahead log", "MB")] = log.largest
        return found


def percentile(seconds: Sequence[float], share: int) -> float:
    """Return a percentile in milliseconds; 100 is the maximum."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)] * 1e3 if ordered else 0.0


def _of_parties(accounts: Sequence[Mapping[str, list[float]]]) -> dict[Measure, float]:
    first, second, reader = accounts
    if not first["seconds"] or not second["seconds"]:
        raise PeerError("no analyses to write findings for: series were not routed")
    slowness = [percentile(writer["seconds"], 95) for writer in (first, second)]
    return {
        measure("outcomes written", "outcomes"): float(
            len(first["seconds"]) + len(second["seconds"])
        ),
        measure("outcome p95"): max(slowness),
        measure("one writer's p95 over the other's", "x"): max(slowness) / min(slowness),
        measure("page p95"): percentile(reader["seconds"], 95),
        measure("errors of writers and reader", "errors"): float(
            sum(len(account["errors"]) for account in accounts)
        ),
    }


def _of_node(node: Preread) -> dict[Measure, float]:
    events = node.log()
    closing = [event["seconds"] for event in events if event["event"] == "series.completed"]
    failed = [event for event in events if event.get("level") in ("warning", "error")]
    return {
        measure("series closed", "series"): float(len(closing)),
        measure("closing a series p95"): percentile(closing, 95),
        measure("warnings and errors of the node", "events"): float(len(failed)),
    }
