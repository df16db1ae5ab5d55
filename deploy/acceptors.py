"""The processes that receive: what they are called, and the port that they share.

With SO_REUSEPORT the kernel spreads connections over them. It also lets every other process of the
same user join, so that a second node would take a share of the first one's images without a word.
Whoever starts acceptors reserves the port first.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import NodeError
from .settings import Settings


def acceptor_name(number: int) -> str:
    """Return the name of an acceptor's process in log and metrics."""
    return f"scp-{number}" if number else "scp"


def acceptor_id(settings: Settings, number: int) -> str:
    """Return the name of an acceptor in the ledger, the same after each restart."""
    name = f"{socket.gethostname()}:{settings.scp.port}"
    return f"{name}#{number}" if number else name


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[None]:
    """Hold a port against other nodes of this machine until the block ends.

    Acceptors inside the block, restarted ones too, bind with SO_REUSEPORT and ask nobody.

    Raises
    ------
    NodeError
        If somebody listens on the port, or another node has reserved it.
    """
    in_use = NodeError(
        f"port {port} on {host} is in use: stop the other program or set another scp.port"
    )
    with socket.socket(socket.AF_UNIX) as reservation:
        # An abstract name: known in the network namespace that the port is in, and gone with this
        # process. It stands for the port while no acceptor listens yet, or while all restart.
        try:
            reservation.bind(f"\0preread-scp-{host}-{port}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise in_use from None
            raise NodeError(f"port {port} cannot be reserved: {error.strerror}") from error
        refused = bind_error(host, port)
        if refused is not None and refused.errno == errno.EADDRINUSE:
            raise in_use
        yield  # what else is wrong an acceptor says better


def bind_error(host: str, port: int) -> OSError | None:
    """Return why a port cannot be bound by one process alone; None if it can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            # Connections of an earlier node that still wind down (TIME_WAIT) do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None
