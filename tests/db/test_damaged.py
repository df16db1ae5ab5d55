"""Damaged files: taken out once by those that find them, never the one that came instead."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa
from records import RECORD, rows

from db import FileStore
from db.commitments_asked import HeldRevision, held_revisions
from db.damaged import file_seen, take_out
from db.ingest import Added, Ingest

UID = RECORD.sop_instance_uid
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
_SYNTAX = b"\2\0\x10\0UI" + struct.pack("<H", 20) + b"1.2.840.10008.1.2.1\0"
HEAD = bytes(128) + b"DICM\2\0\0\0UL\4\0" + struct.pack("<L", len(_SYNTAX)) + _SYNTAX


@pytest.fixture
def ingest(engine: sa.Engine) -> Iterator[Ingest]:
    made = Ingest(engine)
    yield made
    made.close()


def receive(files: FileStore, ingest: Ingest, content: bytes = b"pixels") -> Added:
    stored = files.write_image(UID, HEAD, content)
    return ingest.add(
        replace(RECORD, path=stored.path, size_bytes=stored.size_bytes, sha256=stored.sha256)
    )


def held(engine: sa.Engine) -> list[HeldRevision]:
    with engine.connect() as connection:
        return held_revisions(connection, [UID])[UID]


def damage(files: FileStore, one: HeldRevision) -> None:
    (files.root / one.path).write_bytes(b"damaged")


def quarantined(files: FileStore) -> list[bytes]:
    return [path.read_bytes() for path in (files.root / "quarantine").iterdir()]


def test_what_is_sent_again_takes_the_place(
    engine: sa.Engine, files: FileStore, ingest: Ingest
) -> None:
    receive(files, ingest)
    (one,) = held(engine)
    damage(files, one)
    taken = take_out(engine, files, one, file_seen(files, one.path), NOON)
    assert taken is not None
    assert taken.quarantined is not None
    assert (files.root / taken.quarantined).read_bytes() == b"damaged"
    assert [again.is_missing for again in held(engine)] == [True]
    assert receive(files, ingest) is Added.EQUAL
    assert held(engine) == [one]
    assert (files.root / one.path).read_bytes() == HEAD + b"pixels"


def test_a_lost_file_is_marked(engine: sa.Engine, files: FileStore, ingest: Ingest) -> None:
    receive(files, ingest)
    (one,) = held(engine)
    (files.root / one.path).unlink()
    assert take_out(engine, files, one, None, NOON) == (None,)
    assert rows(engine, "SELECT COUNT(*) FROM instance WHERE missing_at IS NOT NULL") == [(1,)]


def test_many_find_it_and_one_takes_it(engine: sa.Engine, files: FileStore, ingest: Ingest) -> None:
    receive(files, ingest)
    (one,) = held(engine)
    damage(files, one)
    seen, together = file_seen(files, one.path), Barrier(4)

    def find(_: int) -> bool:
        together.wait()
        return take_out(engine, files, one, seen, NOON) is not None

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(find, range(4))) == [False, False, False, True]
    assert quarantined(files) == [b"damaged"]


def test_what_came_instead_stays(engine: sa.Engine, files: FileStore, ingest: Ingest) -> None:
    """Somebody slow, after another took the file out and the image was sent again."""
    receive(files, ingest)
    (one,) = held(engine)
    damage(files, one)
    seen = file_seen(files, one.path)
    take_out(engine, files, one, seen, NOON)
    receive(files, ingest)
    for late in (seen, None):
        assert take_out(engine, files, one, late, NOON) is None
    assert held(engine) == [one]
    assert (files.root / one.path).read_bytes() == HEAD + b"pixels"
    assert quarantined(files) == [b"damaged"]


def test_a_name_that_went_to_another_revision_is_left_to_it(
    engine: sa.Engine, files: FileStore, ingest: Ingest
) -> None:
    receive(files, ingest, b"first")
    receive(files, ingest, b"second")
    first, second = held(engine)
    for one in (first, second):
        (files.root / one.path).unlink()
    assert take_out(engine, files, second, None, NOON) == (None,)
    receive(files, ingest, b"second")
    assert [one.path for one in held(engine)] == [first.path] * 2
    taken = take_out(engine, files, first, file_seen(files, first.path), NOON)
    assert taken == (None,)
    assert (files.root / first.path).read_bytes() == HEAD + b"second"
    assert receive(files, ingest, b"first") is Added.EQUAL
    assert [one.is_missing for one in held(engine)] == [False, False]
    assert len({one.path for one in held(engine)}) == 2


def test_a_file_that_cannot_be_moved_stays_with_its_row(
    engine: sa.Engine, files: FileStore, ingest: Ingest
) -> None:
    receive(files, ingest)
    (one,) = held(engine)
    damage(files, one)
    (files.root / "quarantine").rmdir()
    with pytest.raises(OSError, match="No such file"):
        take_out(engine, files, one, file_seen(files, one.path), NOON)
    assert held(engine) == [one]
    assert (files.root / one.path).read_bytes() == b"damaged"


def test_a_file_back_with_another_head_has_its_size(
    engine: sa.Engine, files: FileStore, ingest: Ingest
) -> None:
    """Its head names the sender; nobody had missed it."""
    receive(files, ingest)
    (one,) = held(engine)
    (files.root / one.path).unlink()
    longer = HEAD[:140] + struct.pack("<L", len(_SYNTAX) + 2) + _SYNTAX + b"\0\0"
    stored = files.write_image(UID, longer, b"pixels")
    again = replace(RECORD, path=stored.path, size_bytes=stored.size_bytes, sha256=stored.sha256)
    assert ingest.add(again) is Added.EQUAL
    assert [it.size_bytes for it in held(engine)] == [one.size_bytes + 2]


def test_a_name_that_vanishes_is_taken(files: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The damaged file is taken out while its image is received."""
    path = files.root / files.write_image(UID, HEAD, b"damaged").path
    published = type(files.new_file("images/00")).publish

    def publish(self: object, final: str) -> bool:
        taken: bool = published(self, final)  # type: ignore[arg-type]
        if not taken:
            Path(final).unlink()
        return taken

    monkeypatch.setattr("db.durable.NewFile.publish", publish)
    stored = files.write_image(UID, HEAD, b"pixels")
    assert (files.root / stored.path).read_bytes() == HEAD + b"pixels"
    assert not path.exists()
