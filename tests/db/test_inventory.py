"""Files against rows: what names tell, and what is found a page at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from records import RECORD

from db import FileStore, inventory
from db.ingest import Ingest
from db.rebuild import Placed, rebuild

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PLACED = Placed("{}", NOON)
UIDS = (
    st.lists(st.integers(0, 10**17).map(str), min_size=1, max_size=4)
    .map(".".join)
    .filter(lambda uid: len(uid) <= 64)
)


def put(files: FileStore, uid: str, data_set: bytes = b"x") -> str:
    return files.write_image(uid, bytes(128) + b"DICM", data_set).path


@given(uid=UIDS, digest=st.binary(min_size=32, max_size=32).map(bytes.hex))
def test_a_file_name_tells_its_instance(uid: str, digest: str) -> None:
    place = FileStore(Path("/nowhere")).place_of("images", uid)
    for path in (place.first, place.other(digest)):
        assert uid in inventory.uids_of(Path(path).name)


@pytest.mark.parametrize(
    "name", ["scan.dcm", "1.2.3", "1.2.3.dcm.bak", ".1.2.dcm", "1.2.3.DCM", "1.2.x.dcm", "1..2.dcm"]
)
def test_other_names_are_no_images(name: str) -> None:
    assert inventory.uids_of(name) == ()


def test_a_last_part_of_sixteen_digits_may_belong_to_the_uid() -> None:
    assert inventory.uids_of("1.2.1234567890123456.dcm") == ("1.2.1234567890123456", "1.2")


def test_files_without_rows_are_listed_and_strange_ones_apart(
    engine: sa.Engine, files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "NAMES_PER_QUERY", 3)
    paths = [put(files, f"1.2.3.{number}") for number in range(40)]
    with_row = paths[::2]
    for path in with_row:
        uid = Path(path).name.removesuffix(".dcm")
        Ingest(engine).add(replace(RECORD, sop_instance_uid=uid, path=path))
    (files.root / "images/00/notes.txt").write_text("x")
    (files.root / "images/00/1.2.3.dcm").mkdir()
    (files.root / "images/00/1.2.4.dcm").symlink_to("/etc/passwd")

    seen = [
        names
        for folder in inventory.image_folders(files)
        for names in inventory.compare_folder(engine, files, folder)
    ]

    assert sorted(path for names in seen for path in names.without_row) == sorted(paths[1::2])
    assert sum(names.n_files for names in seen) == 40
    assert sorted(path for names in seen for path in names.foreign) == [
        "images/00/1.2.3.dcm",
        "images/00/1.2.4.dcm",
        "images/00/notes.txt",
    ]


def test_a_file_under_another_path_than_its_row_says_has_no_row(
    engine: sa.Engine, files: FileStore
) -> None:
    path = put(files, "1.2.3.1")
    Ingest(engine).add(replace(RECORD, sop_instance_uid="1.2.3.1", path="images/ff/1.2.3.1.dcm"))

    folder = (files.root / path).parent
    (names,) = inventory.compare_folder(engine, files, folder)
    assert names.without_row == (path,)


def test_rows_come_in_pages_and_hold_no_snapshot_between_them(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "ROWS_PER_PAGE", 2)
    ingest = Ingest(engine)
    for number in range(5):
        ingest.add(replace(RECORD, sop_instance_uid=f"1.2.{number}"))
    ingest.close()
    pages = []
    for page in inventory.rows(engine):
        pages.append(page)
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        if len(pages) == 1:
            late = replace(RECORD, sop_instance_uid="1.2.99", path="late")
            rebuild(engine, [late], PLACED)  # seen: it has a later id

    assert [len(page) for page in pages] == [2, 2, 2]
    assert all(row.has_parents for page in pages for row in page)


def test_missing_is_marked_and_unmarked(engine: sa.Engine) -> None:
    Ingest(engine).add(RECORD)
    ((row,),) = inventory.rows(engine)
    inventory.mark_missing(engine, [row.id], NOON)
    ((marked,),) = inventory.rows(engine)
    inventory.mark_missing(engine, [row.id], None)
    ((unmarked,),) = inventory.rows(engine)

    assert (row.missing_at, marked.missing_at, unmarked.missing_at) == (None, NOON, None)
