"""Memory in pages of 2 MiB, for processes that run networks.

A pass through a network and the picture before it touch some ten megabytes, for which the processor
keeps no addresses of 4 KiB pages at hand; in a virtual machine each is looked up twice. With large
ones a CT slice was measured to take 7 % less, and 26 % less while neighbours of the machine slow
its memory (`deploy/docs/inference_benchmark.md`). Where the kernel gives them to who asks
(``madvise``) glibc asks for all of its heap if a tunable says so, which it reads once, when a
process begins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_VARIABLE = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"
# Of glibc: older ones do not know the tunable.
_FIRST = (2, 35)
# How the command line is begun (pyproject.toml, `deploy/__main__.py`).
_SCRIPT, _MODULE = "preread", "deploy"
_BEGUN_AGAIN = "BEGUN_AGAIN_BY_PREREAD"
_MODE = "sys/kernel/mm/transparent_hugepage/enabled"


def for_huge_pages(environment: Mapping[str, str], root: Path = Path("/")) -> dict[str, str]:
    """Return what to add to the environment of a process that begins.

    Parameters
    ----------
    environment : mapping of str to str
        Its environment. Who names the tunable there has decided: nothing is added.
    root : Path
        Where ``/sys`` lies.

    Returns
    -------
    dict of str to str
        Empty where the kernel gives large pages to nobody, or to everybody.
    """
    given = environment.get(_VARIABLE, "")
    if _TUNABLE in given or not (_asks_are_heard(root) and _glibc() >= _FIRST):
        return {}
    return {_VARIABLE: f"{given}:{_TUNABLE}=1".lstrip(":")}


def begin_again_for_huge_pages(arguments: Sequence[str]) -> None:
    """Begin the command line again with large pages, under the same process id, if that helps.

    Before threads, files or sockets are there. Once and no more, whatever becomes of the variable:
    glibc erases it where a program has more rights than who began it.

    Parameters
    ----------
    arguments : sequence of str
        Of the command line. Where another program uses it, that goes on as it is.
    """
    is_again = os.environ.pop(_BEGUN_AGAIN, None) is not None
    added = for_huge_pages(os.environ)
    if is_again or not added or not sys.executable or not _is_the_program(arguments):
        return
    environment = {**os.environ, **added, _BEGUN_AGAIN: "1"}
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - this very program
    except (OSError, ValueError):
        return  # as it is, then: slower


def _is_the_program(arguments: Sequence[str]) -> bool:
    """Tell whether Python was begun for the command line alone, as ``preread`` or a module."""
    count = len(sys.orig_argv) - len(arguments)
    before = sys.orig_argv[1 : max(count, 1)]
    if sys.orig_argv[count:] != list(arguments) or not before:
        return False
    is_script = before[-1] == sys.argv[0] and Path(sys.argv[0]).name == _SCRIPT
    return is_script or before[-2:] == ["-m", _MODULE]


def _asks_are_heard(root: Path) -> bool:
    try:
        return "[madvise]" in (root / _MODE).read_text()
    except OSError:
        return False


def _glibc() -> tuple[int, ...]:
    """Return the version of glibc; (0,) where there is another C library."""
    try:
        told = os.confstr("CS_GNU_LIBC_VERSION") or ""
        return tuple(int(one) for one in told.removeprefix("glibc ").split("."))
    except (AttributeError, OSError, ValueError):
        return (0,)
