"""Sending with real receivers: taken, refused, silent, gone; the same message at every attempt."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from certificates import make_certificates, openssl
from held_port import held_port
from hl7apy.mllp import AbstractHandler, MLLPServer
from receivers import FRAME, acknowledgment, fields, hl7_receiver, web_receiver
from waiting import wait_for

from db import FileStore, create_engine
from db.ingest import Ingest, InstanceRecord
from db.migrate import upgrade
from db.notifications import Notified, retry
from db.outcomes import FindingRecord, Outcome, record_outcome
from db.results import AnalysisRequest, request_analysis
from db.schema import AnalysisState, Notification, Presence, Scope
from deploy.notify.notifier import Notifier, Target
from deploy.notify.settings import NotifySettings
from scp.clock_steps import ClockSteps

NAME = "Müller|^Jörg\\=山田^太郎"
FINDING = FindingRecord(
    label="pneumothorax", code_value="36118008", code_scheme="SCT", code_meaning="Pneumothorax",
    scope=Scope.IMAGE, sop_instance_uid="1.2.1.1", probability=0.9, threshold_low=0.3,
    threshold_high=0.6, presence=Presence.PRESENT, key_sop_instance_uid="1.2.1.1",
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC) + timedelta(minutes=10)  # after what tests write

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = create_engine(f"sqlite:///{tmp_path / 'preread.sqlite'}")
    upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def found(engine: sa.Engine) -> Callable[..., None]:
    """Make an analysis end with a finding, of which targets are to be told."""

    def end(*targets: str, number: int = 1, deadline_at: datetime | None = None) -> None:
        analysis = f"{number:x}" * 64
        study = f"1.2.{number}"
        Ingest(engine).add(
            InstanceRecord(
                study_instance_uid=study, patient_id="P-1", patient_name=NAME,
                patient_birth_date=None, patient_sex="M", accession_number="ACC-77",
                study_date="20260501", study_description=None, series_instance_uid=f"{study}.1",
                modality="DX", series_number=None, series_description=None, body_part=None,
                sop_instance_uid=f"{study}.1.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
                transfer_syntax_uid="1.2.840.10008.1.2.1", instance_number=1,
                path="images/gone.dcm", size_bytes=1, sha256="0" * 64,
                received_at=datetime.now(UTC), association_id="t" * 32,
            )
        )  # fmt: skip
        with engine.begin() as connection:
            (row,) = connection.execute(
                sa.text("SELECT id FROM instance ORDER BY id DESC LIMIT 1")
            ).scalars()
            request_analysis(
                connection,
                AnalysisRequest(
                    analysis, study, f"{study}.1", (row,), "d", "pneumothorax", "1", "w", "c",
                    "stat", False, "t" * 32, datetime.now(UTC),
                ),
            )  # fmt: skip
        with engine.begin() as connection:
            notified = tuple(Notified(target, deadline_at) for target in targets)
            outcome = Outcome(AnalysisState.DONE, (FINDING,), notifications=notified)
            assert record_outcome(connection, analysis, outcome)

    return end


def hl7(port: int, **changes: Any) -> NotifySettings:
    return settings(kind="hl7", host="127.0.0.1", port=port, **changes)


def webhook(port: int, **changes: Any) -> NotifySettings:
    return settings(kind="webhook", url=f"http://127.0.0.1:{port}/hook?a=1", **changes)


def settings(**changes: Any) -> NotifySettings:
    defaults = {
        "name": "ris", "timeout": 60, "max_attempts": 3, "backoff_first_seconds": 10,
        "backoff_max_seconds": 15,
    }  # fmt: skip
    return NotifySettings.model_validate({**defaults, **changes})


def row(engine: sa.Engine, number: int = 1) -> Any:
    with engine.connect() as connection:
        query = sa.select(Notification.__table__).where(Notification.id == number)
        return connection.execute(query).one()


@pytest.fixture
def free_port() -> Iterator[int]:
    with held_port() as holder:
        yield int(holder.getsockname()[1])


Found = Callable[..., None]


def test_a_message_is_taken(engine: sa.Engine, files: FileStore, found: Found) -> None:
    found("ris")
    with hl7_receiver() as receiver:
        target = Target(engine, files, hl7(receiver.port), Clock())
        assert target.run_once() == 1
        assert target.run_once() == 0
    (message,) = receiver.received
    assert (row(engine).state, row(engine).last_status) == ("sent", "AA")
    assert row(engine).leased_until is None
    (pid,) = fields(message, "PID")
    assert pid[5] == "Müller\\F\\^Jörg\\E\\^^^^^L^A~山田^太郎^^^^^L^I"
    assert fields(message, "MSH")[0][10].startswith("1-")


def test_an_error_then_acceptance_is_one_message_sent_twice(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock
) -> None:
    found("ris")
    error = lambda message: acknowledgment(message, "AE", "queue full")  # noqa: E731
    with hl7_receiver(answers=[error]) as receiver:
        target = Target(engine, files, hl7(receiver.port), clock)
        target.run_once()
        failed = row(engine)
        assert (failed.state, failed.last_status) == ("pending", "AE")
        assert "queue full" in failed.last_error
        assert (failed.next_attempt_at - clock()).total_seconds() == pytest.approx(10, rel=0.06)
        assert target.run_once() == 0
        clock.advance(11)
        assert target.run_once() == 1
    assert (row(engine).state, row(engine).last_error) == ("sent", None)
    assert receiver.received[0] == receiver.received[1]
    assert len(receiver.filed) == 1


def test_a_clock_that_is_set_back_makes_nobody_wait(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock
) -> None:
    with hl7_receiver() as receiver:
        target = Target(engine, files, hl7(receiver.port), clock, steps=ClockSteps(lambda: 0.0))
        assert target.run_once() == 0
        found("ris")
        clock.advance(-3600)  # it is to be told in an hour
        assert target.run_once() == 1
    assert row(engine).state == "sent"


@pytest.mark.parametrize("code", ["AR", "CE", "CR"])
def test_refusals_end_as_a_dead_letter_that_can_be_retried(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, code: str
) -> None:
    found("ris")
    refuse = lambda message: acknowledgment(message, code, "DOE^JANE is unknown")  # noqa: E731
    with hl7_receiver(answers=[refuse] * 3) as receiver:
        target = Target(engine, files, hl7(receiver.port), clock)
        with structlog.testing.capture_logs() as logs:
            for _ in range(5):
                target.run_once()
                clock.advance(20)
        assert (row(engine).state, row(engine).n_attempts) == ("dead", 3)
        assert row(engine).last_status == code
        assert "DOE^JANE is unknown" in row(engine).last_error, "for a person, in the ledger"
        said = json.dumps(logs, default=str)
        assert "DOE" not in said
        assert "Müller" not in said
        # The image of this analysis is gone; a finding is told without its order.
        events = [one["event"] for one in logs if one["event"] != "notification.no_order"]
        assert events == [
            "notification.failed", "notification.failed", "notification.dead",
        ]  # fmt: skip
        with engine.begin() as connection:
            assert retry(connection, 1, clock())
        target.run_once()
        assert row(engine).state == "sent"
    assert len(set(receiver.received)) == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _message: None, "closed without"),
        (lambda _message: b"HTTP/1.1 400 Bad Request\r\n\r\n", "closed without"),
        (lambda _message: b"nonsense\x1c\x0d", "no start"),
        (lambda _message: FRAME % b"nonsense", "no HL7 acknowledgment"),
        (lambda _message: FRAME % b"", "no HL7 acknowledgment"),
        (lambda _message: FRAME % b"MSH|^~\\&|\rMSA|\xff\xfe|\r", "no acknowledgment code"),
        (lambda _message: b"\x0b" + b"x" * 100_000, "no end"),
        (lambda message: acknowledgment(message, "AA", control_id="OTHER"), "another message"),
        (lambda message: acknowledgment(message, "ZZ"), "no acknowledgment code"),
    ],
)
def test_no_answer_that_counts_is_tried_again(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, answer: Any, why: str
) -> None:
    found("ris")
    with hl7_receiver(answers=[answer]) as receiver:
        target = Target(engine, files, hl7(receiver.port), clock)
        target.run_once()
        assert row(engine).state == "pending"
        assert why in row(engine).last_error
        clock.advance(20)
        target.run_once()
    assert row(engine).state == "sent"
    assert receiver.received[0] == receiver.received[1]


def test_silence_ends_with_the_time_out(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock
) -> None:
    found("ris")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        Target(engine, files, hl7(port, timeout=0.3), clock).run_once()
    assert row(engine).last_error == "no answer within 0.3 s"


def test_a_receiver_that_was_away_gets_everything_when_it_is_back(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, free_port: int
) -> None:
    found("ris", number=1)
    found("ris", number=2)
    target = Target(engine, files, hl7(free_port), clock)
    assert [target.run_once(), target.run_once(), target.run_once()] == [1, 1, 0]
    assert row(engine).last_error == "cannot be reached: Connection refused"
    clock.advance(20)
    with hl7_receiver(free_port) as receiver:
        target.run_once()
        target.run_once()
    assert [row(engine, number).state for number in (1, 2)] == ["sent", "sent"]
    assert len(receiver.filed) == 2


def test_a_sender_killed_before_it_could_enter_sends_under_the_same_name(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, monkeypatch: Any
) -> None:
    found("ris")

    def die(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with hl7_receiver() as receiver:
        with monkeypatch.context() as patch:
            patch.setattr("db.notifications.mark_sent", die)
            with pytest.raises(KeyboardInterrupt):
                Target(engine, files, hl7(receiver.port), clock).run_once()
        assert row(engine).state == "pending"
        after = Target(engine, files, hl7(receiver.port), clock)
        assert after.run_once() == 0, "the lease still runs"
        clock.advance(121)
        assert after.run_once() == 1
    assert row(engine).state == "sent"
    assert len(receiver.received) == 2
    assert receiver.received[0] == receiver.received[1]
    assert len(receiver.filed) == 1, "the receiver files it once"


def test_given_up_at_the_deadline(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, free_port: int
) -> None:
    found("ris", deadline_at=clock() + timedelta(seconds=5))
    Target(engine, files, hl7(free_port), clock).run_once()
    assert (row(engine).state, row(engine).n_attempts) == ("dead", 1)


def test_given_up_when_every_attempt_kills_its_sender(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock
) -> None:
    found("ris")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE notification SET n_attempts = 3"))
    with hl7_receiver() as receiver:
        Target(engine, files, hl7(receiver.port), clock).run_once()
    assert receiver.received == []
    assert row(engine).state == "dead"
    assert "never ended" in row(engine).last_error


def test_a_message_that_cannot_be_written_is_dead_at_once(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock
) -> None:
    found("ris")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE study SET patient_id = NULL"))
    with hl7_receiver() as receiver:
        Target(engine, files, hl7(receiver.port), clock).run_once()
    assert receiver.received == []
    assert (row(engine).state, row(engine).n_attempts) == ("dead", 1)
    assert "Patient ID" in row(engine).last_error


def test_the_librarys_own_server_takes_it(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock
) -> None:
    """hl7apy as the receiver: it parses the message by the standard's structure."""
    found("ris")
    taken: list[str] = []

    class Handler(AbstractHandler):
        def reply(self) -> str:
            taken.append(self.incoming_message)
            return acknowledgment(self.incoming_message.encode(), "AA").decode()

    server = MLLPServer("127.0.0.1", 0, {"ORU^R01^ORU_R01": (Handler,)})
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        Target(engine, files, hl7(server.server_address[1]), clock).run_once()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert row(engine).state == "sent"
    assert len(taken) == 1


