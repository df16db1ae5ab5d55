"""A data directory and its database, filled as receiving fills them, and ways to damage both."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from encoded import data_set
from raw_pdus import CT_IMAGE, EXPLICIT_LITTLE

from db import FileStore, create_engine
from db.ingest import Ingest
from scp.part10 import file_head
from scp.stored import read_stored

LONG_AGO = 1_700_000_000
TABLES = ("study", "series", "instance")
# What a file cannot tell: row numbers, the association, and when the association's answer was sent.
UNTOLD = {"id", "association_id", "received_at", "trace_id"}


class ImageStore:
    """Small images in files, with and without rows.

    Attributes
    ----------
    at : int
        When the last one was received, in seconds since 1970; each comes a second after the one
        before, because the kernel's clock of files ticks every few milliseconds only.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.files = FileStore(folder)
        self.files.prepare()
        self.engine = create_engine(url)
        self.ingest = Ingest(self.engine)
        self.at = LONG_AGO

    def close(self) -> None:
        self.ingest.close()
        self.engine.dispose()

    def put(
        self,
        uid: str = "1.2.3.4.1",
        *,
        study: str = "1.2.3",
        series: str = "1.2.3.4",
        patient: str = "P-1",
        number: int = 1,
        sop_class: str = CT_IMAGE,
        syntax: str = EXPLICIT_LITTLE,
        n_bytes: int = 64,
    ) -> str:
        """Write a file and no row; return its path. An empty `study` or `series` is left out."""
        elements = {
            0x00080016: ("UI", sop_class),
            0x00080018: ("UI", uid),
            0x00080060: ("CS", "CT"),
            0x00081030: ("LO", f"as image {number} describes it"),
            0x00100010: ("PN", "PHANTOM^HEAD"),
            0x00100020: ("LO", patient),
            0x0020000D: ("UI", study),
            0x0020000E: ("UI", series),
            0x00200011: ("IS", str(number)),
            0x00200013: ("IS", str(number)),
            0x7FE00010: ("OW", bytes(n_bytes)),
        }
        given = {tag: element for tag, element in elements.items() if element[1]}
        return self.put_encoded(uid, sop_class, syntax, data_set(given, syntax))

    def put_encoded(self, uid: str, sop_class: str, syntax: str, encoded: bytes) -> str:
        """Write a file of an encoded data set and no row; return its path."""
        path = self.files.write_image(uid, file_head(sop_class, uid, syntax, "X"), encoded).path
        self.at += 1
        os.utime(self.absolute(path), (self.at, self.at))
        return path

    def receive(self, *arguments: Any, **named: Any) -> str:
        """Write a file and its row; return the path."""
        return self.index(self.put(*arguments, **named))

    def index(self, path: str, association_id: str = "a" * 32) -> str:
        """Make the row of a file."""
        self.ingest.add(read_stored(self.files, path, association_id))
        return path

    def absolute(self, path: str) -> Path:
        return self.files.root / path

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(sql))]

    def count(self) -> int:
        return int(self.rows("SELECT count(*) FROM instance")[0][0])

    def ids(self) -> dict[str, int]:
        """Row numbers by path."""
        return dict(self.rows("SELECT path, id FROM instance"))  # type: ignore[arg-type]

    def everything(self) -> list[list[tuple[Any, ...]]]:
        return [self.rows(f"SELECT * FROM {table}") for table in TABLES]

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """All rows, without what a file cannot tell."""
        with self.engine.connect() as connection:
            found = {
                table: [
                    {name: value for name, value in row.items() if name not in UNTOLD}
                    for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()
                ]
                for table in TABLES
            }
        return {table: sorted(rows, key=str) for table, rows in found.items()}

    def lose(self, *statements: str) -> None:
        """Delete rows as a damaged disk does, without regard to what refers to them."""
        if self.engine.dialect.name == "sqlite":
            connection = sqlite3.connect(str(self.engine.url.database))
            with connection:
                for statement in statements:
                    connection.execute(statement)
            connection.close()
            return
        with self.engine.begin() as session:
            session.execute(sa.text("SET LOCAL session_replication_role = replica"))
            for statement in statements:
                session.execute(sa.text(statement))

    def lose_everything(self) -> None:
        self.lose(*(f"DELETE FROM {table}" for table in reversed(TABLES)))

    def quarantined(self) -> list[Path]:
        return sorted((self.files.root / "quarantine").iterdir())
