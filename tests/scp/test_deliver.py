"""Delivery of results: stored bytes to each destination, proof, retries and dead letters."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt

from db import FileStore, deliveries
from db.schema import Analysis, Delivery, DeliveryState, ResultObject, Series, Study
from scp import Deliverer, Destination
from scp.part10 import read_layout
from scp.settings import DestinationSettings

SR = "1.2.840.10008.5.1.4.1.1.88.34"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
NOW = datetime(2024, 1, 1, tzinfo=UTC)


class Pacs:
    """A PACS in memory; `status` is what it answers, `shown` whether C-FIND finds things."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.n_stores = 0
        self.status = 0
        self.shown = True
        self.entity = AE(ae_title="PACS")
        handlers: Any = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)]
        self.server: Any = self.entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=handlers,
            contexts=[build_context(SR), build_context(FIND)],
        )
        self.port = self.server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.n_stores += 1
        if self.status in (0, 0xB000):
            request: Any = event.request
            self.stored[request.AffectedSOPInstanceUID] = request.DataSet.getvalue()
        return self.status

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        if self.shown and event.identifier.SOPInstanceUID in self.stored:
            yield 0xFF00, event.identifier


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    one = Pacs()
    yield one
    one.server.shutdown()


def settings_for(port: int, **changes: Any) -> DestinationSettings:
    defaults = {
        "name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout": 3,
        "max_attempts": 3, "backoff_first_seconds": 10, "backoff_max_seconds": 15,
    }  # fmt: skip
    return DestinationSettings.model_validate({**defaults, **changes})


@pytest.fixture
def outbox(engine: sa.Engine, files: FileStore, image: Any, tmp_path: Path) -> Any:
    """Put a result object for the named destinations into the outbox; returns its UID."""
    number = 0

    def put(*destinations: str, kind: str = "sr") -> str:
        nonlocal number
        number += 1
        result = image(sop_class=SR, Modality="SR")
        path = tmp_path / "result.dcm"
        result.save_as(path, enforce_file_format=True)
        uid = str(result.SOPInstanceUID)
        kept = files.write_result(uid, path.read_bytes())
        insert_result(engine, number, uid, kept.path, kind, destinations)
        return uid

    return put


def insert_result(
    engine: sa.Engine, number: int, uid: str, path: str, kind: str, destinations: tuple[str, ...]
) -> None:
    with engine.begin() as connection:
        if number == 1:
            connection.execute(
                sa.insert(Study).values(
                    study_instance_uid="1.2", received_at=NOW, last_received_at=NOW
                )
            )
            connection.execute(
                sa.insert(Series).values(
                    series_instance_uid="1.2.3", study_instance_uid="1.2", trace_id="t",
                    first_received_at=NOW, last_received_at=NOW,
                )
            )  # fmt: skip
            connection.execute(
                sa.insert(Analysis).values(
                    id="a", study_instance_uid="1.2", series_instance_uid="1.2.3", model_name="m",
                    model_version="1", weights_sha256="0", configuration_digest="0",
                    instance_digest="0", version=1, priority="routine", trace_id="t",
                    received_at=NOW,
                    requested_at=NOW,
                )
            )  # fmt: skip
        connection.execute(
            sa.insert(ResultObject).values(
                id=number, analysis_id="a", kind=kind, sop_class_uid=SR, sop_instance_uid=uid,
                series_instance_uid="1.2.4", path=path, size_bytes=1, sha256="0", created_at=NOW,
            )
        )  # fmt: skip
        for destination in destinations:
            connection.execute(
                sa.insert(Delivery).values(
                    result_object_id=number, destination=destination, next_attempt_at=NOW,
                    created_at=NOW,
                )
            )  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def rows(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(Delivery.__table__).order_by(Delivery.id)))


def test_the_stored_bytes_arrive_and_sent_is_final(
    engine: sa.Engine, files: FileStore, outbox: Any, pacs: Pacs
) -> None:
    uid = outbox("pacs")
    destination = Destination(engine, files, settings_for(pacs.port), "PREREAD")
    assert destination.run_once() == 1
    assert destination.run_once() == 0
    (row,) = rows(engine)
    assert (row.state, row.n_attempts, row.last_status) == ("sent", 1, "0x0000")
    assert row.committed_at is None
    assert row.leased_until is None
    path = next((files.root / "results").rglob("*.dcm"))
    content = path.read_bytes()
    assert pacs.stored[uid] == content[read_layout(content).data_set_offset :]


def test_a_warning_is_a_success(
    engine: sa.Engine, files: FileStore, outbox: Any, pacs: Pacs
) -> None:
    outbox("pacs")
    pacs.status = 0xB000
    Destination(engine, files, settings_for(pacs.port), "PREREAD").run_once()
    assert (rows(engine)[0].state, rows(engine)[0].last_status) == ("sent", "0xB000")