def test_a_dead_target_holds_up_nobody_else(
    engine: sa.Engine, files: FileStore, found: Found
) -> None:
    for number in (1, 2):
        found("gone", "ris", number=number)
    with socket.create_server(("127.0.0.1", 0)) as deaf, hl7_receiver() as receiver:
        targets = [
            Target(engine, files, hl7(deaf.getsockname()[1], name="gone", timeout=200)),
            Target(engine, files, hl7(receiver.port)),
        ]
        notifier = Notifier(targets)
        notifier.start()
        try:
            wait_for(lambda: len(receiver.filed) == 2, 120, "both messages", every=0.02)
        finally:
            notifier.tell_to_stop()
    notifier.stop(60)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    folder = tmp_path / "certificates"
    folder.mkdir()
    made = make_certificates(folder)
    (made / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    request = ("req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    openssl(made, *request, "-subj", "/CN=here", "-keyout", "here.k", "-out", "r")
    signed = ("-CA", "root", "-CAkey", "root.k", "-CAcreateserial", "-days", "2")
    openssl(made, "x509", "-req", "-in", "r", *signed, "-extfile", "names", "-out", "here.c")
    return made


def server_context(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "here.c", certificates / "here.k")
    return context


def test_tls_with_the_hospitals_authority_and_with_none_that_is_known(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, certificates: Path
) -> None:
    found("ris")
    clock.advance(60)  # certificates take a while
    root = certificates / "root"
    with hl7_receiver(context=server_context(certificates)) as receiver:
        Target(engine, files, hl7(receiver.port, tls=True), clock).run_once()
        assert "TLS failed" in row(engine).last_error
        assert receiver.received == []
        clock.advance(20)
        Target(engine, files, hl7(receiver.port, tls=True, ca_file=root), clock).run_once()
    assert row(engine).state == "sent"
    found("web", number=2)
    clock.advance(60)
    with web_receiver(context=server_context(certificates)) as web:
        url = f"https://127.0.0.1:{web.port}/"
        for ca_file in (None, root):
            of = settings(name="web", kind="webhook", url=url, ca_file=ca_file)
            Target(engine, files, of, clock).run_once()
            clock.advance(20)
    assert len(web.posts) == 1
    assert row(engine, 2).state == "sent"


def test_a_webhook_is_told_without_the_patient(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, tmp_path: Path
) -> None:
    found("ris")
    (tmp_path / "token").write_text("t0ken\n")
    (tmp_path / "secret").write_text("s3cret\n")
    secrets = {"token_file": tmp_path / "token", "secret_file": tmp_path / "secret"}
    with web_receiver() as receiver:
        Target(engine, files, webhook(receiver.port, **secrets), clock).run_once()
    (post,) = receiver.posts
    assert (row(engine).state, row(engine).last_status) == ("sent", "204")
    assert post.path == "/hook?a=1"
    assert post.headers["Authorization"] == "Bearer t0ken"
    expected = hmac.new(b"s3cret", post.body, hashlib.sha256).hexdigest()
    assert post.headers["X-Preread-Signature"] == f"sha256={expected}"
    said = json.loads(post.body)
    assert post.headers["Idempotency-Key"] == said["id"]
    assert (said["version"], said["event"], said["priority"]) == (1, "analysis.done", "stat")
    assert said["findings"] == [
        {
            "label": "pneumothorax",
            "code": {"value": "36118008", "scheme": "SCT", "meaning": "Pneumothorax"},
            "presence": "Present",
            "probability": 0.9,
        }
    ]
    assert said["study_instance_uid"] == "1.2.1"
    assert said["sr_sop_instance_uid"] is None
    assert "patient" not in said
    for secret in ("Müller", "P-1", "ACC-77"):
        assert secret not in post.body.decode()


def test_a_webhook_is_told_the_patient_if_set(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock
) -> None:
    found("ris")
    with web_receiver() as receiver:
        of = webhook(receiver.port, include_patient=True)
        Target(engine, files, of, clock).run_once()
    assert json.loads(receiver.posts[0].body)["patient"] == {
        "id": "P-1", "issuer": None, "name": NAME, "birth_date": None, "sex": "M",
        "accession_number": "ACC-77",
    }  # fmt: skip


@pytest.mark.parametrize("status", [301, 307, 400, 401, 429, 500, 503])
def test_what_is_not_taken_is_posted_again_the_same(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, status: int
) -> None:
    found("ris")
    with web_receiver(statuses=[status]) as receiver:
        target = Target(engine, files, webhook(receiver.port), clock)
        target.run_once()
        assert (row(engine).state, row(engine).last_status) == ("pending", str(status))
        clock.advance(20)
        target.run_once()
    assert row(engine).state == "sent"
    first, second = receiver.posts
    assert (first.body, first.path) == (second.body, second.path)
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_an_answer_that_drips_ends_with_the_time_out(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock
) -> None:
    found("ris")
    with web_receiver(drip=True) as receiver:
        Target(engine, files, webhook(receiver.port, timeout=0.5), clock).run_once()
    assert row(engine).last_error == "no answer within 0.5 s"


def test_time_that_runs_out_before_there_is_a_connection_is_over(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, monkeypatch: Any
) -> None:
    found("ris")
    connect = http.client.HTTPConnection.connect

    def slowly(connection: http.client.HTTPConnection) -> None:
        time.sleep(0.4)  # such as for a name server
        connect(connection)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", slowly)
    with web_receiver(drip=True) as receiver:
        Target(engine, files, webhook(receiver.port, timeout=0.2), clock).run_once()
    assert row(engine).last_error == "no answer within 0.2 s"


def test_a_webhook_that_is_away_or_lacks_its_secret(
    engine: sa.Engine, files: FileStore, found: Found, clock: Clock, tmp_path: Path, free_port: int
) -> None:
    found("ris")
    Target(engine, files, webhook(free_port), clock).run_once()
    assert row(engine).last_error == "cannot be reached: Connection refused"
    clock.advance(20)
    with web_receiver() as receiver:
        of = webhook(receiver.port, secret_file=tmp_path / "none")
        Target(engine, files, of, clock).run_once()
    assert receiver.posts == []
    assert "secret_file" in row(engine).last_error
