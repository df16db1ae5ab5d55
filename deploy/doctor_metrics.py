"""The part of `preread doctor` that looks at the port of the metrics."""

from __future__ import annotations

import errno
import http.client
from collections.abc import Iterator

from .acceptors import bind_error
from .check import Check, Verdict
from .settings import MetricsSettings

_WAIT_SECONDS = 5.0
# Metrics of this node begin so; those of another program may stand on the same port.
_OURS = b"preread_"


def examine_metrics(metrics: MetricsSettings) -> Iterator[Check]:
    """Yield whether the port of the metrics can be had, or is this node's; none where it is 0."""
    if not metrics.port:
        return
    error = bind_error(metrics.host, metrics.port)
    place = f"{metrics.port} on {metrics.host}"
    if error is None:
        yield Check("metrics", Verdict.GOOD, f"{place} is free")
    elif error.errno == errno.EADDRINUSE and _answers(metrics):
        yield Check("metrics", Verdict.GOOD, f"{place} answers")
    else:
        yield Check(
            "metrics",
            Verdict.BAD,
            f"metrics.port {place} cannot be had: {error.strerror}; set another one",
        )


def _answers(metrics: MetricsSettings) -> bool:
    """Tell whether a node of Preread answers there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(metrics.host, metrics.host)  # noqa: S104
    connection = http.client.HTTPConnection(host, metrics.port, timeout=_WAIT_SECONDS)
    try:
        connection.request("GET", "/metrics")
        return _OURS in connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
