"""Answers Prometheus for all acceptors of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from db import FileStore

from .errors import NodeError
from .metrics import DISK_FREE, DISK_LOW, LIVE_KINDS, metrics_folder, values_file
from .settings import Settings

_log = structlog.get_logger()


class DiskCollector(Collector):
    """Looks at the disk when it is asked for."""

    def __init__(self, settings: Settings) -> None:
        self._files = FileStore(settings.data_dir)
        self._least = settings.scp.min_free_disk_mb << 20

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield free space and whether it is too little; nothing if that cannot be told."""
        try:
            free = self._files.free_space().n_bytes
        except OSError:
            return
        yield GaugeMetricFamily(DISK_FREE.name, DISK_FREE.meaning, value=free)
        yield GaugeMetricFamily(DISK_LOW.name, DISK_LOW.meaning, value=free < self._least)


@contextmanager
def exporter(settings: Settings) -> Iterator[Callable[[str], None]]:
    """Answer ``/metrics`` until the block ends, counted anew from now on.

    Yields
    ------
    callable
        To be told the name of an acceptor that has ended: what was open in it no longer is.

    Raises
    ------
    NodeError
        If the port cannot be had or the folder not be used; names the setting.
    """
    folder = metrics_folder(settings.data_dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob("*.db"):
            left.unlink()
    except OSError as error:
        raise NodeError(f"data_dir: {folder} cannot be used: {error.strerror}") from None
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    registry.register(DiskCollector(settings))
    host, port = settings.metrics.host, settings.metrics.port
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise NodeError(
            f"metrics.port {port} on {host} cannot be had: {error.strerror}; set another one"
        ) from None
    _log.info("metrics.started", port=port)

    def ended(part: str) -> None:
        for kind in LIVE_KINDS:
            values_file(folder, kind, part).unlink(missing_ok=True)

    try:
        yield ended
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
