"""Storage commitment as provider, against real pynetdicom modalities (PS3.4 Annex J)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from committing import CT_IMAGE, STORAGE_COMMITMENT, Instances, Modality, ask, information
from damage import damage_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import Rng, run
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.dsutils import encode
from raw_pdus import COMMAND, IMPLICIT_LITTLE, LAST, P_DATA, command_set, pdu, pdv
from raw_scu import RawAssociation
from waiting import wait_for

from db import FileStore
from db.ingest import Ingest
from scp.clock_steps import ClockSteps
from scp.commitment_data import read_answer, read_request
from scp.commitment_desk import CommitmentDesk
from scp.commitment_report import CommitmentReporter
from scp.commitment_scp import StorageCommitment
from scp.errors import CommitmentError
from scp.observe import Observer
from scp.server import StorageServer
from scp.settings import AeSettings, ScpSettings
from scp.stock_reports import StockReports

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


class Hospital(Observer):
    """A receiving process, and what reports on associations of its own."""

    def __init__(self, engine: sa.Engine, files: FileStore, transport: str) -> None:
        self.n_asked, self.refusals = 0, list[int]()
        self.engine, self.files, self.transport = engine, files, transport
        self.ingest = Ingest(engine)
        self.answers: list[tuple[Any, ...]] = []
        self.knows = True
        self.peers: list[AeSettings] = []
        self.ahead = timedelta(0)
        self.still: datetime | None = None
        self.server: Any = None
        self.desk: Any = None

    def start(self) -> None:
        self.desk = CommitmentDesk(
            self.engine, self.files, {one.name for one in self.peers}, observer=self
        )
        self.desk.start()
        settings = ScpSettings(
            host="127.0.0.1",
            port=0,
            min_free_disk_mb=0,
            shutdown_seconds=1,
            transport=self.transport,
        )
        self.server = StorageServer(
            settings,
            self.files,
            self.ingest,
            "test-acceptor",
            commitment=StorageCommitment(
                self.engine, self.desk.open, self._on_answer, observer=self
            ),
        )
        self.server.start()

    def _on_answer(self, connection: sa.Connection, *said: Any) -> bool:
        assert connection.in_transaction()
        self.answers.append(said)
        return self.knows

    def commitment_asked(self) -> None:
        self.n_asked += 1

    def commitment_refused(self, reason: int) -> None:
        self.refusals.append(reason)

    @property
    def port(self) -> int:
        return int(self.server.port)

    @property
    def reporter(self) -> CommitmentReporter:
        return CommitmentReporter(self.engine, self.files, self.peers, self.clock)

    def clock(self) -> datetime:
        return (self.still or datetime.now(UTC)) + self.ahead

    def stand_still(self) -> None:
        """Let the reporter's clock go on by `ahead` alone, however long the machine takes."""
        self.still = datetime.now(UTC)

    def rows(self, sql: str = "SELECT * FROM commitment_asked ORDER BY id") -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(sql)).mappings())

    def wait_for_state(self, state: str, n: int = 1) -> list[Any]:
        def rows() -> list[Any] | None:
            found = self.rows()
            return found if [row["state"] for row in found].count(state) >= n else None

        return list(wait_for(rows, what=f"the state {state}", every=0.05))

    def wait_until_released(self) -> None:
        sql = "SELECT COUNT(*) AS n FROM commitment_asked WHERE leased_until IS NOT NULL"
        wait_for(lambda: not self.rows(sql)[0]["n"], what="the end of the lease", every=0.05)

    def path_of(self, uid: str) -> Path:
        sql = f"SELECT path FROM instance WHERE sop_instance_uid = '{uid}'"
        return self.files.root / self.rows(sql)[0]["path"]

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.desk.stop()
            self.server = None
        self.ingest.close()


@pytest.fixture
def hospital(engine: sa.Engine, files: FileStore, transport: str) -> Iterator[Hospital]:
    made = Hospital(engine, files, transport)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def modality() -> Iterator[Modality]:
    made = Modality()
    yield made
    made.close()


def hold_stock_reports(monkeypatch: pytest.MonkeyPatch, until: threading.Event) -> None:
    """Let pynetdicom's own reactor report when `until` is set, or the association is over."""
    wait_for_quiet = StockReports._wait_for_quiet

    def wait(reports: StockReports) -> None:
        while not reports.is_over and not until.wait(0.02):
            pass
        wait_for_quiet(reports)

    monkeypatch.setattr(StockReports, "_wait_for_quiet", wait)


