"""Fetching a published file: over https, of a bounded size, kept by its digest. Light: no torch."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from ..errors import InferenceError

_TIMEOUT_SECONDS: Final = 60.0
# Altogether: a server that sends a byte a minute must not hold a person up for ever.
_DEADLINE_SECONDS: Final = 1800.0
_LARGEST: Final = 256 << 20
_CHUNK: Final = 1 << 20
_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class DownloadError(InferenceError):
    """A published file cannot be fetched, or is not the one that was asked for."""


def cache_dir() -> Path:
    """Return where fetched files are kept: ``$XDG_CACHE_HOME/preread/models`` or below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "preread" / "models"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises
    ------
    DownloadError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DownloadError(f"{path} cannot be read: {error.strerror}") from error


def check_digest(path: Path, found: str, expected: str) -> None:
    """Compare two digests.

    Raises
    ------
    DownloadError
        If they differ; the message names both.
    """
    if found != expected.lower():
        raise DownloadError(
            f"{path} is not the expected file: its SHA-256 is {found}, expected was {expected}"
        )


def fetch(
    url: str,
    folder: Path,
    sha256: str | None = None,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Path:
    """Return a published file, from the cache or else from its address.

    A file is written under its final name only when it is complete and its digest is right.

    Parameters
    ----------
    url : str
        With https; http is accepted for this machine alone.
    folder : Path
        The cache; made if need be.
    sha256 : str, optional
        Expected digest. Without one the file is fetched anew, and trusted. A kept file that has
        changed since is fetched anew too.
    on_progress : callable
        Called with the bytes so far and, where the server says so, the bytes there are.

    Returns
    -------
    Path
        ``<digest>.pt`` in the cache.

    Raises
    ------
    DownloadError
        If it cannot be fetched, is too large, or has another digest; the way out is named.
    """
    _require_safe(url)
    kept = folder / f"{(sha256 or '').lower()}.pt"
    if sha256 is not None and kept.is_file() and sha256_of(kept) == sha256.lower():
        return kept
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix="fetching-", dir=folder)
    except OSError as error:
        raise DownloadError(f"{folder} cannot be written: {error.strerror}") from error
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            found = _receive(url, file, on_progress)
            file.flush()
            os.fsync(file.fileno())
        if sha256 is not None and found != sha256.lower():
            raise DownloadError(
                f"{url} is not the expected file: its SHA-256 is {found}, expected was {sha256}; "
                "it was not kept"
            )
        return part.replace(folder / f"{found}.pt")
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, file: IO[bytes], on_progress: Callable[[int, int | None], None]) -> str:
    digest = hashlib.sha256()
    deadline = time.monotonic() + _DEADLINE_SECONDS
    done = 0
    try:
        with _opener().open(url, timeout=_TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length") or ""
            total = int(length) if length.isdecimal() else None
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                if done > _LARGEST:
                    raise DownloadError(f"{url} has more than {_LARGEST >> 20} MiB")
                if time.monotonic() > deadline:
                    raise _failed(url, f"it took longer than {_DEADLINE_SECONDS:.0f} seconds")
                digest.update(chunk)
                file.write(chunk)
                on_progress(done, total)
    except urllib.error.URLError as error:
        raise _failed(url, str(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise _failed(url, str(error) or type(error).__name__) from error
    if total is not None and done != total:
        raise _failed(url, f"it ended after {done} of {total} bytes")
    return digest.hexdigest()


def _failed(url: str, reason: str) -> DownloadError:
    return DownloadError(
        f"{url} cannot be fetched: {reason}. Without internet, fetch it on another machine "
        f"(curl -LO {url}), bring the file here and give it with --file"
    )


def _require_safe(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _HERE):
        raise DownloadError(f"{url} is no https address")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to where a download may begin."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _require_safe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> Any:
    return urllib.request.build_opener(_SafeRedirects())
