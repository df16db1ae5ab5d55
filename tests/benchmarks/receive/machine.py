"""The machine on which the figures were measured."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path

from machine_facts import hardware
from processes import PeerError, program


def facts(folder: Path) -> list[tuple[str, str]]:
    """Return names and values of what the figures depend on; `folder` is on the disk used."""
    return [
        *hardware(folder),
        ("SQLite", sqlite3.sqlite_version),
        *((name, version(name)) for name in ("pynetdicom", "pydicom", "sqlalchemy", "psycopg")),
        ("DCMTK", _first_version("storescp")),
        ("Orthanc", _first_version("Orthanc")),
    ]


def _first_version(name: str) -> str:
    try:
        said = subprocess.run([program(name), "--version"], capture_output=True, text=True).stdout
    except PeerError:
        return "not installed"
    found = re.search(r"\d+\.\d+\.\d+", said)
    return found[0] if found else "?"
