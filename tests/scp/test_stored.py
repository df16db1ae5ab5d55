"""Stored files read back into rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from image_store import LONG_AGO, ImageStore

from scp.errors import IdentityError, Part10Error, ScpError, StructureError
from scp.part10 import file_head, read_layout
from scp.stored import read_stored, stored_digest

SMALL, LARGE = 64, 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    made = ImageStore(tmp_path / "data", f"sqlite:///{tmp_path / 'unused.sqlite'}")
    yield made
    made.close()


@pytest.mark.parametrize("n_bytes", [SMALL, LARGE])
def test_a_file_tells_its_row(store: ImageStore, n_bytes: int) -> None:
    path = store.put("1.2.3.4.5", number=7, n_bytes=n_bytes)
    record = read_stored(store.files, path, "somebody")

    assert (record.sop_instance_uid, record.instance_number) == ("1.2.3.4.5", 7)
    assert (record.path, record.association_id) == (path, "somebody")
    assert record.size_bytes == store.absolute(path).stat().st_size
    assert record.sha256 == stored_digest(store.files, path)
    assert record.received_at == datetime.fromtimestamp(LONG_AGO + 1, UTC)


def test_the_time_of_receipt_is_exact_to_the_microsecond(store: ImageStore) -> None:
    path = store.put()
    os.utime(store.absolute(path), ns=(0, 1_700_000_000_123_456_789))
    assert read_stored(store.files, path, "").received_at.microsecond == 123_456


@pytest.mark.parametrize("n_bytes", [SMALL, LARGE])
@pytest.mark.parametrize("n_missing", [1, 2, 30, 60])
def test_a_cut_file_is_told_from_a_whole_one(
    store: ImageStore, n_bytes: int, n_missing: int
) -> None:
    path = store.put(n_bytes=n_bytes)
    os.truncate(store.absolute(path), store.absolute(path).stat().st_size - n_missing)
    with pytest.raises(StructureError):
        read_stored(store.files, path, "")


@pytest.mark.parametrize("n_bytes", [SMALL, LARGE])
def test_a_file_that_goes_on_after_its_end_is_damaged(store: ImageStore, n_bytes: int) -> None:
    path = store.put(n_bytes=n_bytes)
    with store.absolute(path).open("ab") as file:
        file.write(bytes(16))
    with pytest.raises(StructureError):
        read_stored(store.files, path, "")


def test_an_empty_file_is_damaged(store: ImageStore) -> None:
    path = store.put()
    os.truncate(store.absolute(path), 0)
    with pytest.raises(Part10Error, match="empty"):
        read_stored(store.files, path, "")
    with pytest.raises(ScpError):
        stored_digest(store.files, path)


@pytest.mark.parametrize("wrong", ["class", "instance"])
def test_head_and_data_set_must_name_the_same_instance(store: ImageStore, wrong: str) -> None:
    path = store.put("1.2.3.4.5")
    content = store.absolute(path).read_bytes()
    layout = read_layout(content)
    head = file_head(
        "1.2.3" if wrong == "class" else layout.sop_class_uid,
        "1.2.3" if wrong == "instance" else "1.2.3.4.5",
        layout.transfer_syntax_uid,
        "X",
    )
    store.absolute(path).write_bytes(head + content[layout.data_set_offset :])
    with pytest.raises(IdentityError, match=wrong.title()):
        read_stored(store.files, path, "")


def test_a_file_that_is_gone_is_an_error_of_the_system(store: ImageStore) -> None:
    with pytest.raises(FileNotFoundError):
        read_stored(store.files, "images/00/1.2.3.dcm", "")
