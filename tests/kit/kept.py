"""Whether a node kept what it acknowledged: bytes, rows, and nothing besides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pydicom
from node_process import Node
from waiting import wait_for


def data_set_of(path: Path) -> bytes:
    """The data set of a DICOM file, found by the group length of its head (PS3.10 Section 7.1).

    Of a file that was cut short, it is something that no instance has.
    """
    content = path.read_bytes()
    if content[128:132] != b"DICM":
        return b"no DICOM file"
    return content[144 + int.from_bytes(content[140:144], "little") :]


def paths_of(node: Node) -> list[str]:
    """Path of every file under ``images/``, relative to the data directory."""
    return [str(path.relative_to(node.data)) for path in (node.data / "images").glob("*/*")]


def files_of(node: Node) -> dict[str, str]:
    """Path and digest of the data set of every file under ``images/``."""
    return {
        path: hashlib.sha256(data_set_of(node.data / path)).hexdigest() for path in paths_of(node)
    }


def assert_files_kept(node: Node, acknowledged: Mapping[str, str]) -> None:
    """Every acknowledged instance has a file with the bytes that were sent; rows may come later."""
    digests: dict[str, set[str]] = {}
    for path, digest in files_of(node).items():
        digests.setdefault(Path(path).name.removesuffix(".dcm"), set()).add(digest)
    lost = [uid for uid, digest in acknowledged.items() if digest not in digests.get(uid, ())]
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged have no file: {lost[:3]}"


def wait_until_indexed(node: Node, acknowledged: Mapping[str, str], seconds: float = 60) -> None:
    """Rows may come after the answer while the database is away."""
    # Not how many: there may be rows of what was never acknowledged.
    rows = "SELECT DISTINCT sop_instance_uid FROM instance"
    wait_for(
        lambda: acknowledged.keys() <= {uid for (uid,) in node.query(rows)}, seconds, "the index"
    )


def assert_kept(node: Node, acknowledged: Mapping[str, str]) -> None:
    """Every acknowledged instance has one row and one file with the bytes that were sent.

    Parameters
    ----------
    acknowledged : mapping of str to str
        SOP Instance UID to SHA-256 of the data set.
    """
    rows = node.query("SELECT sop_instance_uid, sha256, path FROM instance")
    several = [uid for uid, count in Counter(row[0] for row in rows).items() if count > 1]
    assert not several, f"{len(several)} instances with more than one row: {several[:3]}"
    digests = {uid: digest for uid, digest, _ in rows}
    lost = [uid for uid in acknowledged if uid not in digests]
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged have no row: {lost[:3]}"
    wrong = [uid for uid, digest in acknowledged.items() if digests[uid] != digest]
    assert not wrong, f"{len(wrong)} rows with another digest: {wrong[:3]}"
    files = files_of(node)
    damaged = [path for _, digest, path in rows if files.get(path) != digest]
    assert not damaged, f"{len(damaged)} files absent or with other bytes: {damaged[:3]}"


def assert_nothing_besides(node: Node, seconds: float = 30.0) -> None:
    """No file without a row and nothing half written; recovery may still be at it."""

    def strangers() -> set[str]:
        rows = {path for (path,) in node.query("SELECT path FROM instance")}
        return set(paths_of(node)) - rows

    def half_written() -> list[str]:
        return [path.name for path in (node.data / "incoming").iterdir()]

    try:
        wait_for(lambda: not strangers() and not half_written(), seconds, every=0.5)
    except AssertionError:
        found = sorted(strangers())
        raise AssertionError(
            f"{len(found)} files without a row: {found[:3]}; in incoming/: {half_written()[:3]}"
        ) from None


def assert_whole(node: Node) -> None:
    """Also of what was refused no file is cut short; recovery gives it a row after a minute."""
    for path in paths_of(node):
        pydicom.dcmread(node.data / path)  # raises at an end that comes too early


def assert_intact(node: Node) -> None:
    """SQLite finds no fault in its file; on PostgreSQL every row can be read."""
    if node.database_url is None:
        assert node.query("PRAGMA integrity_check") == [("ok",)]
        assert node.query("PRAGMA foreign_key_check") == []
    else:
        for table in ("instance", "series", "study", "association"):
            node.query(f"SELECT * FROM {table}")
