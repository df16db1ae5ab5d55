"""The file store: nothing is replaced, nothing leaves the folder, nothing half-written stays."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import FileStore
from db.digest import AssistedDigest, Digest, DigestHelper
from db.errors import DatabaseError, StorageFullError
from db.incoming import IncomingImage

META = b"\x02\x00\x10\x00UI\x04\x001.2\x00"
HEAD = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + len(META).to_bytes(4, "little") + META


def test_bytes_come_back(files: FileStore) -> None:
    stored = files.write_image("1.2.3", HEAD, b"data set")

    assert files.absolute(stored.path).read_bytes() == HEAD + b"data set"
    assert stored.size_bytes == len(HEAD) + 8
    assert list((files.root / "incoming").iterdir()) == []


def test_equal_bytes_again_are_the_same_file(files: FileStore) -> None:
    assert files.write_image("1.2.3", HEAD, b"x") == files.write_image("1.2.3", HEAD, b"x")


def test_equal_bytes_in_another_transfer_syntax_are_another_file(files: FileStore) -> None:
    other_head = HEAD.replace(b"1.2\x00", b"1.3\x00")
    first = files.write_image("1.2.3", HEAD, b"x")
    second = files.write_image("1.2.3", other_head, b"x")

    assert first.path != second.path
    assert files.absolute(second.path).read_bytes() == other_head + b"x"
    assert files.write_image("1.2.3", other_head, b"x") == second


def test_other_bytes_get_a_file_of_their_own(files: FileStore) -> None:
    first = files.write_image("1.2.3", HEAD, b"one")
    second = files.write_image("1.2.3", HEAD, b"two")
    again = files.write_image("1.2.3", HEAD, b"two")

    assert files.absolute(first.path).read_bytes().endswith(b"one")
    assert files.absolute(second.path).read_bytes().endswith(b"two")
    assert again == second


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(uid=st.text(max_size=80))
def test_no_uid_leaves_the_image_folder(files: FileStore, uid: str) -> None:
    stored = files.write_image(uid, HEAD, uid.encode(errors="surrogatepass"))

    path = files.absolute(stored.path)
    assert path.parent.parent == files.root / "images"
    assert path.is_file()


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "images/../../x"])
def test_a_stored_path_cannot_leave(files: FileStore, path: str) -> None:
    with pytest.raises(DatabaseError, match="leaves the data directory"):
        files.absolute(path)


def test_a_full_disk_leaves_nothing(files: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError):
        files.write_image("1.2.3", HEAD, b"x")

    assert list((files.root / "incoming").iterdir()) == []
    assert list(files.images()) == []


def test_leftovers_of_dead_processes_go_those_of_live_ones_stay(files: FileStore) -> None:
    incoming = files.root / "incoming"
    dead, live = incoming / "999999999-aa-0", incoming / f"{os.getppid()}-aa-0"
    same_pid_earlier_life = incoming / f"{os.getpid()}-00-0"
    for path in (dead, live, same_pid_earlier_life):
        path.write_bytes(b"")

    assert files.clear_incoming() == 2
    assert list(incoming.iterdir()) == [live]


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="data_dir"):
        FileStore(tmp_path / "file" / "data").prepare()


MANY = os.urandom(3 << 20)


def written(files: FileStore, uid: str, content: bytes, step: int) -> IncomingImage:
    image = files.incoming(uid, HEAD)
    for at in range(0, len(content), step):
        image.write(memoryview(content)[at : at + step])
        image.flush()
    return image


@pytest.mark.parametrize("step", [100_000, 300_000, 1 << 20, len(MANY)])
def test_a_digest_is_the_same_whoever_computes_it(files: FileStore, step: int) -> None:
    alone = written(files, "1.2.1", MANY, step)
    assert isinstance(alone._digest, AssistedDigest) == (
        files.digest_helper.is_useful and step >= 1 << 20
    )
    beside = written(files, "1.2.2", MANY, step)
    assert not isinstance(beside._digest, AssistedDigest)
    stored = [one.keep() for one in (alone, beside)]
    for one in (alone, beside):
        one.discard()

    assert {one.sha256 for one in stored} == {hashlib.sha256(MANY).hexdigest()}
    assert not files.in_progress


def test_an_image_given_up_lets_go_of_its_file_when_the_helper_has(files: FileStore) -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for number in range(20):
        written(files, f"1.2.{number}", MANY, 1 << 20).discard()
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before + 1
    assert files.write_image("1.2.3", HEAD, MANY).sha256 == hashlib.sha256(MANY).hexdigest()


def test_memory_is_in_use_for_one_flush_more(files: FileStore) -> None:
    """The receive buffer is two buffers then, taken in turn."""
    image, buffers = files.incoming("1.2.3", HEAD), [bytearray(1 << 20), bytearray(1 << 20)]
    content, expected = [os.urandom(1 << 20) for _ in range(12)], hashlib.sha256()
    for number, block in enumerate(content):
        buffers[number % 2][:] = block
        if number != 7:  # nothing of this buffer belongs to the image
            image.write(memoryview(buffers[number % 2]))
            expected.update(block)
        image.flush()
    assert image.is_holding == files.digest_helper.is_useful
    assert image.keep().sha256 == expected.hexdigest()
    image.discard()


def test_a_digest_that_fails_is_told_and_the_helper_goes_on() -> None:
    helper = DigestHelper()
    failed = AssistedDigest(Digest(), helper)
    failed.add(["no bytes"])  # type: ignore[list-item]
    with pytest.raises(DatabaseError, match="no digest"):
        failed.hexdigest()
    next_one = AssistedDigest(Digest(), helper)
    next_one.add([memoryview(MANY)])
    assert next_one.hexdigest() == hashlib.sha256(MANY).hexdigest()


def test_without_another_thread_the_digest_is_computed_by_the_caller(
    files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert files.write_image("1.2.1", HEAD, MANY).sha256 == hashlib.sha256(MANY).hexdigest()
    assert files.write_image("1.2.2", HEAD, MANY).sha256 == hashlib.sha256(MANY).hexdigest()
    assert not files.in_progress
