"""Files and rows brought together: what recovery, reindex and check have in common.

Every step may run beside a node that receives. A file that is being received has its name before
its row, so that files of the last seconds are put aside and looked at again later; a row always
comes after its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

import sqlalchemy as sa

from db import inventory
from db.arrival import ArrivalOrder
from db.errors import DatabaseAwayError, DatabaseError, StorageFullError
from db.files import FileStore
from db.instances import InstanceRecord
from db.inventory import InstanceRow

from .discrepancy import Discrepancy, Kind, Report
from .errors import ScpError
from .rules import Decision
from .stored import read_stored, stored_digest

# One process at a time holds it, in the data directory.
LOCK_NAME = "recovery.lock"
# Series that were rebuilt bear this until they are opened (`preread db reindex --analyse`).
REBUILT = Decision((), ("rebuilt from its files: sent to no model",)).to_json()

_WRONG_NAME = "holds another SOP instance than its name says"
_SAME_BYTES = "another file of the same SOP instance holds the same bytes"


# Makes rows; returns the paths that got one.
Write: TypeAlias = Callable[[Sequence[InstanceRecord]], frozenset[str]]
Outcome: TypeAlias = tuple[str, InstanceRecord | ScpError | OSError]
_T = TypeVar("_T")


def read_one(files: FileStore, path: str, association_id: str) -> Outcome:
    """Return the record of a stored file, or why there is none."""
    try:
        return path, read_stored(files, path, association_id)
    except (ScpError, OSError) as error:
        return path, error


class Reconciliation:
    """One pass over files and rows.

    Parameters
    ----------
    files, engine
        What is compared.
    report : callable
        Told of each discrepancy.
    pace : callable
        Called with the number of files or rows dealt with, after each small piece of work; may
        rest, show progress, or raise to stop.

    Attributes
    ----------
    counts : Counter of Kind
    n_files, n_rows : int
        Looked at so far.
    """

    def __init__(
        self,
        files: FileStore,
        engine: sa.Engine,
        report: Report,
        pace: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._files = files
        self._engine = engine
        self._tell = report
        self._pace = pace
        self.counts: Counter[Kind] = Counter()
        self.n_files = self.n_rows = 0

    def list_files(self, settled: ArrivalOrder, recent: ArrivalOrder, since_ns: int) -> None:
        """List the files without a row: those changed at or after `since_ns` as recent."""
        for folder in inventory.image_folders(self._files):
            try:
                self._list_folder(folder, settled, recent, since_ns)
            except OSError as error:
                within = str(folder.relative_to(self._files.root))
                self._report(Discrepancy(Kind.UNREADABLE, within, reason=error.strerror or ""))

    def _list_folder(
        self, folder: Path, settled: ArrivalOrder, recent: ArrivalOrder, since_ns: int
    ) -> None:
        for seen in inventory.compare_folder(self._engine, self._files, folder):
            for path in seen.foreign:
                self._report(Discrepancy(Kind.FOREIGN, path, reason="no name of an image"))
            times = [*self._times(seen.without_row)]
            settled.add((path, written) for path, written, at in times if at < since_ns)
            recent.add((path, written) for path, written, at in times if at >= since_ns)
            self.n_files += seen.n_files
            self._pace(seen.n_files)

    def list_again(self, recent: ArrivalOrder, settled: ArrivalOrder) -> None:
        """List those of the recent files that still have no row."""
        for some in chunks(recent, inventory.NAMES_PER_QUERY):
            known = inventory.paths_of(self._engine, {uid for path in some for uid in _uids(path)})
            left = [path for path in some if path not in known]
            settled.add((path, written) for path, written, _ in self._times(left))
            self._pace(len(some))

    def _times(self, paths: Iterable[str]) -> Iterator[tuple[str, int, int]]:
        """Yield when files were written and when anything of them changed, in nanoseconds."""
        for path in paths:
            try:
                found = (self._files.root / path).lstat()
            except FileNotFoundError:
                continue
            yield path, found.st_mtime_ns, found.st_ctime_ns

    def index(self, outcomes: Iterable[Outcome], write: Write, group: int) -> None:
        """Make rows of files, `group` at a time; deal with those that cannot have one.

        Parameters
        ----------
        outcomes : iterable
            Paths with what was read of them, in the order of their arrival.
        """
        for some in chunks(outcomes, group):
            records = []
            for path, outcome in some:
                if not isinstance(outcome, InstanceRecord):
                    self._put_aside(path, outcome)
                elif outcome.sop_instance_uid not in _uids(path):
                    self._report(Discrepancy(Kind.FOREIGN, path, reason=_WRONG_NAME))
                else:
                    records.append(outcome)
            self._write(records, write)
            self._pace(len(some))

    def _write(self, records: Sequence[InstanceRecord], write: Write) -> None:
        if not records:
            return
        try:
            made = write(records)
        except (DatabaseAwayError, StorageFullError):
            raise
        except DatabaseError as error:
            if len(records) == 1:
                self._report(_of(Kind.REFUSED, records[0], str(error)))
            for record in records if len(records) > 1 else ():
                self._write([record], write)
            return
        rest = [record for record in records if record.path not in made]
        known = inventory.paths_of(self._engine, {one.sop_instance_uid for one in rest})
        for record in records:
            if record.path in made:
                self._report(_of(Kind.UNINDEXED, record))
            elif record.path not in known:
                self._report(_of(Kind.SURPLUS, record, _SAME_BYTES))

    def _put_aside(self, path: str, error: ScpError | OSError) -> None:
        """Move a damaged file away, unless a row names it: then it was acknowledged."""
        try:
            if isinstance(error, OSError):
                raise error
            if path in inventory.paths_of(self._engine, _uids(path)):
                self._report(Discrepancy(Kind.ALTERED, path, reason=str(error)))
                return
            kept = inventory.move_to_quarantine(self._files, path, datetime.now(UTC))
            self._report(Discrepancy(Kind.DAMAGED, path, reason=f"{error}; now {kept}"))
        except FileNotFoundError:
            pass  # somebody else was faster
        except OSError as refused:
            self._report(Discrepancy(Kind.UNREADABLE, path, reason=refused.strerror or ""))

    def check_rows(
        self, *, verify: bool, mark_at: datetime | None, orphaned: ArrivalOrder | None = None
    ) -> None:
        """Look for the file of every row.

        Parameters
        ----------
        verify : bool
            Read every byte and compare its digest; else only the size.
        mark_at : datetime or None
            The time to mark rows of missing files with; None changes no row.
        orphaned : ArrivalOrder or None
            Takes the files of rows whose study or series has no row.
        """
        for page in inventory.rows(self._engine):
            there = {row.id: self._check(row, verify) for row in page}
            missing = [row for row in page if not there[row.id]]
            returned = [row for row in page if there[row.id] and row.missing_at is not None]
            for row in missing:
                self._report(_row(Kind.MISSING, row, known=row.missing_at is not None))
            for row in returned:
                self._report(_row(Kind.RETURNED, row))
            if mark_at is not None:
                new = [row for row in missing if row.missing_at is None]
                # It may have been sent again meanwhile: reading a page of digests takes a while.
                gone = [row.id for row in new if not (self._files.root / row.path).exists()]
                inventory.mark_missing(self._engine, gone, mark_at)
                inventory.mark_missing(self._engine, [row.id for row in returned], None)
            for row in (orphans := [row for row in page if not row.has_parents]):
                self._report(_row(Kind.ORPHANED, row))
            if orphaned is not None:
                paths = [row.path for row in orphans]
                orphaned.add((path, written) for path, written, _ in self._times(paths))
            self.n_rows += len(page)
            self._pace(len(page))

    def _check(self, row: InstanceRow, verify: bool) -> bool:
        """Tell whether the file of a row is there; report one that is not as it was."""
        path = self._files.root / row.path
        try:
            size = path.stat().st_size
            if size != row.size_bytes:
                reason = f"{size} bytes instead of {row.size_bytes}"
                self._report(_row(Kind.ALTERED, row, reason))
            elif verify and stored_digest(self._files, row.path) != row.sha256:
                self._report(_row(Kind.ALTERED, row, "other bytes than were received"))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._report(_row(Kind.UNREADABLE, row, error.strerror or ""))
        except ScpError as error:
            self._report(_row(Kind.ALTERED, row, str(error)))
        return True

    def found_unindexed(self, path: str) -> None:
        """Report a file without a row that is left as it is."""
        self._report(Discrepancy(Kind.UNINDEXED, path))

    def _report(self, found: Discrepancy) -> None:
        self.counts[found.kind] += 1
        self._tell(found)


def _uids(path: str) -> tuple[str, ...]:
    return inventory.uids_of(path.rpartition("/")[2])


def _of(kind: Kind, record: InstanceRecord, reason: str = "") -> Discrepancy:
    return Discrepancy(
        kind, record.path, record.sop_instance_uid, record.study_instance_uid, reason
    )


def _row(kind: Kind, row: InstanceRow, reason: str = "", *, known: bool = False) -> Discrepancy:
    return Discrepancy(kind, row.path, row.sop_instance_uid, row.study_instance_uid, reason, known)


def chunks(source: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Yield lists of at most `size`."""
    rest = iter(source)
    while some := list(islice(rest, size)):
        yield some
