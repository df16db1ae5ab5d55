"""What a node counts, for Prometheus.

Acceptors are processes, Prometheus asks one port: each acceptor counts in files of its own under
``DATA_DIR/metrics`` and the process that started it adds them up (`exporter`). Labels have few
values and name neither peers nor patients.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from db.ingest import Added, Ingest
from db.schema import AssociationEnd
from scp.admission import RejectionKind
from scp.observe import Observer
from scp.safekeeping import FailureReason
from scp.status import StoreStatus

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as the reference describes it."""

    name: str
    kind: str
    meaning: str
    label: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its labels."""
        return (self.label,) if self.label else ()


INSTANCES = Metric(
    "preread_instances_total",
    "counter",
    "Images answered with success, by what they were: new, equal (known already), revised (other "
    "bytes under a known SOP Instance UID) or unindexed (kept while the database is away).",
    "result",
)
REFUSED = Metric(
    "preread_instances_refused_total", "counter", "Images refused, by status.", "status"
)
BYTES = Metric(
    "preread_received_bytes_total", "counter", "Bytes of the data sets answered with success."
)
STORE_SECONDS = Metric(
    "preread_store_seconds",
    "histogram",
    "Seconds from the request of a C-STORE to its answer, of those answered with success.",
)
OPEN = Metric("preread_associations_open", "gauge", "Associations that are open now.")
ENDED = Metric(
    "preread_associations_ended_total", "counter", "Associations that ended, by how.", "ended_by"
)
REJECTED = Metric(
    "preread_associations_rejected_total",
    "counter",
    "Associations rejected, by the setting or state that was in the way.",
    "kind",
)
GROUPS = Metric("preread_group_commits_total", "counter", "Transactions that index images.")
GROUP_ROWS = Metric(
    "preread_group_commit_rows_total",
    "counter",
    "Images indexed by them; divided by their number: the size of a group.",
)
GROUP_SECONDS = Metric(
    "preread_group_commit_seconds_total", "counter", "Seconds that these transactions took."
)
UNINDEXED = Metric(
    "preread_unindexed_instances", "gauge", "Images kept that wait for the database."
)
AWAY = Metric("preread_database_away", "gauge", "1 while the database is away from receiving.")
DISK_FREE = Metric("preread_disk_free_bytes", "gauge", "Free space of data_dir.")
DISK_LOW = Metric(
    "preread_disk_low",
    "gauge",
    "1 while less than scp.min_free_disk_mb is free and images are refused.",
)
COMMITMENTS = Metric(
    "preread_commitment_requests_total",
    "counter",
    "Requests for storage commitment that were taken.",
)
NOT_COMMITTED = Metric(
    "preread_commitment_instances_refused_total",
    "counter",
    "Instances not committed on the association that asked, by Failure Reason (0008,1197): 0x0112 "
    "unknown, lost or altered, 0x0119 of another SOP class, 0x0110 not to be read now.",
    "reason",
)
BOUNDED = Metric(
    "preread_analyses_bounded_total",
    "counter",
    "Analyses not asked for because their study had "
    "inference.max_analyses_per_study_per_day of them.",
)
METRICS = (
    INSTANCES, REFUSED, BYTES, STORE_SECONDS, OPEN, ENDED, REJECTED, GROUPS, GROUP_ROWS,
    GROUP_SECONDS, UNINDEXED, AWAY, DISK_FREE, DISK_LOW, COMMITMENTS, NOT_COMMITTED, BOUNDED,
)  # fmt: skip

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)
_SAMPLE_SECONDS = 1.0
# The kinds of files that an acceptor counts in, named as prometheus_client names them.
LIVE_KINDS = ("gauge_livesum", "gauge_livemax")
_KINDS = ("counter", "histogram", *LIVE_KINDS)
_FILE_BYTES = 1 << 16


def metrics_folder(data_dir: Path) -> Path:
    """Return where the acceptors count."""
    return data_dir.absolute() / "metrics"


def values_file(folder: Path, kind: str, acceptor: str) -> Path:
    """Return the file in which an acceptor counts one kind of metrics."""
    return folder / f"{kind}_{acceptor}.db"


class Counting(Observer):
    """Counts what the SCP tells of itself; between two and ten microseconds a call.

    Parameters
    ----------
    registry : prometheus_client.CollectorRegistry, optional
        Without one the numbers are only kept where `share_values` says.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._instances = _children(INSTANCES, Added, registry)
        failures = [f"0x{one:04X}" for one in StoreStatus if one != StoreStatus.SUCCESS]
        self._refused = _children(REFUSED, failures, registry)
        self._bytes = Counter(BYTES.name, BYTES.meaning, registry=registry)
        self._seconds = Histogram(
            STORE_SECONDS.name, STORE_SECONDS.meaning, buckets=_SECONDS, registry=registry
        )
        self._open = _gauge(OPEN, "livesum", registry)
        ends = [end for end in AssociationEnd if end is not AssociationEnd.REJECTED]
        self._ended = _children(ENDED, ends, registry)
        self._rejected = _children(REJECTED, RejectionKind, registry)
        self._groups = Counter(GROUPS.name, GROUPS.meaning, registry=registry)
        self._group_rows = Counter(GROUP_ROWS.name, GROUP_ROWS.meaning, registry=registry)
        self._group_seconds = Counter(GROUP_SECONDS.name, GROUP_SECONDS.meaning, registry=registry)
        self._unindexed = _gauge(UNINDEXED, "livesum", registry)
        self._away = _gauge(AWAY, "livemax", registry)
        self._commitments = Counter(COMMITMENTS.name, COMMITMENTS.meaning, registry=registry)
        reasons = [f"0x{one:04X}" for one in FailureReason]
        self._not_committed = _children(NOT_COMMITTED, reasons, registry)
        self._bounded = Counter(BOUNDED.name, BOUNDED.meaning, registry=registry)
        self._sampled = (0, 0, 0.0)

    def stored(self, result: str, n_bytes: int, seconds: float) -> None:
        """Count a C-STORE that was answered with success."""
        self._instances[result].inc()
        self._bytes.inc(n_bytes)
        self._seconds.observe(seconds)

    def refused(self, status: int) -> None:
        """Count a C-STORE that was refused."""
        self._refused[f"0x{status:04X}"].inc()

    def association_opened(self) -> None:
        """Count an association."""
        self._open.inc()

    def association_ended(self, ended_by: str) -> None:
        """Count the end of an association."""
        self._open.dec()
        self._ended[ended_by].inc()

    def association_rejected(self, kind: str) -> None:
        """Count a rejection."""
        self._rejected[kind].inc()

    def commitment_asked(self) -> None:
        """Count a request for storage commitment."""
        self._commitments.inc()

    def commitment_refused(self, reason: int) -> None:
        """Count an instance that is not committed."""
        self._not_committed[f"0x{reason:04X}"].inc()

    def analysis_bounded(self) -> None:
        """Count an analysis that is not asked for."""
        self._bounded.inc()

    def sample(self, ingest: Ingest) -> None:
        """Take over what the group commit counts itself."""
        now = (ingest.n_groups, ingest.n_rows, ingest.seconds)
        for counter, after, before in zip(
            (self._groups, self._group_rows, self._group_seconds), now, self._sampled, strict=True
        ):
            counter.inc(after - before)
        self._sampled = now
        self._unindexed.set(ingest.n_unindexed)
        self._away.set(ingest.is_database_away)


