"""A port that stays a test's own, also while nobody listens there."""

from __future__ import annotations

import socket


def held_port(port: int = 0) -> socket.socket:
    """Bind a port of this machine, and do not listen: who connects is refused.

    Servers bind it beside this socket, for both say SO_REUSEADDR; nobody else gets it from the
    system before this socket is closed.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", port))
    return holder
