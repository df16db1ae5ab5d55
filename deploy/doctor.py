"""``preread doctor``: what would keep this node from working, and the way out."""

from __future__ import annotations

import importlib
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import packages_distributions
from pathlib import Path

import sqlalchemy as sa

from db import DatabaseError, create_engine
from db.migrate import current, head
from inference import InferenceError
from inference.catalogue import open_catalogue

from .check import Check, Verdict
from .doctor_destinations import examine_destinations, examine_left_over
from .doctor_metrics import examine_metrics
from .doctor_models import examine_demonstrations, examine_model, examine_routed
from .doctor_notify import examine_notify
from .doctor_scp import examine_scp
from .doctor_workers import examine_device, examine_workers
from .errors import SettingsError
from .receiving import usable_rules
from .settings import Settings

_ROOMS = ("db", "scp", "inference", "deploy")
_SLOW_SYNC_SECONDS = 0.005
_CLOCKS_APART = timedelta(seconds=1)
# SQLite's release notes: the race between a WAL reset and a checkpoint was mended in 3.51.3.
_SQLITE_MENDED = (3, 51, 3)
_DECODERS = {
    "imagecodecs": "JPEG lossless",
    "jpeg_ls": "JPEG-LS",
    "rle": "RLE",
    "openjpeg": "JPEG 2000 and HTJ2K",
    "PIL": "JPEG baseline",
}


def examine(settings: Settings) -> Iterator[Check]:
    """Yield every check; none of them changes anything but a file it removes again."""
    yield from _import_names()
    yield from _data_dir(settings)
    yield from _database(settings)
    yield from examine_device(settings.inference.device)
    yield from _models(settings)
    yield from _decoders()
    yield from examine_scp(settings)
    yield from examine_metrics(settings.metrics)
    yield from examine_destinations(settings)
    yield from examine_notify(settings)


def _import_names() -> Iterator[Check]:
    owners = packages_distributions()
    for room in _ROOMS:
        others = sorted(set(owners.get(room, ())) - {"preread"})
        if others:
            yield Check(
                f"package {room}",
                Verdict.BAD,
                f"{', '.join(others)} installs a package of the same name: give Preread an "
                "environment of its own (container, pipx or venv)",
            )
    if not any(set(owners.get(room, ())) - {"preread"} for room in _ROOMS):
        yield Check("packages", Verdict.GOOD, "no other distribution owns our import names")


def _data_dir(settings: Settings) -> Iterator[Check]:
    folder = settings.data_dir.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        seconds = _sync_seconds(folder)
        space = os.statvfs(folder)
    except OSError as error:
        yield Check("data_dir", Verdict.BAD, f"{folder} cannot be used: {error.strerror}")
        return
    free = space.f_bavail * space.f_frsize >> 20
    least = settings.scp.min_free_disk_mb
    verdict = Verdict.GOOD if free > least else Verdict.BAD
    yield Check("free disk", verdict, f"{free} MiB free, images are refused below {least} MiB")
    slow = seconds > _SLOW_SYNC_SECONDS
    yield Check(
        "disk sync",
        Verdict.WARNING if slow else Verdict.GOOD,
        f"{1000 * seconds:.2f} ms for each fsync"
        + ("; every image waits for several: put data_dir on a faster disk" if slow else ""),
    )


def _sync_seconds(folder: Path) -> float:
    path = folder / f".doctor-{os.getpid()}"
    times = []
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(15):
                file.write(b"x" * 4096)
                begun = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - begun)
    finally:
        path.unlink(missing_ok=True)
    return statistics.median(times)


def _database(settings: Settings) -> Iterator[Check]:
    try:
        engine = create_engine(settings.db_url)
        found = current(engine)
    except (DatabaseError, sa.exc.SQLAlchemyError, OSError) as error:
        yield Check("database", Verdict.BAD, f"db.url cannot be used: {_reason(error)}")
        return
    name = engine.dialect.name
    if found == head():
        yield Check("database", Verdict.GOOD, f"{name}, schema {found}")
        yield from examine_left_over(settings, engine)
        yield from examine_workers(settings, engine)
    else:
        yield Check(
            "database",
            Verdict.WARNING,
            f"{name}, schema {found or 'empty'}, this version needs {head()}: the next start "
            "upgrades it, or `preread db upgrade`",
        )
    yield _sqlite_version() if name == "sqlite" else examine_clock(engine)
    engine.dispose()


def _reason(error: DatabaseError | sa.exc.SQLAlchemyError | OSError) -> str:
    """Return why a database cannot be used, as `preread up` says it."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, sa.exc.OperationalError):
        return " ".join(str(error.orig).split())
    return str(error) if isinstance(error, DatabaseError) else type(error).__name__


def examine_clock(
    engine: sa.Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Check:
    """Compare the clock with that of the PostgreSQL server, which all nodes on it can see."""
    with engine.connect() as connection:
        before = clock()
        there: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        after = clock()
    apart = max(before - there, there - after, timedelta())
    if apart <= _CLOCKS_APART:
        return Check("clock", Verdict.GOOD, "as the database's, to a second")
    where = "ahead of" if before > there else "behind"
    return Check(
        "clock",
        Verdict.WARNING,
        f"{apart.total_seconds():.0f} s {where} the database's: "
        "nodes that share it take each other's series for sent too early or too late; keep the "
        "clocks of all hosts together (NTP)",
    )


def _sqlite_version() -> Check:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= _SQLITE_MENDED:
        return Check("SQLite", Verdict.GOOD, f"library {version}")
    return Check(
        "SQLite",
        Verdict.WARNING,
        f"library {version} has a race when the WAL is reset, mended in 3.51.3; Preread's write "
        "lock keeps its own processes out of it: let no other program write to the file, or use "
        "a Python with a newer SQLite, or PostgreSQL",
    )


def _models(settings: Settings) -> Iterator[Check]:
    try:
        bundles = open_catalogue(settings.inference, settings.model)
    except InferenceError as error:
        yield Check("models", Verdict.BAD, str(error))
        return
    for bundle in bundles.values():
        yield examine_model(bundle)
    yield from examine_demonstrations(bundles)
    try:
        rules = usable_rules(settings, bundles)
    except SettingsError as error:
        yield Check("rules", Verdict.BAD, str(error))
        return
    yield Check("rules", Verdict.GOOD, ", ".join(rule.name for rule in rules) or "none")
    yield from examine_routed(bundles, {rule.model for rule in rules if rule.model is not None})


def _decoders() -> Iterator[Check]:
    missing = [use for module, use in _DECODERS.items() if not _importable(module)]
    if missing:
        yield Check(
            "decoders", Verdict.BAD, f"cannot decode {', '.join(missing)}: install Preread again"
        )
    else:
        yield Check("decoders", Verdict.GOOD, ", ".join(_DECODERS.values()))


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