@contextmanager
def sampled(counting: Counting, ingest: Ingest) -> Iterator[None]:
    """Sample the group commit every second until the block ends."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(_SAMPLE_SECONDS):
            counting.sample(ingest)

    thread = threading.Thread(target=run, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def share_values(folder: Path, acceptor: str) -> bool:
    """Let what this process counts from now on be read by the one that started it.

    An acceptor that comes back counts on in the same files. Returns False if they cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for kind in LIVE_KINDS:
            values_file(folder, kind, acceptor).unlink(missing_ok=True)
        for kind in _KINDS:
            # prometheus_client maps these files into memory and leaves holes in them: to write
            # into one on a full disk would end the process (SIGBUS).
            with values_file(folder, kind, acceptor).open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
    except OSError as error:
        _log.error("metrics.off", reason=error.strerror)
        return False
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    # By default it names files after the process id: each restart would leave some behind.
    values.ValueClass = values.MultiProcessValue(lambda: acceptor)  # type: ignore[no-untyped-call]
    return True


def _children(
    metric: Metric, known: Iterable[str], registry: CollectorRegistry | None
) -> dict[str, Counter]:
    """Return a counter for each value of the label, so that all are there from the start."""
    counter = Counter(metric.name, metric.meaning, metric.labels, registry=registry)
    return {str(value): counter.labels(str(value)) for value in known}


def _gauge(metric: Metric, mode: str, registry: CollectorRegistry | None) -> Gauge:
    return Gauge(metric.name, metric.meaning, multiprocess_mode=mode, registry=registry)  # type: ignore[arg-type]
