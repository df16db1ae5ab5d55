"""All rows of images from their files, and nothing but them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import sqlalchemy as sa

from db import inventory
from db.arrival import ArrivalOrder
from db.files import FileStore
from db.rebuild import Placed, open_again, rebuild

from .discrepancy import Kind, Report
from .reconcile import REBUILT, Outcome, Reconciliation, chunks, read_one

REINDEXED = "reindexed"
_GROUP = 200
# Handing a file to a thread costs as much as reading a small one.
_READ_AT_ONCE = 32
_READ_AHEAD = 32
# Reading and digests release the interpreter; more threads only wait for it.
_THREADS = 4
# A file that is being received gets its row within milliseconds, or its record in the backlog.
_YOUNG_SECONDS = 60.0
_GRACE_SECONDS = 5.0

# Told of a step, how much of it is done, and how much there is, if that is known.
Progress: TypeAlias = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """What a reindex, or a check, found.

    Attributes
    ----------
    n_files, n_rows : int
        Image files and instance rows looked at; the rows are those that were there before.
    n_opened : int
        Rebuilt series that were opened, to be routed and analysed.
    counts : mapping of Kind to int
        Discrepancies.
    """

    n_files: int
    n_rows: int
    n_opened: int
    counts: Mapping[Kind, int]


class Reindex:
    """Rebuilds what rows lack, in the order in which the images were received.

    Parameters
    ----------
    files, engine
        What is compared; the schema is there.
    report : callable
        Told of each discrepancy.
    progress : callable
        Told how far the work is.
    """

    def __init__(
        self, files: FileStore, engine: sa.Engine, report: Report, progress: Progress
    ) -> None:
        self._files = files
        self._engine = engine
        self._progress = progress
        self._work = Reconciliation(files, engine, report, self._advance)
        self._step, self._done = "", 0
        self._total: int | None = None

    def check(self) -> ReindexReport:
        """Only look; change nothing."""
        with self._order() as settled, self._order() as recent:
            self._list(settled, recent, verify=False, change=False)
            self._await(recent, settled)
            for path in settled:
                self._work.found_unindexed(path)
        return self._summary(0)

    def run(self, *, verify: bool, analyse: bool) -> ReindexReport:
        """Make what is missing.

        Parameters
        ----------
        verify : bool
            Read every byte of the files that have rows, too.
        analyse : bool
            Open the series that were rebuilt, now or earlier, so that models are asked.
        """
        with self._order() as settled, self._order() as recent:
            self._list(settled, recent, verify=verify, change=True)
            # All in one order: the first instance of a study describes it.
            self._await(recent, settled)
            self._index(settled)
        return self._summary(open_again(self._engine, REBUILT) if analyse else 0)

    def _order(self) -> ArrivalOrder:
        return ArrivalOrder(self._files.root / "incoming")

    def _list(
        self, settled: ArrivalOrder, recent: ArrivalOrder, *, verify: bool, change: bool
    ) -> None:
        young_ns = time.time_ns() - int(_YOUNG_SECONDS * 1e9)
        self._begin("rows", inventory.count_rows(self._engine))
        # Rows of images without those of their study or series are made from the same files.
        self._work.check_rows(
            verify=verify,
            mark_at=datetime.now(UTC) if change else None,
            orphaned=settled if change else None,
        )
        self._begin("files", None)
        self._work.list_files(settled, recent, young_ns)

    def _await(self, recent: ArrivalOrder, settled: ArrivalOrder) -> None:
        """Look again at files that may have been being received."""
        if len(recent):
            self._begin("young files", len(recent))
            time.sleep(_GRACE_SECONDS)
            self._work.list_again(recent, settled)

    def _index(self, order: ArrivalOrder) -> None:
        if not len(order):
            return
        self._begin("new rows", len(order))
        placed = Placed(REBUILT, datetime.now(UTC))
        with ThreadPoolExecutor(_THREADS, "reindex") as pool:
            self._work.index(
                self._read(pool, order),
                lambda records: rebuild(self._engine, records, placed),
                _GROUP,
            )

    def _read(self, pool: ThreadPoolExecutor, order: ArrivalOrder) -> Iterator[Outcome]:
        def read(paths: list[str]) -> list[Outcome]:
            return [read_one(self._files, path, REINDEXED) for path in paths]

        for some in chunks(chunks(order, _READ_AT_ONCE), _READ_AHEAD):
            for outcomes in pool.map(read, some):
                yield from outcomes

    def _begin(self, step: str, total: int | None) -> None:
        self._step, self._done, self._total = step, 0, total
        self._advance(0)

    def _advance(self, count: int) -> None:
        self._done += count
        self._progress(self._step, self._done, self._total)

    def _summary(self, n_opened: int) -> ReindexReport:
        return ReindexReport(self._work.n_files, self._work.n_rows, n_opened, self._work.counts)
