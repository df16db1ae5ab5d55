"""TLS: what PS3.15 B.12 asks for is negotiated, and wrong files are named with their setting."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificates, openssl
from pydantic import ValidationError

from scp.errors import ServerError
from scp.settings import ScpSettings
from scp.tls import server_context


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def settings(folder: Path, **files: str) -> ScpSettings:
    return ScpSettings(**{name: folder / file for name, file in files.items()})


def node(folder: Path, **files: str) -> ssl.SSLContext:
    context = server_context(
        settings(folder, **{"tls_certificate": "node.c", "tls_key": "node.k", **files})
    )
    assert context is not None
    return context


def sender(folder: Path, identity: str | None = None, root: str = "root") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / root)
    if identity is not None:
        context.load_cert_chain(folder / f"{identity}.c", folder / f"{identity}.k")
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Shake hands in memory, read one byte through it, and return the server's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    served = server.wrap_bio(to_server, to_client, server_side=True)
    asked = client.wrap_bio(to_client, to_server)
    waiting: list[Any] = [asked.do_handshake, served.do_handshake]
    for _ in range(10):
        for step in list(waiting):
            try:
                step()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(step)
    assert not waiting
    asked.write(b"x")
    assert served.read(1) == b"x"
    return served


def test_without_a_certificate_there_is_no_tls() -> None:
    assert server_context(ScpSettings()) is None


def test_tls_1_3_is_preferred_and_senders_need_no_certificate(folder: Path) -> None:
    assert handshake(node(folder), sender(folder)).version() == "TLSv1.3"


def test_key_in_the_certificate_file(folder: Path) -> None:
    context = server_context(settings(folder, tls_certificate="both"))
    assert context is not None
    handshake(context, sender(folder))


def test_encrypted_key(folder: Path) -> None:
    context = node(folder, tls_key="locked.k", tls_key_password_file="password")
    handshake(context, sender(folder))


@pytest.mark.parametrize(
    ("certificate", "suite"),
    [
        ("node", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("node", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("rsa", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("rsa", "ECDHE-RSA-AES128-GCM-SHA256"),
    ],
)
def test_recommended_suites_of_tls_1_2(folder: Path, certificate: str, suite: str) -> None:
    server = node(folder, tls_certificate=f"{certificate}.c", tls_key=f"{certificate}.k")
    client = sender(folder, root="rsa.c" if certificate == "rsa" else "root")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(suite)
    served = handshake(server, client)
    cipher = served.cipher()
    assert cipher is not None
    assert (served.version(), cipher[0]) == ("TLSv1.2", suite)
    assert served.compression() is None


@pytest.mark.parametrize(
    "suite",
    ["AES256-GCM-SHA384", "AES128-SHA", "ECDHE-RSA-AES256-SHA", "DHE-RSA-AES128-GCM-SHA256"],
)
def test_suites_without_forward_secrecy_or_with_cbc_are_refused(folder: Path, suite: str) -> None:
    client = sender(folder, root="rsa.c")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(suite)
    with pytest.raises(ssl.SSLError):
        handshake(node(folder, tls_certificate="rsa.c", tls_key="rsa.k"), client)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_1_1_is_refused(folder: Path) -> None:
    client = sender(folder)
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        handshake(node(folder), client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_with_tls_ca_senders_must_show_a_certificate_of_it(
    folder: Path, version: ssl.TLSVersion
) -> None:
    server = node(folder, tls_ca="root")
    for identity, welcome in (("sender", True), ("a", False), (None, False)):
        client = sender(folder, identity)
        client.maximum_version = version
        if welcome:
            subject = handshake(server, client).getpeercert()
            assert subject is not None
            assert subject["subject"] == ((("commonName", "sender"),),)
        else:
            with pytest.raises(ssl.SSLError):
                handshake(server, client)


@pytest.mark.parametrize(
    ("files", "setting", "file", "reason"),
    [
        ({"tls_certificate": "nowhere"}, "tls_certificate", "nowhere", "No such file"),
        ({"tls_certificate": "garbage"}, "tls_certificate", "garbage", "no certificate in PEM"),
        ({"tls_certificate": "."}, "tls_certificate", "", "directory"),
        ({"tls_key": "nowhere"}, "tls_key", "nowhere", "No such file"),
        ({"tls_key": "garbage"}, "tls_key", "garbage", "no private key"),
        ({"tls_key": "sender.k"}, "tls_key", "sender.k", "is not the key of scp.tls_certificate"),
        ({"tls_key": "locked.k"}, "tls_key", "locked.k", "set scp.tls_key_password_file"),
        (
            {"tls_key": "locked.k", "tls_key_password_file": "other-password"},
            "tls_key_password_file",
            "other-password",
            "does not open",
        ),
        (
            {"tls_key_password_file": "nowhere"},
            "tls_key_password_file",
            "nowhere",
            "No such file",
        ),
        (
            {"tls_key_password_file": "garbage"},
            "tls_key_password_file",
            "garbage",
            "no text in UTF-8",
        ),
        ({"tls_ca": "nowhere"}, "tls_ca", "nowhere", "No such file"),
        ({"tls_ca": "garbage"}, "tls_ca", "garbage", "no certificates in PEM"),
    ],
)
def test_wrong_files_are_named_with_their_setting(
    folder: Path, files: dict[str, str], setting: str, file: str, reason: str
) -> None:
    with pytest.raises(ServerError) as caught:
        node(folder, **files)
    message = str(caught.value)
    assert message.startswith(f"scp.{setting}: ")
    assert str(folder / file) in message
    assert reason in message
    assert "word" not in message.replace("password", "")


def test_a_certificate_without_its_key(folder: Path) -> None:
    with pytest.raises(ServerError, match=r"scp\.tls_certificate: .*no private key"):
        server_context(settings(folder, tls_certificate="node.c"))


def test_a_key_too_short_for_bcp_195(folder: Path) -> None:
    weak = ("req", "-nodes", "-days", "2", "-newkey", "rsa:1024", "-x509", "-subj", "/CN=weak")
    openssl(folder, *weak, "-keyout", "weak.k", "-out", "weak.c")
    with pytest.raises(ServerError, match=r"scp\.tls_certificate: .*strong enough"):
        node(folder, tls_certificate="weak.c", tls_key="weak.k")


@pytest.mark.parametrize("name", ["tls_key", "tls_key_password_file", "tls_ca"])
def test_settings_that_need_a_certificate_say_so(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name}[\s\S]*without tls_certificate"):
        ScpSettings(**{name: "/somewhere"})
