"""The part of `preread doctor` that looks at who is to be told of findings."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from .check import Check, Verdict
from .notify.settings import NotifySettings
from .settings import Settings

_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}


def examine_notify(settings: Settings) -> Iterator[Check]:
    """Yield a check for each target: its files, and whether anybody listens; nothing is sent."""
    for one in settings.notify:
        fault = _fault(one)
        if fault is not None:
            yield Check("notify", Verdict.BAD, f"{one.name}: {fault}")
        else:
            yield Check(
                "notify",
                Verdict.GOOD,
                f"{one.name} can be reached; `preread notifications test {one.name}` sends a test",
            )


def _fault(target: NotifySettings) -> str | None:
    for setting in ("token_file", "secret_file", "ca_file"):
        path = getattr(target, setting)
        try:
            if path is not None and not path.read_bytes().strip():
                return f"{setting} {path} is empty"
        except OSError as error:
            return f"{setting} {path} cannot be read: {error.strerror}"
    host, port = _address(target)
    try:
        with socket.create_connection((host, port), timeout=min(target.timeout, _SECONDS)):
            return None
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return f"{host}:{port} cannot be reached: {why}"


def _address(target: NotifySettings) -> tuple[str, int]:
    if target.url is None:
        return target.host or "", target.port or 0
    parts = urlsplit(target.url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]