@pytest.fixture
def never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sender gets its report before its association is over, however slow it is to end it."""
    monkeypatch.setattr("scp.transport.reports._QUIET_SECONDS", 3600.0)
    hold_stock_reports(monkeypatch, threading.Event())


Image = Callable[..., Dataset]


def store(opened: Any, image: Image, n: int = 1) -> list[tuple[str, str]]:
    """Make and store images; return what to ask for."""
    return store_made(opened, [image() for _ in range(n)])


def store_made(opened: Any, made: list[Dataset]) -> list[tuple[str, str]]:
    """Store images; return what to ask for."""
    for number, one in enumerate(made):
        assert opened.send_c_store(one, msg_id=number % 60000 + 1).Status == 0
    return [(CT_IMAGE, str(one.SOPInstanceUID)) for one in made]


def test_the_answer_comes_on_the_same_association(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    transaction = generate_uid()
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image, 3)
        assert ask(opened, asked, transaction) == 0
        (heard,) = modality.wait()
        (row,) = hospital.wait_for_state("reported")  # before the release crosses its response
    assert heard.same_association
    assert (heard.event_type, heard.transaction) == (1, transaction)
    assert heard.committed == [uid for _, uid in asked]
    assert "FailedSOPSequence" not in heard.information
    assert "RetrieveAETitle" not in heard.information  # there is no C-MOVE
    assert json.loads(row["failures"]) == {}
    assert json.loads(row["instances"]) == [list(one) for one in asked]
    assert (row["calling_ae"], row["called_ae"]) == ("CT_ROOM_1", "PREREAD")


def test_the_truth_is_told(hospital: Hospital, modality: Modality, image: Image) -> None:
    """What is missing, altered, of another class or unknown is not committed; the rest is."""
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image, 5)
        good, missing, altered, other_class, longer = asked
        unknown = (CT_IMAGE, generate_uid())
        hospital.path_of(missing[1]).unlink()
        path = hospital.path_of(altered[1])
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.chmod(0o600)
        path.write_bytes(content)
        path = hospital.path_of(longer[1])
        path.chmod(0o600)
        path.write_bytes(path.read_bytes() + b"\0\0")
        wrong = (MR_IMAGE, other_class[1])
        assert ask(opened, [good, missing, altered, wrong, longer, unknown]) == 0
        (heard,) = modality.wait()
        (row,) = hospital.wait_for_state("reported")
    assert heard.event_type == 2
    assert heard.committed == [good[1]]
    assert heard.failed == {
        missing[1]: 0x0112,
        altered[1]: 0x0112,
        other_class[1]: 0x0119,
        longer[1]: 0x0112,
        unknown[1]: 0x0112,
    }
    assert json.loads(row["failures"])[altered[1]] == "0x0112"
    assert hospital.n_asked == 1
    assert sorted(hospital.refusals) == [0x0112] * 4 + [0x0119]


def damage(path: Path, change: Callable[[bytes], bytes]) -> bytes:
    """Alter a stored file behind the back of the node; return what it holds now."""
    content = change(path.read_bytes())
    path.chmod(0o600)
    path.write_bytes(content)
    return content


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: bytes(200) + content[200:],
    ],
    ids=["a bit", "cut", "empty", "head"],
)
def test_an_altered_file_heals_when_it_is_sent_again(
    hospital: Hospital, modality: Modality, image: Image, change: Callable[[bytes], bytes]
) -> None:
    """0x0112 makes a modality send it again: then it is kept, and what it was is not deleted."""
    one = image()
    uid = str(one.SOPInstanceUID)
    with modality.associated(hospital.port) as opened:
        assert opened.send_c_store(one).Status == 0
        received = hospital.path_of(uid).read_bytes()
        damaged = damage(hospital.path_of(uid), change)
        assert ask(opened, [(CT_IMAGE, uid)]) == 0
        assert modality.wait()[0].failed == {uid: 0x0112}
        (kept,) = (hospital.files.root / "quarantine").iterdir()
        assert kept.read_bytes() == damaged
        assert opened.send_c_store(one).Status == 0
        assert ask(opened, [(CT_IMAGE, uid)]) == 0
        assert modality.wait(2)[1].committed == [uid]
    assert hospital.path_of(uid).read_bytes() == received
    (row,) = hospital.rows("SELECT revision, missing_at FROM instance")
    assert (row["revision"], row["missing_at"]) == (0, None)
    assert not hospital.rows("SELECT 1 FROM study WHERE has_conflict")


def test_a_lost_file_heals_when_it_is_sent_again(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    """Also by another sender, whose AE title makes the head of the file another one."""
    one = image()
    uid = str(one.SOPInstanceUID)
    other = Modality("A_LONGER_TITLE")
    with modality.associated(hospital.port) as opened, other.associated(hospital.port) as later:
        assert opened.send_c_store(one).Status == 0
        for n, again in ((1, opened), (3, later)):
            hospital.path_of(uid).unlink()
            assert ask(opened, [(CT_IMAGE, uid)]) == 0
            assert modality.wait(n)[n - 1].failed == {uid: 0x0112}
            assert again.send_c_store(one).Status == 0
            assert ask(opened, [(CT_IMAGE, uid)]) == 0
            assert modality.wait(n + 1)[n].committed == [uid]
        # And if nobody has missed it.
        hospital.path_of(uid).unlink()
        assert opened.send_c_store(one).Status == 0
        assert ask(opened, [(CT_IMAGE, uid)]) == 0
        assert modality.wait(5)[4].committed == [uid]
    assert not list((hospital.files.root / "quarantine").iterdir())


def test_every_revision_heals(hospital: Hospital, modality: Modality, image: Image) -> None:
    """Files of one UID share two names: what one of them loses is not taken from the other."""
    first, uid = image(), generate_uid()
    second = image(PatientComments="other bytes")
    first.SOPInstanceUID = second.SOPInstanceUID = uid
    for one in (first, second):
        one.file_meta.MediaStorageSOPInstanceUID = uid
    with modality.associated(hospital.port) as opened:
        for one in (first, second):
            assert opened.send_c_store(one).Status == 0
        for row in hospital.rows("SELECT path FROM instance"):
            damage(hospital.files.root / row["path"], lambda content: content[:-2])
        for n, sent in ((1, ()), (2, (second,)), (3, (first, second))):
            for one in sent:
                assert opened.send_c_store(one).Status == 0
            assert ask(opened, [(CT_IMAGE, uid)]) == 0
            heard = modality.wait(n)[n - 1]
            assert heard.failed == ({} if n == 3 else {uid: 0x0112})
    rows = hospital.rows("SELECT path, missing_at FROM instance")
    assert [row["missing_at"] for row in rows] == [None, None]
    assert len({row["path"] for row in rows}) == 2
    assert len(list((hospital.files.root / "quarantine").iterdir())) == 2


def test_a_file_that_is_back_is_committed(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    """A volume that was not mounted: nothing has to be sent again."""
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        path = hospital.path_of(asked[0][1])
        path.rename(path.with_suffix(".away"))
        assert ask(opened, asked) == 0
        assert modality.wait()[0].failed == {asked[0][1]: 0x0112}
        path.with_suffix(".away").rename(path)
        assert ask(opened, asked) == 0
        assert modality.wait(2)[1].committed == [asked[0][1]]
    assert not hospital.rows("SELECT 1 FROM instance WHERE missing_at IS NOT NULL")


def test_a_disk_that_cannot_be_read_moves_nothing(
    hospital: Hospital, modality: Modality, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("scp.safekeeping.stored_digest", broken)
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        assert ask(opened, asked) == 0
        assert modality.wait()[0].failed == {asked[0][1]: 0x0110}
    assert hospital.path_of(asked[0][1]).exists()
    assert not hospital.rows("SELECT 1 FROM instance WHERE missing_at IS NOT NULL")


def test_a_quarantine_that_takes_nothing_leaves_it_as_it_is(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    quarantine = hospital.files.root / "quarantine"
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        damage(hospital.path_of(asked[0][1]), lambda content: content[:-2])
        quarantine.rmdir()
        assert ask(opened, asked) == 0
        assert modality.wait()[0].failed == {asked[0][1]: 0x0110}
        assert not hospital.rows("SELECT 1 FROM instance WHERE missing_at IS NOT NULL")
        quarantine.mkdir()
        assert ask(opened, asked) == 0
        assert modality.wait(2)[1].failed == {asked[0][1]: 0x0112}
    assert len(list(quarantine.iterdir())) == 1


def test_an_older_revision_that_is_lost_is_no_safekeeping(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    """Which of two images under one UID the sender means is not said: both must be there."""
    first, uid = image(), generate_uid()
    second = image(PatientComments="other bytes")
    first.SOPInstanceUID = second.SOPInstanceUID = uid
    for one in (first, second):
        one.file_meta.MediaStorageSOPInstanceUID = uid
    with modality.associated(hospital.port) as opened:
        for one in (first, second):
            assert opened.send_c_store(one).Status == 0
        assert ask(opened, [(CT_IMAGE, uid)]) == 0
        assert modality.wait()[0].committed == [uid]
        hospital.path_of(uid).unlink()  # the first of them
        assert ask(opened, [(CT_IMAGE, uid)]) == 0
        assert modality.wait(2)[1].failed == {uid: 0x0112}


def test_five_hundred_instances(hospital: Hospital, modality: Modality, image: Image) -> None:
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image, 20)
        unknown = [(CT_IMAGE, generate_uid()) for _ in range(480)]
        assert ask(opened, [*asked, *unknown]) == 0
        (heard,) = modality.wait()
    assert heard.committed == [uid for _, uid in asked]
    assert heard.failed == dict.fromkeys((uid for _, uid in unknown), 0x0112)


def test_two_transactions_and_images_between_them(
    hospital: Hospital, modality: Modality, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = generate_uid(), generate_uid()
    # pynetdicom's reactor takes a request for the response to a report that crosses it, and the
    # node reports as soon as the peer is silent for a quarter of a second.
    sent = threading.Event()
    hold_stock_reports(monkeypatch, sent)
    made = [[image() for _ in range(n)] for n in (2, 20, 20)]
    with modality.associated(hospital.port) as opened:
        before = store_made(opened, made[0])
        assert ask(opened, before, first) == 0
        between = store_made(opened, made[1])
        assert ask(opened, between, second) == 0
        after = store_made(opened, made[2])
        sent.set()
        heard = modality.wait(2)
        assert opened.is_established
        assert ask(opened, after) == 0
        assert modality.wait(3)[2].committed == [uid for _, uid in after]
        hospital.wait_for_state("reported", 3)
    assert {one.transaction: one.committed for one in heard[:2]} == {
        first: [uid for _, uid in before],
        second: [uid for _, uid in between],
    }
    assert all(one.same_association for one in heard)


@pytest.mark.usefixtures("never_silent")
def test_the_answer_comes_on_a_new_association(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    """With the AE titles of the request, and as provider by role selection (PS3.7 D.3.3.4)."""
    hospital.peers = [AeSettings(name="CT_ROOM_1", host="127.0.0.1", port=modality.listen())]
    with modality.associated(hospital.port, called="COMMITTER") as opened:
        asked = store(opened, image, 2)
        assert ask(opened, asked) == 0
    hospital.wait_until_released()
    assert hospital.reporter.run_once()
    (heard,) = modality.wait()
    assert not heard.same_association
    assert heard.committed == [uid for _, uid in asked]
    assert (heard.calling_ae, heard.called_ae) == ("COMMITTER", "CT_ROOM_1")
    assert heard.roles == {STORAGE_COMMITMENT: (False, True)}
    assert hospital.wait_for_state("reported")[0]["n_attempts"] == 1
    assert not hospital.reporter.run_once()


@pytest.mark.usefixtures("never_silent")
def test_an_association_that_breaks_after_the_request(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    hospital.peers = [AeSettings(name="CT_ROOM_1", host="127.0.0.1", port=modality.listen())]
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        assert ask(opened, asked) == 0
        opened.abort()
    hospital.wait_until_released()
    assert hospital.reporter.run_once()
    assert [one.committed for one in modality.wait()] == [[asked[0][1]]]


@pytest.mark.usefixtures("never_silent")
def test_an_answer_does_not_wait_for_a_clock_that_was_set_back(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    port = modality.listen()
    hospital.peers = [AeSettings(name="CT_ROOM_1", host="127.0.0.1", port=port)]
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        assert ask(opened, asked) == 0
    hospital.wait_until_released()
    hospital.stand_still()
    passed = 0.0
    reporter = CommitmentReporter(
        hospital.engine,
        hospital.files,
        hospital.peers,
        hospital.clock,
        ClockSteps(lambda: passed),
    )
    modality.close()
    assert reporter.run_once()
    modality.listen(port)
    hospital.ahead = timedelta(hours=-1)
    assert not reporter.run_once()
    passed = 60.0
    hospital.ahead += timedelta(seconds=passed)
    assert reporter.run_once()
    assert modality.wait()[0].committed == [uid for _, uid in asked]


@pytest.mark.usefixtures("never_silent")
def test_a_modality_that_is_down_is_tried_again(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    port = modality.listen()
    modality.close()
    hospital.peers = [AeSettings(name="CT_ROOM_1", host="127.0.0.1", port=port)]
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        assert ask(opened, asked) == 0
    hospital.wait_until_released()
    hospital.stand_still()
    assert hospital.reporter.run_once()
    (row,) = hospital.rows()
    assert row["state"] == "pending"
    assert "cannot connect" in row["last_error"]
    assert not hospital.reporter.run_once()  # not before its time
    modality.listen(port)
    hospital.ahead = timedelta(minutes=1)
    assert hospital.reporter.run_once()
    assert modality.wait()[0].committed == [asked[0][1]]
    assert hospital.wait_for_state("reported")[0]["last_error"] is None


@pytest.mark.usefixtures("never_silent")
def test_what_was_lost_since_the_first_attempt_is_not_committed(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    port = modality.listen()
    modality.close()
    hospital.peers = [AeSettings(name="CT_ROOM_1", host="127.0.0.1", port=port)]
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        assert ask(opened, asked) == 0
    hospital.wait_until_released()
    assert hospital.reporter.run_once()
    hospital.path_of(asked[0][1]).unlink()
    modality.listen(port)
    hospital.ahead = timedelta(minutes=1)
    assert hospital.reporter.run_once()
    assert modality.wait()[0].failed == {asked[0][1]: 0x0112}


@pytest.mark.usefixtures("never_silent")
def test_a_sender_without_an_address(hospital: Hospital, modality: Modality, image: Image) -> None:
    """Nobody can be called back: the row says what to add."""
    with modality.associated(hospital.port) as opened:
        assert ask(opened, store(opened, image)) == 0
        opened.abort()
    hospital.wait_until_released()
    assert hospital.reporter.run_once()
    (row,) = hospital.rows()
    assert row["state"] == "dead"
    assert 'add [[ae]] with name = "CT_ROOM_1"' in row["last_error"]


@pytest.mark.usefixtures("never_silent")
def test_after_a_week_it_is_given_up(hospital: Hospital, modality: Modality, image: Image) -> None:
    port = modality.listen()
    modality.close()
    hospital.peers = [AeSettings(name="CT_ROOM_1", host="127.0.0.1", port=port)]
    with modality.associated(hospital.port) as opened:
        assert ask(opened, store(opened, image)) == 0
    hospital.wait_until_released()
    hospital.ahead = timedelta(days=8)
    assert hospital.reporter.run_once()
    (row,) = hospital.rows()
    assert row["state"] == "dead"
    assert "given up after 7 days" in row["last_error"]


def test_a_refused_answer_is_given_again(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    modality.status = 0x0110
    hospital.peers = [AeSettings(name="CT_ROOM_1", host="127.0.0.1", port=modality.listen())]
    with modality.associated(hospital.port) as opened:
        assert ask(opened, store(opened, image)) == 0
        modality.wait()
        hospital.wait_until_released()
    assert hospital.rows()[0]["last_error"] == "the answer was refused (0x0110)"
    assert hospital.reporter.run_once()
    assert hospital.rows()[0]["state"] == "pending"
    modality.status = 0
    hospital.ahead = timedelta(minutes=1)
    assert hospital.reporter.run_once()
    assert [one.same_association for one in modality.wait(3)] == [True, False, False]
    hospital.wait_for_state("reported")


def test_an_equal_request_is_answered_again_and_another_refused(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    transaction = generate_uid()
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image, 2)
        assert ask(opened, asked, transaction) == 0
        modality.wait()
        hospital.wait_for_state("reported")
        assert ask(opened, asked, transaction) == 0
        modality.wait(2)
        hospital.wait_for_state("reported")
        assert ask(opened, asked[:1], transaction) == 0x0115
        assert opened.is_established
    assert len(hospital.rows()) == 1
    # What another modality calls by the same name is another transaction.
    other = Modality("CT_ROOM_2")
    with other.associated(hospital.port) as opened:
        assert ask(opened, asked[:1], transaction) == 0
        assert other.wait()[0].committed == [asked[0][1]]


def drop(keyword: str) -> Callable[[Dataset], None]:
    return lambda asked: asked.__delattr__(keyword)


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (0x0112, {"well_known": "1.2.3"}),
        (0x0123, {"action": 2}),
        (0x0115, {"change": drop("TransactionUID")}),
        (0x0115, {"change": drop("ReferencedSOPSequence")}),
        (0x0115, {"change": lambda asked: setattr(asked, "ReferencedSOPSequence", [Dataset()])}),
    ],
    ids=["instance", "action", "no transaction", "no references", "empty item"],
)
def test_what_is_no_request_is_refused(
    hospital: Hospital, modality: Modality, status: int, changes: dict[str, Any]
) -> None:
    with modality.associated(hospital.port) as opened:
        assert ask(opened, [(CT_IMAGE, "1.2.3")], **changes) == status
        assert opened.is_established
        assert ask(opened, [(CT_IMAGE, "1.2.3")]) == 0
    assert len(hospital.rows()) == 1


def test_while_the_database_is_away_it_is_not_taken(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        with hospital.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE commitment_asked RENAME TO away"))
        assert ask(opened, asked) == 0x0213
        with hospital.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE away RENAME TO commitment_asked"))
        assert ask(opened, asked) == 0
        assert modality.wait()[0].committed == [asked[0][1]]


def test_rows_that_wait_for_the_database_are_waited_for(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    waiting = hospital.files.root / "unindexed" / "1-1-aa.jsonl"
    unknown = (CT_IMAGE, generate_uid())
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        waiting.write_text("{}\n")
        assert ask(opened, asked) == 0  # it is known: others may wait
        assert modality.wait()[0].committed == [asked[0][1]]
        assert ask(opened, [*asked, unknown]) == 0
        time.sleep(2)
        assert len(modality.heard) == 1
        waiting.unlink()
        assert modality.wait(2)[1].failed == {unknown[1]: 0x0112}


def told(transaction: str, committed: Instances = (), failed: Instances = ()) -> Dataset:
    """Event Information of a PACS."""
    said = information(committed, transaction)
    if not committed:
        del said.ReferencedSOPSequence
    if failed:
        said.FailedSOPSequence = information(failed, transaction).ReferencedSOPSequence
        for item in said.FailedSOPSequence:
            item.FailureReason = 0x0213
    return said


@pytest.mark.parametrize("proposes_role", [True, False])
def test_the_answer_of_a_pacs_is_taken(hospital: Hospital, proposes_role: bool) -> None:
    """On an association that it opens, as provider; some propose no role."""
    pacs = AE(ae_title="PACS")
    role = [build_role(STORAGE_COMMITMENT, scp_role=True)] if proposes_role else []
    opened = pacs.associate(
        "127.0.0.1",
        hospital.port,
        contexts=[build_context(STORAGE_COMMITMENT)],
        ext_neg=role,
    )
    assert opened.is_established
    if proposes_role:
        answered = opened.acceptor.role_selection[STORAGE_COMMITMENT]
        assert (answered.scu_role, answered.scp_role) == (False, True)
    good, bad = (CT_IMAGE, "1.2.3"), (CT_IMAGE, "1.2.4")
    said = told("1.2.5", [good], [bad])
    well_known = "1.2.840.10008.1.20.1.1"

    def tell(event: int, instance: str = well_known) -> int:
        status, _ = opened.send_n_event_report(said, event, STORAGE_COMMITMENT, instance)
        return int(status.Status)

    assert tell(2) == 0
    ((transaction, committed, failed, now),) = hospital.answers
    assert (transaction, tuple(committed), dict(failed)) == ("1.2.5", ("1.2.3",), {"1.2.4": 0x0213})
    assert now.tzinfo is not None
    assert tell(3) == 0x0113
    assert tell(2, "1.2.3") == 0x0112
    hospital.knows = False
    assert tell(2) == 0x0115  # a transaction that is not known
    opened.release()


def test_without_the_service_its_contexts_are_refused(start_node: Any) -> None:
    node = start_node()
    opened = AE().associate(
        "127.0.0.1", node.server.port, contexts=[build_context(STORAGE_COMMITMENT)]
    )
    assert not opened.is_established


def test_in_a_context_of_another_class_it_is_not_performed(
    hospital: Hospital, modality: Modality
) -> None:
    """PS3.7 Section C.5.24, and the association goes on."""
    if hospital.transport == "pynetdicom":
        pytest.skip("its own reactor looks at the class alone")
    entity = modality.entity()
    opened = entity.associate("127.0.0.1", hospital.port, contexts=[build_context(CT_IMAGE)])
    status, _ = opened.send_n_action(
        information([(CT_IMAGE, "1.2")], "1.3"), 1, STORAGE_COMMITMENT, "1.2", meta_uid=CT_IMAGE
    )
    assert status.Status == 0x0211
    assert opened.is_established
    opened.release()


def test_a_request_that_never_ends_is_dropped(hospital: Hospital, modality: Modality) -> None:
    def lengthen(asked: Dataset) -> None:
        asked.add_new(0x00091001, "OB", bytes(5 << 20))

    one = [(CT_IMAGE, generate_uid())]
    with modality.associated(hospital.port) as opened:
        assert ask(opened, one, change=lengthen) == 0x0213
        assert ask(opened, one) == 0


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damaged_data_sets_are_read_or_refused(data: st.DataObject) -> None:
    sound = encode(told("1.2.5", [(CT_IMAGE, "1.2.3")] * 3, [(CT_IMAGE, "1.2.4")]), True, True)
    content = bytearray(sound or b"")
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
        for read in (read_request, read_answer):
            try:
                read(cut, syntax)
            except CommitmentError as error:
                assert error.status in (0x0110, 0x0115)


def test_no_event_handler_of_a_peer_is_needed(
    hospital: Hospital, modality: Modality, image: Image
) -> None:
    """A peer that takes the report for a breach and aborts has its answer later."""
    hospital.peers = [AeSettings(name="CT_ROOM_1", host="127.0.0.1", port=modality.listen())]
    opened = modality.entity().associate(
        "127.0.0.1",
        hospital.port,
        contexts=[build_context(STORAGE_COMMITMENT)],
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, lambda event: event.assoc.abort())],
    )
    assert ask(opened, [(CT_IMAGE, "1.2.3")]) == 0
    hospital.wait_until_released()
    assert hospital.reporter.run_once()
    assert modality.wait()[0].failed == {"1.2.3": 0x0112}


def action_pdus(references: Instances, context_id: int) -> bytes:
    """A whole N-ACTION request."""
    command = command_set(
        {
            0x0003: STORAGE_COMMITMENT,
            0x0100: 0x0130,
            0x0110: 1,
            0x0800: 1,
            0x1001: "1.2.840.10008.1.20.1.1",
            0x1008: 1,
        }
    )
    data = encode(information(references, "1.2.5"), True, True) or b""
    return pdu(P_DATA, pdv(context_id, COMMAND | LAST, command)) + pdu(
        P_DATA, pdv(context_id, LAST, data)
    )


# pynetdicom's own reactor lets its threads die of them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_damaged_messages_hurt_nobody(hospital: Hospital, modality: Modality, image: Image) -> None:
    context = (STORAGE_COMMITMENT, IMPLICIT_LITTLE)

    def one_input(rng: Rng) -> None:
        with RawAssociation(hospital.port, [context]) as opened:
            sound = action_pdus([(CT_IMAGE, "1.2.3")] * rng.randint(1, 3), opened.accepted[context])
            rng.made = damage_bytes(rng, sound)
            opened.send(rng.made)
            opened.close()
            opened.accepted.clear()

    run(f"commitment {hospital.transport}", 60, one_input)
    with modality.associated(hospital.port) as opened:
        asked = store(opened, image)
        assert ask(opened, asked) == 0
        assert modality.wait()[0].committed == [asked[0][1]]
