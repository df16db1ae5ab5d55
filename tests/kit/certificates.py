"""Keys and certificates for tests of TLS, made with the program ``openssl``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
_RSA = ("-newkey", "rsa:2048")


def openssl(folder: Path, *arguments: str) -> None:
    """Run openssl in a folder."""
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificates(folder: Path) -> Path:
    """Fill a folder and return it; certificates end in ``.c``, keys in ``.k``.

    ``root`` is a hospital's authority, which signed ``node`` and ``sender``; ``a`` and ``rsa`` are
    strangers that signed themselves. ``locked.k`` is the node's key encrypted with ``password``,
    ``both`` the node's certificate and key, ``garbage`` nothing of the kind.
    """
    if shutil.which("openssl") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("openssl is missing")
        pytest.skip("openssl is not installed")
    request = ("req", "-nodes", "-days", "2")
    own = (*request, "-x509")
    openssl(folder, *own, *_EC, "-subj", "/CN=root", "-keyout", "root.k", "-out", "root")
    for name in ("node", "sender"):
        openssl(folder, *request, *_EC, "-subj", f"/CN={name}", "-keyout", f"{name}.k", "-out", "r")
        signed = ("-CA", "root", "-CAkey", "root.k", "-CAcreateserial", "-days", "2")
        openssl(folder, "x509", "-req", "-in", "r", *signed, "-out", f"{name}.c")
    openssl(folder, *own, *_EC, "-subj", "/CN=alien", "-keyout", "a.k", "-out", "a.c")
    openssl(folder, *own, *_RSA, "-subj", "/CN=rsa", "-keyout", "rsa.k", "-out", "rsa.c")
    openssl(folder, "ec", "-in", "node.k", "-aes256", "-passout", "pass:word", "-out", "locked.k")
    (folder / "both").write_text((folder / "node.c").read_text() + (folder / "node.k").read_text())
    (folder / "garbage").write_bytes(b"\xff no PEM")
    (folder / "password").write_text("word\nsecond line\n")
    (folder / "other-password").write_text("sword\n")
    return folder
