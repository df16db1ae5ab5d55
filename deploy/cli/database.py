"""``preread db``: the schema, the views, and the rows of images against their files."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from db import FileStore, create_engine, inventory
from db.claim import claimed
from db.migrate import check as check_schema
from db.migrate import current, head
from db.views import VIEWS
from inference.number_words import number_of
from scp.discrepancy import Discrepancy, Kind
from scp.reconcile import LOCK_NAME
from scp.reindex import Reindex, ReindexReport

from .. import settings
from ..errors import DeployError
from .options import Config

NOT_WHOLE_STATUS = 1
_POLL_SECONDS = 0.5

_db = typer.Typer(help="The database.", no_args_is_help=True)

# For a person: what was found, and the way out.
_MEANINGS: Mapping[Kind, str | tuple[str, str]] = {
    Kind.DAMAGED: "without a row and damaged: moved into quarantine",
    Kind.ALTERED: "not as received any more: restore the file from a backup, or move it away and "
    "send the image again",
    Kind.MISSING: (
        "row without its file: restore it from a backup, or send the image again",
        "rows without their file: restore it from a backup, or send the image again",
    ),
    Kind.ORPHANED: (
        "row without a row of its study or series: preread db reindex makes it",
        "rows without a row of their study or series: preread db reindex makes it",
    ),
    Kind.RETURNED: (
        "file that was missing and is there again",
        "files that were missing and are there again",
    ),
    Kind.SURPLUS: (
        "second file of equal bytes, named by no row: it may be deleted",
        "second files of equal bytes, named by no row: they may be deleted",
    ),
    Kind.FOREIGN: "not put there by Preread: move them away; preread send sends images",
    Kind.UNREADABLE: "cannot be read: see the disk and the permissions",
    Kind.REFUSED: "refused by the database",
}
_LOST = (Kind.DAMAGED, Kind.ALTERED, Kind.MISSING, Kind.UNREADABLE, Kind.REFUSED)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_db, name="db")


@_db.command("upgrade")
def upgrade(config: Config = None) -> None:
    """Bring the schema up to date; safe to repeat."""
    from ..ground import upgrade_all

    engine = create_engine(settings.load(config).db_url)
    before = current(engine)
    upgrade_all(engine)
    print(f"schema {before or 'empty'} -> {head()}")


@_db.command("views")
def views() -> None:
    """Print what each column of the SQL views means."""
    for name, columns in VIEWS.items():
        print(name)
        for column, meaning in columns.items():
            print(f"  {column:22} {meaning}")


@_db.command("check")
def check(config: Config = None) -> None:
    """Compare the image files with their rows and change nothing; exit status 1 if they differ.

    Counts what waits for the database and what lies in quarantine, too. Safe beside a running
    node: images that are being received are left out. Whether files still hold the bytes that were
    received, only preread db reindex --verify tells.
    """
    files, engine = _opened(config)
    check_schema(engine)
    with _progress() as progress:
        report = _reindex(files, engine, progress, every=True).check()
    print(f"{number_of(report.n_files, 'file')}, {number_of(report.n_rows, 'row')}")
    waiting = {
        ("image waits", "images wait", "for the database"): inventory.count_backlog(files),
        ("image was", "images were", "refused by the database (unindexed/refused-*)"):
            inventory.count_refused(files),
        ("file", "files", "in quarantine"): inventory.count_quarantine(files),
        ("file", "files", "without a row: preread db reindex makes it"):
            report.counts[Kind.UNINDEXED],
    }  # fmt: skip
    for (one, several, what), count in waiting.items():
        if count:
            print(f"{number_of(count, one, several)} {what}")
    _print_counts(report)
    if any(waiting.values()) or any(report.counts.values()):
        raise typer.Exit(NOT_WHOLE_STATUS)


@_db.command("reindex")
def reindex(
    config: Config = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Read every byte of files that have rows, too, and compare digests."
        ),
    ] = False,
    analyse: Annotated[
        bool,
        typer.Option(
            "--analyse/--no-analysis",
            help="Let the node complete, route and analyse the series that were rebuilt, in this "
            "run or an earlier one. Without it they are listed as complete and go to no model: "
            "after the loss of a database, all images of all years would be analysed at once and "
            "their reports delivered a second time.",
        ),
    ] = False,
) -> None:
    """Make the rows of studies, series and instances that are missing, from the image files.

    Works on an empty database (the schema is made), on a damaged one, and does nothing on a whole
    one. Rows that are there keep their ids, so that analyses and findings go on referring to them.
    Exit status 1 if images are damaged, altered, missing or unreadable.

    Safe beside a running node and safe to interrupt and repeat. A file's time of modification
    stands for the time of receipt, and decides which bytes came first: restore files from a backup
    with their times (cp -a, rsync -a, tar). Which association brought an image cannot be told from
    its file.
    """
    from ..ground import upgrade_all

    files, engine = _opened(config)
    if current(engine) is None:
        upgrade_all(engine)
    check_schema(engine)
    started = time.monotonic()
    with _turn(files), _progress() as progress:
        work = _reindex(files, engine, progress, every=False)
        report = work.run(verify=verify, analyse=analyse)
    seconds = time.monotonic() - started
    print(
        f"{number_of(report.n_files, 'file')}, {number_of(report.n_rows, 'row')} before, "
        f"{seconds:.1f} s"
    )
    print(f"{number_of(report.counts[Kind.UNINDEXED], 'row')} made")
    if report.n_opened:
        print(f"{report.n_opened} series opened: the node completes and analyses them")
    elif report.counts[Kind.UNINDEXED] and not analyse:
        print("new series are complete and go to no model; preread db reindex --analyse opens them")
    _print_counts(report)
    if any(report.counts[kind] for kind in _LOST):
        raise typer.Exit(NOT_WHOLE_STATUS)


def _opened(config: Path | None) -> tuple[FileStore, sa.Engine]:
    loaded = settings.load(config)
    files = FileStore(loaded.data_dir)
    # An empty folder in the place of a volume that is not mounted makes every image a missing one.
    if not (files.root / "images").is_dir():
        raise DeployError(f"data_dir {files.root} holds no images: is it the right folder?")
    files.prepare()
    return files, create_engine(loaded.db_url)


@contextmanager
def _turn(files: FileStore) -> Iterator[None]:
    """Wait until no other process recovers or reindexes."""
    said = False
    while True:
        with claimed(files.root / LOCK_NAME) as mine:
            if mine:
                yield
                return
        if not said:
            print("preread: waiting for the recovery of a running node to end", file=sys.stderr)
            said = True
        time.sleep(_POLL_SECONDS)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _reindex(files: FileStore, engine: sa.Engine, progress: Progress, *, every: bool) -> Reindex:
    task = progress.add_task("", total=None)

    def report(found: Discrepancy) -> None:
        if every or found.kind is not Kind.UNINDEXED:
            line = ": ".join(filter(None, (found.kind, found.path, _study(found), found.reason)))
            progress.console.print(line, markup=False, soft_wrap=True)

    def advance(step: str, done: int, total: int | None) -> None:
        progress.update(task, description=step, completed=done, total=total)

    return Reindex(files, engine, report, advance)


def _study(found: Discrepancy) -> str:
    return f"study {found.study_instance_uid}" if found.study_instance_uid else ""


def _print_counts(report: ReindexReport) -> None:
    for kind, meaning in _MEANINGS.items():
        one, several = (meaning, meaning) if isinstance(meaning, str) else meaning
        if report.counts[kind]:
            print(number_of(report.counts[kind], one, several))
