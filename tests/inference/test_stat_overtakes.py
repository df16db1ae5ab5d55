"""A real worker: jobs, threads, readers and engines; a STAT film behind many routine series."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from stored_studies import StoredStudies
from waiting import wait_for

from db import FileStore
from db.workers import WorkerIdentity
from inference.analyst import Analyst
from inference.analyst_settings import AnalystSettings
from inference.bundle import Bundle, open_bundle
from inference.engines.choose import EngineSettings
from inference.job_states import Priority
from inference.objects import DeviceIdentity
from inference.readers import WarmReaders
from inference.scheduling import Batcher, DeviceQueue, giving_way
from inference.scheduling.requests import Batch
from inference.settings import shipped_bundles
from inference.training.phantoms.files import write_chest, write_head_series
from inference.worker import Worker
from inference.worker_settings import WorkerSettings

wait_until = partial(wait_for, seconds=120.0, every=0.005)


pytest.importorskip("onnxruntime")


@dataclass
class Computed:
    """Batches in their order, with begin and end."""

    batches: list[tuple[float, float, Batch]] = field(default_factory=list)
    queue: DeviceQueue = field(default_factory=DeviceQueue)
    # While it is not set, the device computes no batch after the first.
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def note(self, batch: Batch, seconds: float) -> None:
        now = time.monotonic()
        self.batches.append((now - seconds, now, batch))
        assert self.may_go_on.wait(240)

    def waiting(self, model: str) -> int:
        """How many analyses have asked for rows of a model that are not computed yet."""
        lanes = tuple(one for one in tuple(self.queue._lanes) if one.model == model)
        return len({request.turn for lane in lanes for request in tuple(lane.requests)})

    def first_of(self, analysis_id: str) -> tuple[int, tuple[float, float, Batch]]:
        return next(
            (place, one)
            for place, one in enumerate(self.batches)
            if any(turn.analysis_id == analysis_id for turn in one[2].turns)
        )


@contextmanager
def working(
    engine: sa.Engine,
    files: FileStore,
    bundles: list[Bundle],
    cache: Path,
    concurrency: int,
    *,
    is_held: bool = False,
) -> Iterator[Computed]:
    computed = Computed()
    if not is_held:
        computed.may_go_on.set()
    queue = computed.queue = DeviceQueue(heard=computed.note)
    engines = EngineSettings(cache, 1, share=lambda model, ladder: Batcher(model, ladder, queue))
    readers = WarmReaders("cpu", 8, engines)
    known = {one.name: one for one in bundles}
    readers.warm(known)
    node = DeviceIdentity("PREREAD", "Preread", "Preread", "0.1", "SN1")
    settings = AnalystSettings("test-0", "cpu", node, lambda kind, calling_ae: ())
    analyst = Analyst(engine, files, known, readers, settings)
    identity = WorkerIdentity("test-0", "host", os.getpid(), "cpu", tuple(known))
    worker = Worker(
        engine,
        analyst,
        identity,
        WorkerSettings(concurrency=concurrency, stat_slots=1, grace_seconds=10),
        device=queue,
    )
    stop = threading.Event()
    thread = threading.Thread(target=worker.serve, args=(stop,))
    thread.start()
    try:
        yield computed
    finally:
        computed.may_go_on.set()
        stop.set()
        thread.join(120)
        queue.close()
        assert not thread.is_alive()


def told(engine: sa.Engine, analysis_id: str) -> tuple[str, datetime | None]:
    with engine.connect() as connection:
        row = connection.execute(
            sa.text("SELECT state, started_at FROM analysis WHERE id = :id"), {"id": analysis_id}
        ).one()
    started = None if row.started_at is None else datetime.fromisoformat(str(row.started_at))
    return row.state, started if started is None or started.tzinfo else started.replace(tzinfo=UTC)


def done(engine: sa.Engine, *analyses: str) -> int:
    return sum(told(engine, one)[0] not in ("pending",) for one in analyses)


@dataclass
class Overtaken:
    """What a STAT film came to, seconds."""

    to_start: float
    to_first_batch: float
    to_end: float
    batches_before: int
    largest_batch: float


def overtake(
    engine: sa.Engine,
    files: FileStore,
    tmp_path: Path,
    bundles: list[Bundle],
    *,
    series: int,
    slices: int,
    size: int,
    concurrency: int,
) -> Overtaken:
    """Queue routine series, then a STAT film once some are under way."""
    ct, chest = bundles
    studies = StoredStudies(engine, files)
    heads = write_head_series(tmp_path / "ct", 3, "subdural", slices=slices, size=size)
    film = write_chest(tmp_path / "film", seed=3, pneumothorax=True, size=256)
    routine = studies.copies(heads, series)
    ((uid, rows),) = studies.copies([film], 1)
    asked = [studies.ask(ct, *one, Priority.ROUTINE) for one in routine]
    # However fast the machine is, routine work is under way when the film comes.
    held = working(engine, files, bundles, tmp_path / "engines", concurrency, is_held=True)
    with held as computed:
        wait_until(lambda: computed.batches)
        urgent = studies.ask(chest, uid, rows, Priority.STAT)
        committed, moment = time.monotonic(), datetime.now(UTC)
        wait_until(lambda: told(engine, urgent)[1] is not None)
        computed.may_go_on.set()
        wait_until(lambda: done(engine, urgent))
        ended = time.monotonic()
        place, (begun, first, batch) = computed.first_of(urgent)
        arrived = min(
            piece.request.arrived
            for piece in batch.pieces
            if piece.request.turn.analysis_id == urgent
        )
        before = [one for one in computed.batches[:place] if one[1] > arrived]
        # Routine work goes on where it was.
        count = done(engine, *asked)
        wait_until(lambda: done(engine, *asked) > count or count == len(asked))
        assert begun >= arrived
    studies.close()
    state, started = told(engine, urgent)
    assert state == "done"
    assert started is not None
    assert count < len(asked)
    return Overtaken(
        (started - moment).total_seconds(),
        first - committed,
        ended - committed,
        len(before),
        max(one[1] - one[0] for one in computed.batches),
    )


@pytest.mark.parametrize(
    ("series", "slices", "concurrency"),
    [
        pytest.param(30, 12, 1, id="many short series"),
        pytest.param(3, 300, 2, id="long series in every routine slot", marks=pytest.mark.slow),
    ],
)
def test_a_stat_film_overtakes_series_that_are_being_read(
    engine: sa.Engine,
    files: FileStore,
    tmp_path: Path,
    ct_bundle: Bundle,
    chest_bundle: Bundle,
    series: int,
    slices: int,
    concurrency: int,
) -> None:
    found = overtake(
        engine,
        files,
        tmp_path,
        [ct_bundle, chest_bundle],
        series=series,
        slices=slices,
        size=64,
        concurrency=concurrency,
    )
    assert found.batches_before <= 1


def test_who_gives_way_holds_no_transaction_and_ends_when_the_worker_does(
    engine: sa.Engine,
    files: FileStore,
    tmp_path: Path,
    ct_bundle: Bundle,
    chest_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(giving_way, "_ALONE_SECONDS", 600.0)
    studies = StoredStudies(engine, files)
    heads = write_head_series(tmp_path / "ct", 3, "subdural", slices=12, size=64)
    asked = [studies.ask(ct_bundle, *one, Priority.ROUTINE) for one in studies.copies(heads, 2)]
    bundles = [ct_bundle, chest_bundle]
    # Between two steps, wherever they are, as long as a STAT analysis is under way.
    with (
        working(engine, files, bundles, tmp_path / "engines", 2) as computed,
        computed.queue.turn("urgent", is_stat=True),
    ):
        wait_until(lambda: len(computed.queue._way._waiting) >= 2)
        with engine.begin() as connection:  # SQLite would wait for 30 s, and fail
            connection.execute(sa.text("UPDATE analysis SET trace_id = trace_id"))
        time.sleep(0.3)
        assert done(engine, *asked) == 0
        computed.queue.hold_nobody()  # as a worker does that is told to end
        wait_until(lambda: done(engine, *asked) == 2)
    studies.close()


def found_in(engine: sa.Engine, analysis_id: str) -> list[tuple[str, str, float]]:
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT label, scope, probability FROM finding WHERE analysis_id = :id ORDER BY id"
            ),
            {"id": analysis_id},
        )
        return [(row.label, row.scope, row.probability) for row in rows]


@pytest.mark.slow
def test_findings_of_whole_analyses_are_the_same_alone_and_beside_others(
    engine: sa.Engine, files: FileStore, tmp_path: Path
) -> None:
    opened = [open_bundle(path) for path in shipped_bundles()]
    ct, chest = sorted(opened, key=lambda one: one.spec.kind)
    images = {
        ct.name: [
            write_head_series(tmp_path / f"ct{n}", n, "subdural", slices=12 + n, size=128)
            for n in range(3)
        ],
        chest.name: [
            [write_chest(tmp_path / f"film{n}", seed=n, pneumothorax=True, size=256)]
            for n in range(4)
        ],
    }
    studies = StoredStudies(engine, files)

    def ask(bundle: Bundle, paths: list[Path], priority: Priority) -> str:
        return studies.ask(bundle, *studies.copies(paths, 1)[0], priority)

    (urgent, *rest) = [(bundle, paths) for bundle in (ct, chest) for paths in images[bundle.name]]
    alone = []
    with working(engine, files, opened, tmp_path / "engines", 1):
        for bundle, paths in (urgent, *rest):
            asked = ask(bundle, paths, Priority.ROUTINE)
            wait_until(lambda: done(engine, asked))  # noqa: B023 - called before the next
            alone.append(found_in(engine, asked))
    # As many slots as analyses: they come to stand beside each other however fast the machine is.
    slots = len(rest) + 1
    with working(engine, files, opened, tmp_path / "engines", slots, is_held=True) as computed:
        routine = [ask(*one, Priority.ROUTINE) for one in rest]
        wait_until(lambda: computed.waiting(chest.name) >= 2)
        beside = [ask(*urgent, Priority.STAT), *routine]
        computed.may_go_on.set()
        wait_until(lambda: done(engine, *beside) == len(beside))
    studies.close()
    assert any(len(batch.turns) > 1 for _, _, batch in computed.batches)
    for asked, expected in zip(beside, alone, strict=True):
        got = found_in(engine, asked)
        assert [one[:2] for one in got] == [one[:2] for one in expected]
        assert expected
        assert [one[2] for one in got] == pytest.approx([one[2] for one in expected], abs=1e-5)
