"""Files in the order in which they arrived, however many there are.

Rows are rebuilt in the order in which they were first made: the first instance of a study describes
it, and the first bytes under a SOP Instance UID are revision 0. Ten years of images are too many
to be sorted in memory, so they wait in a temporary file.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

_BATCH = 1000


class ArrivalOrder:
    """Paths with the time of their arrival; iterating yields them in order.

    Paths of equal times come shortest first: the name of the first bytes under a SOP Instance UID
    is shorter than the names of all other bytes.

    Parameters
    ----------
    folder : Path
        Where the temporary file lies; it has no name there, so that it goes with the process.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / f"{os.getpid()}-order-{secrets.token_hex(4)}"
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            # No journal: what is lost with the process is of no use to anybody.
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.execute(
                "CREATE TABLE arrived (at INTEGER, length INTEGER, path TEXT,"
                " PRIMARY KEY (at, length, path)) WITHOUT ROWID"
            )
        finally:
            path.unlink(missing_ok=True)
        self._count = 0

    def __enter__(self) -> ArrivalOrder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def __len__(self) -> int:
        return self._count

    def add(self, arrived: Iterable[tuple[str, int]]) -> None:
        """Add paths, each with its time in nanoseconds; the same again changes nothing."""
        self._database.execute("BEGIN")
        added = self._database.executemany(
            "INSERT OR IGNORE INTO arrived VALUES (?, ?, ?)",
            ((at, len(path), path) for path, at in arrived),
        )
        self._count += added.rowcount
        self._database.execute("COMMIT")

    def __iter__(self) -> Iterator[str]:
        last: tuple[int, int, str] = (-(2**63), 0, "")
        while True:
            some = self._database.execute(
                "SELECT at, length, path FROM arrived WHERE (at, length, path) > (?, ?, ?)"
                " ORDER BY at, length, path LIMIT ?",
                (*last, _BATCH),
            ).fetchall()
            if not some:
                return
            yield from (path for _, _, path in some)
            last = some[-1]