def test_proof_by_find(engine: sa.Engine, files: FileStore, outbox: Any, pacs: Pacs) -> None:
    outbox("pacs")
    clock = Clock()
    settings = settings_for(pacs.port, proof="find")
    destination = Destination(engine, files, settings, "PREREAD", clock)
    pacs.shown = False
    destination.run_once()
    (row,) = rows(engine)
    assert (row.state, row.committed_at) == ("sent", None)
    assert "C-FIND" in row.last_error
    pacs.shown = True
    assert destination.run_once() == 0  # not due yet
    clock.advance(20)
    destination.run_once()
    (row,) = rows(engine)
    assert (row.state, row.last_error) == ("committed", None)
    assert row.committed_at == clock()
    assert pacs.n_stores == 1  # it had arrived: proving was enough


def test_refusals_back_off_and_end_as_dead_letters_that_can_be_retried(
    engine: sa.Engine, files: FileStore, outbox: Any, pacs: Pacs
) -> None:
    outbox("pacs")
    clock = Clock()
    destination = Destination(engine, files, settings_for(pacs.port), "PREREAD", clock)
    pacs.status = 0xA700
    waits = []
    for _ in range(3):
        assert destination.run_once() == 1
        waits.append((rows(engine)[0].next_attempt_at - clock()).total_seconds())
        clock.advance(16)
    assert waits[0] == pytest.approx(10, rel=0.06)
    assert waits[1] == pytest.approx(15, rel=0.06)  # doubled, then bounded
    assert destination.run_once() == 0
    with engine.begin() as connection:
        (dead,) = deliveries.list_dead(connection)
        assert (dead.n_attempts, dead.last_status, dead.kind) == (3, "0xA700", "sr")
        assert "refused" in str(dead.last_error)
        assert deliveries.retry(connection, dead.id, clock())
        assert not deliveries.retry(connection, dead.id, clock())
    pacs.status = 0
    assert destination.run_once() == 1
    assert rows(engine)[0].state == "sent"


def test_a_dead_destination_holds_up_nobody_else(
    engine: sa.Engine, files: FileStore, outbox: Any, pacs: Pacs
) -> None:
    uids = [outbox("pacs", "gone") for _ in range(2)]
    deliverer = Deliverer(
        [
            Destination(engine, files, settings_for(1, name="gone"), "PREREAD"),
            Destination(engine, files, settings_for(pacs.port), "PREREAD"),
        ]
    )
    deliverer.start()
    for _ in range(100):
        if len(pacs.stored) == 2:
            break
        threading.Event().wait(0.05)
    deliverer.stop()
    assert set(pacs.stored) == set(uids)
    states = {(row.destination, row.state) for row in rows(engine)}
    assert states == {("pacs", "sent"), ("gone", "pending")}
    assert any("cannot connect" in str(row.last_error) for row in rows(engine))


def test_only_the_kinds_that_the_destination_takes(
    engine: sa.Engine, files: FileStore, outbox: Any, pacs: Pacs
) -> None:
    outbox("pacs", kind="seg")
    wanted = outbox("pacs", kind="sr")
    destination = Destination(engine, files, settings_for(pacs.port), "PREREAD")
    assert destination.run_once() == 1
    assert destination.run_once() == 0
    assert list(pacs.stored) == [wanted]


def test_a_missing_or_damaged_file_ends_as_a_dead_letter(
    engine: sa.Engine, files: FileStore, outbox: Any, pacs: Pacs
) -> None:
    outbox("pacs")
    path = next((files.root / "results").rglob("*.dcm"))
    path.unlink()
    settings = settings_for(pacs.port, max_attempts=1)
    Destination(engine, files, settings, "PREREAD").run_once()
    (row,) = rows(engine)
    assert row.state == "dead"
    assert "cannot be read" in row.last_error


def test_a_sender_that_died_leaves_its_lease(
    engine: sa.Engine, files: FileStore, outbox: Any, pacs: Pacs
) -> None:
    outbox("pacs")
    clock = Clock()
    settings = settings_for(pacs.port, max_attempts=1)
    with engine.begin() as connection:
        claimed = deliveries.claim(
            connection, "pacs", ["sr"], [DeliveryState.PENDING],
            now=NOW, leased_until=NOW + timedelta(seconds=60),
        )  # fmt: skip
    assert len(claimed) == 1
    destination = Destination(engine, files, settings, "PREREAD", clock)
    assert destination.run_once() == 0
    clock.advance(61)
    assert destination.run_once() == 1
    (row,) = rows(engine)
    assert row.state == "dead"
    assert "never ended" in row.last_error
    assert not pacs.stored
