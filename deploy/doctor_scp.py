"""The part of `preread doctor` that looks at receiving: port, acceptors, access, TLS, backlog."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from db import FileStore, inventory
from inference.number_words import noun, number_of
from scp import Peer
from scp.errors import ScpError
from scp.tls import server_context
from scp.verify import echo

from .acceptors import bind_error
from .check import Check, Verdict
from .settings import Settings

_EXPIRES_SOON = timedelta(days=30)


def examine_scp(settings: Settings) -> Iterator[Check]:
    """Yield the checks of receiving."""
    yield _port(settings)
    yield _acceptors(settings)
    yield _access(settings)
    yield _tls(settings)
    yield from _backlog(settings)


def _port(settings: Settings) -> Check:
    scp = settings.scp
    error = bind_error(scp.host, scp.port)
    if error is None:
        verdict, message = Verdict.GOOD, f"{scp.port} is free; {scp.ae_title} does not run"
    elif error.errno == errno.EADDRINUSE:
        return _taken(settings)
    elif error.errno == errno.EACCES:
        verdict = Verdict.BAD
        message = f"{scp.port} needs privileges: set scp.port to one above 1023"
    else:
        verdict = Verdict.BAD
        message = f"scp.host {scp.host}:{scp.port} cannot be listened on: {error.strerror}"
    return Check("port", verdict, message)


def _taken(settings: Settings) -> Check:
    scp = settings.scp
    host = "127.0.0.1" if scp.host in ("0.0.0.0", "::") else scp.host  # noqa: S104 - compared
    try:
        echo(Peer(host, scp.port, scp.ae_title, "DOCTOR", 5.0))
    except ScpError:
        kept_out = scp.tls_certificate or scp.calling_ae_allow or scp.address_allow
        if kept_out:
            message = f"{scp.port} is taken, by this node if it runs; doctor may not call it"
            return Check("port", Verdict.GOOD, message)
        message = f"{scp.port} is taken by a program that answers no C-ECHO as {scp.ae_title}"
        return Check("port", Verdict.WARNING, message)
    return Check("port", Verdict.GOOD, f"{scp.ae_title} answers on {scp.port}")


def _acceptors(settings: Settings) -> Check:
    number = settings.n_acceptors
    if number > 1 and not _can_share_ports():
        return Check(
            "acceptors",
            Verdict.BAD,
            f"{number} processes cannot share a port here (no SO_REUSEPORT): set scp.acceptors = 1",
        )
    cores = len(os.sched_getaffinity(0))
    message = f"{number} on {'SQLite' if settings.on_sqlite else 'PostgreSQL'}, {cores} CPU cores"
    if number > cores:
        return Check("acceptors", Verdict.WARNING, f"{message}: more than cores receive no faster")
    return Check("acceptors", Verdict.GOOD, message)


def _can_share_ports() -> bool:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except (AttributeError, OSError):
        return False
    return True


def _access(settings: Settings) -> Check:
    scp = settings.scp
    lists = ("calling_ae_allow", "called_ae_allow", "address_allow")
    filled = [f"scp.{name}" for name in lists if getattr(scp, name)]
    if filled:
        return Check("access", Verdict.GOOD, f"{scp.access}, by {', '.join(filled)}")
    return Check(
        "access",
        Verdict.WARNING,
        "open: whoever reaches the port may store images; name the senders in "
        "scp.calling_ae_allow or scp.address_allow",
    )


def _tls(settings: Settings) -> Check:
    try:
        context = server_context(settings.scp)
        if context is None:
            message = "off: images cross the network as they are (scp.tls_certificate)"
            return Check("TLS", Verdict.GOOD, message)
        expires = _expiry(context, settings)
    except ScpError as error:
        return Check("TLS", Verdict.BAD, str(error))
    except ssl.SSLCertVerificationError as error:
        return Check("TLS", Verdict.BAD, f"scp.tls_certificate: {error.verify_message}")
    senders = "senders must show a certificate" if settings.scp.tls_ca else "any sender"
    message = f"on, {senders}, certificate valid until {expires:%Y-%m-%d}"
    if expires - datetime.now(UTC) < _EXPIRES_SOON:
        return Check("TLS", Verdict.WARNING, f"{message}: have scp.tls_certificate renewed")
    return Check("TLS", Verdict.GOOD, message)


def _expiry(server: ssl.SSLContext, settings: Settings) -> datetime:
    """Return when the node's certificate expires, as a sender that trusts it finds.

    Raises
    ------
    ssl.SSLCertVerificationError
        If it is not valid today.
    """
    # No sender's certificate is at hand, and none is needed to see the node's.
    server.verify_mode = ssl.CERT_NONE
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(settings.scp.tls_certificate)
    to_node, to_sender = ssl.MemoryBIO(), ssl.MemoryBIO()
    node = server.wrap_bio(to_node, to_sender, server_side=True)
    sender = client.wrap_bio(to_sender, to_node)
    for side in (sender, node, sender):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate = sender.getpeercert() or {}
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)


def _backlog(settings: Settings) -> Iterator[Check]:
    files = FileStore(settings.data_dir)
    waiting, refused = inventory.count_backlog(files), inventory.count_refused(files)
    if waiting:
        yield Check(
            "backlog",
            Verdict.WARNING,
            f"{number_of(waiting, 'image')} kept {noun(waiting, 'waits', 'wait')} for the "
            f"database; a running node indexes {noun(waiting, 'it', 'them')} when it is back",
        )
    if refused:
        yield Check(
            "backlog",
            Verdict.BAD,
            f"{number_of(refused, 'image is', 'images are')} kept that the database refused: see "
            f"{files.root / 'unindexed'}/refused-*",
        )
    if not waiting and not refused:
        yield Check("backlog", Verdict.GOOD, "no image waits for the database")
