"""HTTP sessions that end: every call is bound by the clock, not only each of its reads."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from .errors import UnreachableError


class _Sockets:
    """The sockets of the session, to be shut down when the time of a call is over.

    They are duplicates: what TLS wraps is detached from its first object, and a peer may stop in
    the middle of the handshake.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._is_over = False

    def begin(self) -> None:
        self._is_over = False

    def add(self, one: socket.socket) -> None:
        with self._lock:
            self._open.append(one.dup())
            if self._is_over:
                self._shut_down()

    def end(self) -> None:
        with self._lock:
            self._is_over = True
            self._shut_down()

    def _shut_down(self) -> None:
        for one in self._open:
            with suppress(OSError):  # it may be down already
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            for one in self._open:
                one.close()
            self._open.clear()


class _Adapter(HTTPAdapter):
    def __init__(self, sockets: _Sockets) -> None:
        self._sockets = sockets
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        sockets = self._sockets

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                sockets.add(made)
                return made

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                sockets.add(made)
                return made

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


class HttpSession(requests.Session):
    """A session that follows nobody elsewhere and takes no longer than it is given.

    Parameters
    ----------
    seconds : float
        For each call, from the name look-up to the last byte of the answer.
    ca_file : Path or None
        Certificates (PEM) that may sign that of the server; without one the system's.
    """

    def __init__(self, seconds: float, ca_file: Path | None) -> None:
        super().__init__()
        self._seconds = seconds
        self._sockets = _Sockets()
        # Nothing of the environment: a .netrc would replace the token, a proxy would see it.
        self.trust_env = False
        self.verify = str(ca_file) if ca_file is not None else _system_certificates()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self._sockets))

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Make one call, its answer read as a whole.

        Raises
        ------
        UnreachableError
            If no whole answer comes in time.
        """
        kwargs |= {"timeout": self._seconds, "allow_redirects": False, "stream": False}
        try:
            with self._bound():
                return super().request(*args, **kwargs)
        except requests.RequestException as error:
            raise _unreachable(error) from error

    @contextmanager
    def _bound(self) -> Iterator[None]:
        self._sockets.begin()
        timer = threading.Timer(self._seconds, self._sockets.end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self._sockets.close()


def _unreachable(error: requests.RequestException) -> UnreachableError:
    """Say what happened without the address: it may hold what nobody should read in a log."""
    causes = list(_causes(error))
    innermost = causes[-1]
    text = getattr(innermost, "strerror", None) or type(innermost).__name__
    if isinstance(error, requests.exceptions.SSLError):
        return UnreachableError(f"TLS failed: {text}")
    if any(isinstance(one, (NewConnectionError, ConnectTimeoutError)) for one in causes):
        return UnreachableError(f"cannot connect: {text}")
    if isinstance(error, requests.exceptions.Timeout):
        return UnreachableError("no answer in time", has_begun=True)
    return UnreachableError(f"the connection broke: {text}", has_begun=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what lies under it; urllib3 wraps several times."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _system_certificates() -> str | bool:
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True
