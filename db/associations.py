"""The association ledger: one row for each association that a peer asked for, with what came of it.

A row is written when the association opens and again when it ends; both are one statement, so that
it does not matter whether the first was ever written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from .dialect import Cursor, Dialect
from .schema import AssociationEnd

# A-ASSOCIATE-RQ has odd numbers of one byte for its presentation contexts (PS3.8 Section 9.3.2.2).
MOST_CONTEXTS = 128

_CONTEXTS = "INSERT INTO context_set (digest, contexts) VALUES (?, ?) ON CONFLICT DO NOTHING"
# The first end counts; an opening that comes after the end changes nothing.
_ENTRY = """
INSERT INTO association (id, acceptor, calling_ae, called_ae, peer_host, peer_port, context_digest,
                         opened_at, ended_at, ended_by, reject_reason, n_received, n_equal,
                         n_refused, refusals, n_bytes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE
SET ended_at = excluded.ended_at, ended_by = excluded.ended_by,
    n_received = excluded.n_received, n_equal = excluded.n_equal,
    n_refused = excluded.n_refused, refusals = excluded.refusals, n_bytes = excluded.n_bytes
WHERE association.ended_at IS NULL AND excluded.ended_at IS NOT NULL
"""
_LOST = """
UPDATE association SET ended_at = ?, ended_by = 'lost'
WHERE acceptor = ? AND ended_at IS NULL AND opened_at < ?
"""


class ContextResult(NamedTuple):
    """A presentation context as it was answered (PS3.8 Section 9.3.3.2)."""

    abstract_syntax: str
    transfer_syntax: str | None
    result: int


@dataclass(frozen=True, slots=True)
class AssociationRecord:
    """An association as it was accepted or rejected."""

    id: str
    acceptor: str
    calling_ae: str
    called_ae: str
    peer_host: str
    peer_port: int
    opened_at: datetime
    contexts: tuple[ContextResult, ...] = ()


@dataclass(frozen=True, slots=True)
class AssociationCounts:
    """What an association brought.

    Attributes
    ----------
    n_received : int
        Instances answered with success.
    n_refused : int
        Instances answered with another status.
    n_bytes : int
        Bytes of the data sets of both.
    n_equal : int
        Of `n_received`, those that were here before with the same bytes.
    refusals : mapping of str to int
        How many were refused with each status, written like ``0xA700``.
    """

    n_received: int = 0
    n_refused: int = 0
    n_bytes: int = 0
    n_equal: int = 0
    refusals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AssociationClosing:
    """How an association ended; the whole record again, because its opening may not be written."""

    record: AssociationRecord
    counts: AssociationCounts
    ended_at: datetime
    ended_by: AssociationEnd
    reject_reason: str | None = None


@dataclass(frozen=True, slots=True)
class LostAcceptor:
    """Associations that a killed process of this acceptor opened before `before` are lost."""

    acceptor: str
    before: datetime


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A row of the ledger, bounded and ready to be written."""

    id: str
    context_digest: str | None
    contexts: str | None
    opened_at: datetime
    ended_at: datetime | None
    peer: tuple[object, ...]
    ending: tuple[object, ...]


def entry_of(said: AssociationRecord | AssociationClosing) -> LedgerEntry:
    """Return the row for an opening or a closing; what the peer chose is cut to what is kept."""
    closing = said if isinstance(said, AssociationClosing) else None
    record = said.record if isinstance(said, AssociationClosing) else said
    counts = closing.counts if closing else AssociationCounts()
    digest, contexts = _contexts(record.contexts) if record.contexts else (None, None)
    return LedgerEntry(
        id=_bounded(record.id, 32),
        context_digest=digest,
        contexts=contexts,
        opened_at=record.opened_at,
        ended_at=closing.ended_at if closing else None,
        peer=(
            _bounded(record.acceptor, 128),
            _bounded(record.calling_ae, 16),
            _bounded(record.called_ae, 16),
            _bounded(record.peer_host, 64),
            record.peer_port,
        ),
        ending=(
            str(closing.ended_by) if closing else None,
            _bounded(closing.reject_reason, 256) if closing and closing.reject_reason else None,
            counts.n_received,
            counts.n_equal,
            counts.n_refused,
            json.dumps(dict(counts.refusals)) if counts.refusals else None,
            counts.n_bytes,
        ),
    )


def write_entries(
    cursor: Cursor, dialect: Dialect, entries: Sequence[LedgerEntry], known: Collection[str] = ()
) -> None:
    """Write rows of the ledger.

    Parameters
    ----------
    known : collection of str
        Digests of presentation contexts that were written before.
    """
    contexts = {
        entry.context_digest: entry.contexts
        for entry in entries
        if entry.context_digest is not None and entry.context_digest not in known
    }
    if contexts:
        cursor.executemany(dialect.sql(_CONTEXTS), sorted(contexts.items()))
    cursor.executemany(dialect.sql(_ENTRY), [_row(dialect, entry) for entry in entries])


def write_lost(cursor: Cursor, dialect: Dialect, lost: LostAcceptor) -> int:
    """Close what a killed process of an acceptor left open, as lost; return how many."""
    before = dialect.time(lost.before)
    return cursor.execute(dialect.sql(_LOST), (before, lost.acceptor[:128], before)).rowcount


def _row(dialect: Dialect, entry: LedgerEntry) -> tuple[object, ...]:
    ended = None if entry.ended_at is None else dialect.time(entry.ended_at)
    opened = dialect.time(entry.opened_at)
    return (entry.id, *entry.peer, entry.context_digest, opened, ended, *entry.ending)


def _bounded(text: str, limit: int) -> str:
    """Cut text to what its column holds; what no database takes as text becomes a question mark."""
    cut = text[:limit]
    return cut if cut.isprintable() else "".join(c if c.isprintable() else "?" for c in cut)


@lru_cache(maxsize=64)
def _contexts(contexts: tuple[ContextResult, ...]) -> tuple[str, str]:
    """Return digest and JSON; peers propose the same list again and again."""
    text = json.dumps(
        [
            [
                _bounded(one.abstract_syntax, 64),
                None if one.transfer_syntax is None else _bounded(one.transfer_syntax, 64),
                int(one.result),
            ]
            for one in contexts[:MOST_CONTEXTS]
        ],
        separators=(",", ":"),
    )
    return hashlib.sha256(text.encode()).hexdigest(), text
