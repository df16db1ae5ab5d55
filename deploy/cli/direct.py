"""A worker without typer: the command line of a process whose first result somebody waits for.

Typer and the command that it builds take 35 ms of the start. What a supervisor or a service file
says is understood here; all else, the help and mistakes among it, is left to typer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

_CONFIG, _DATA_DIR, _NUMBER = "--config", "--data-dir", "--number"


def direct(arguments: Sequence[str]) -> Callable[[], None] | None:
    """Return what runs a worker that is asked for in so many words; None for all else.

    Parameters
    ----------
    arguments : sequence of str
        Of the command line, without its name.
    """
    command, *words = arguments or ("",)
    values = dict(zip(words[::2], words[1::2], strict=False))
    if command != "worker" or len(words) != 2 * len(values):
        return None
    if not values.keys() <= {_CONFIG, _DATA_DIR, _NUMBER} or any(map(_is_odd, values.values())):
        return None
    number = values.get(_NUMBER)
    if number is not None and not (number.isascii() and number.isdecimal()):
        return None
    from .. import node

    place = None if number is None else int(number)
    return partial(_worker, node.worker, _path(values, _CONFIG), _path(values, _DATA_DIR), place)


def _is_odd(value: str) -> bool:
    return not value or value.startswith("-")


def _path(values: dict[str, str], option: str) -> Path | None:
    return Path(values[option]) if option in values else None


def _worker(
    run: Callable[[Path | None, Path | None, int | None], int],
    config: Path | None,
    data_dir: Path | None,
    number: int | None,
) -> None:
    sys.exit(int(run(config, data_dir, number)))
