"""Images in the file store and the database, as receiving puts them there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from db import FileStore
from db.ingest import Ingest
from scp.stored import read_stored


def store(ingest: Ingest, files: FileStore, uid: str, content: bytes, **changes: Any) -> None:
    """Keep an image, and its row with these changes.

    Parameters
    ----------
    ingest : Ingest
    files : FileStore
    uid : str
        SOP Instance UID of the image.
    content : bytes
        Of its file (PS3.10).
    """
    cut = 144 + int.from_bytes(content[140:144], "little")
    kept = files.write_image(uid, content[:cut], content[cut:])
    ingest.add(replace(read_stored(files, kept.path, "t" * 32), **changes))
