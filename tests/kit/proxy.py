"""A TCP proxy whose line can go dead: connections stay open and nothing comes through."""

from __future__ import annotations

import selectors
import socket
import threading


class DeadLineProxy:
    """Forwards to a port of this machine until `cut`; both ends then hear nothing any more."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._other: dict[socket.socket, socket.socket] = {}
        self._is_cut = threading.Event()
        self._is_closed = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._forward, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        self._is_cut.set()

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()
        for one in (self._listener, *self._other):
            one.close()

    def _forward(self) -> None:
        while not self._is_closed.is_set():
            for key, _ in self._selector.select(0.05):
                if self._is_cut.is_set():
                    continue
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._pass_on(key.fileobj)
            if self._is_cut.is_set():
                self._is_closed.wait()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._target))
        self._other[near], self._other[far] = far, near
        for one in (near, far):
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        try:
            content = source.recv(65536)
        except ConnectionError:
            content = b""
        if content:
            self._other[source].sendall(content)
        else:
            self._selector.unregister(source)
