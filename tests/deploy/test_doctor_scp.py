"""What `preread doctor` says of receiving."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificates, openssl

from deploy import doctor_scp
from deploy.check import Check, Verdict
from deploy.doctor_scp import examine_scp
from deploy.settings import load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREREAD_SHARED_DATA", raising=False)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def found(**scp: Any) -> dict[str, Check]:
    db = scp.pop("db", {})
    given = {"host": "127.0.0.1", "port": 0, **scp}
    return {check.name: check for check in examine_scp(load(flags={"scp": given, "db": db}))}


def test_nothing_is_wrong_with_the_defaults_but_that_everybody_may_send() -> None:
    checks = found()
    verdicts = {name: check.verdict for name, check in checks.items()}
    assert verdicts == {
        "port": Verdict.GOOD,
        "acceptors": Verdict.GOOD,
        "access": Verdict.WARNING,
        "TLS": Verdict.GOOD,
        "backlog": Verdict.GOOD,
    }
    assert "does not run" in checks["port"].message
    assert "scp.calling_ae_allow" in checks["access"].message


def test_lists_are_named() -> None:
    check = found(calling_ae_allow=["CT"])["access"]
    assert (check.verdict, check.message) == (Verdict.GOOD, "open, by scp.calling_ae_allow")


def test_a_port_that_another_program_has(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(_: object) -> None:
        raise doctor_scp.ScpError("no answer")

    monkeypatch.setattr(doctor_scp, "echo", no_answer)
    port = listener.getsockname()[1]
    check = found(port=port)["port"]
    assert (check.verdict, "answers no C-ECHO" in check.message) == (Verdict.WARNING, True)
    # A node that lets doctor not in is no other program.
    assert found(port=port, calling_ae_allow=["CT"])["port"].verdict is Verdict.GOOD
    monkeypatch.setattr(doctor_scp, "echo", lambda _: None)
    assert found(port=port)["port"].message == f"PREREAD answers on {port}"


def test_an_address_that_this_machine_has_not() -> None:
    check = found(host="192.0.2.7")["port"]
    assert check.verdict is Verdict.BAD
    assert "scp.host 192.0.2.7" in check.message


def test_acceptors(monkeypatch: pytest.MonkeyPatch) -> None:
    postgresql = {"url": "postgresql+psycopg://preread@nowhere/preread"}
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert found(acceptors=4, port=1, db=postgresql)["acceptors"].verdict is Verdict.WARNING
    assert found(acceptors=2, port=1, db=postgresql)["acceptors"].verdict is Verdict.GOOD
    monkeypatch.setattr(doctor_scp, "_can_share_ports", lambda: False)
    check = found(acceptors=2, port=1)["acceptors"]
    assert (check.verdict, "SO_REUSEPORT" in check.message) == (Verdict.BAD, True)
    assert found(acceptors=1)["acceptors"].verdict is Verdict.GOOD


def test_tls(certificates: Path) -> None:
    identity = {
        "tls_certificate": str(certificates / "node.c"),
        "tls_key": str(certificates / "node.k"),
    }
    check = found(**identity)["TLS"]
    assert check.verdict is Verdict.WARNING, "it expires in two days"
    assert "any sender" in check.message and "renewed" in check.message
    both = found(**identity, tls_ca=str(certificates / "root"))["TLS"]
    assert "must show a certificate" in both.message
    wrong = found(**{**identity, "tls_key": str(certificates / "sender.k")})["TLS"]
    assert (wrong.verdict, "scp.tls_key" in wrong.message) == (Verdict.BAD, True)


def test_a_certificate_that_has_expired(certificates: Path) -> None:
    signed = ("-CA", "root", "-CAkey", "root.k", "-CAcreateserial", "-days", "-1")
    openssl(certificates, "req", "-new", "-key", "node.k", "-subj", "/CN=node", "-out", "r")
    openssl(certificates, "x509", "-req", "-in", "r", *signed, "-out", "old.c")
    identity = {
        "tls_certificate": str(certificates / "old.c"),
        "tls_key": str(certificates / "node.k"),
    }
    check = found(**identity)["TLS"]
    assert check.verdict is Verdict.BAD
    assert check.message == "scp.tls_certificate: certificate has expired"


def test_images_that_wait_for_the_database() -> None:
    folder = Path("preread-data/unindexed")
    folder.mkdir(parents=True)
    (folder / "1-1-a.jsonl").write_text("{}\n{}\n")
    check = found()["backlog"]
    assert (check.verdict, check.message.startswith("2 images")) == (Verdict.WARNING, True)
    (folder / "refused-1-a.jsonl").write_text("{}\n")
    assert found()["backlog"].verdict is Verdict.BAD
