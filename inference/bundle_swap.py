"""A folder made anew beside the one that stands there, and put in its place when it is whole.

Light: no torch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def made_anew(folder: Path, written: Collection[str]) -> Iterator[Path]:
    """Give an empty folder to write to; what is written is in `folder` only when all went well.

    Parameters
    ----------
    folder : Path
        Where it shall stand; what is there besides `written` is kept.
    written : collection of str
        Files that will be written or shall be no more, relative, with slashes.

    Yields
    ------
    Path
        Beside `folder`, so that it can be renamed. After an error it is gone and `folder` is as it
        was; a process that is killed leaves a folder whose name begins with a dot.
    """
    target = folder.resolve()  # a link goes on to point to the folder
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        new = beside / "new"
        if target.is_dir():
            shutil.copytree(target, new, symlinks=True, ignore=_leaving_out(target, written))
        else:
            new.mkdir()
        yield new
        if target.is_dir():
            _exchange(target, new, beside / "old")
        else:
            new.rename(target)
    finally:
        shutil.rmtree(beside)


def _exchange(target: Path, new: Path, old: Path) -> None:
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def _leaving_out(
    target: Path, written: Collection[str]
) -> Callable[[str, list[str]], Collection[str]]:
    def left_out(parent: str, names: list[str]) -> Collection[str]:
        below = Path(parent).relative_to(target)
        return [name for name in names if (below / name).as_posix() in written]

    return left_out
