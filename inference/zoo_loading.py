"""Which axis of a picture MONAI's readers put first, by what ``LoadImage`` says. Light: no torch.

By default all of them have columns first. What turns that off differs: `PILReader` has columns
first where its ``reverse_indexing`` is true, `ITKReader` where it is false.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .zoo_config import Configuration

# By reader: the argument that says which axis is first, and its value for pictures as stored.
_STORED: Mapping[str, tuple[str, bool]] = {
    "PILReader": ("reverse_indexing", False),
    "ITKReader": ("reverse_indexing", True),
    "PydicomReader": ("swap_ij", False),
    "NvImgCodecPydicomReader": ("swap_ij", False),
}
_SAID = ("reverse_indexing", "swap_ij")
# MONAI takes the names of its own readers in any case.
_NAMES = {name.lower(): name for name in _STORED}
_HARMLESS = ("_target_", "_desc_", "_requires_")


def told_loading(
    config: Configuration, definition: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return what a definition of ``LoadImage`` says of axes, as plain values.

    A reader that cannot be told without running code stays as it is written: it matters to a
    picture, to no volume.

    Parameters
    ----------
    config : Configuration
    definition : mapping
        With ``_target_``.
    where : str
        Its place in the configuration.

    Raises
    ------
    ValueError
        If anything but the reader cannot be told; the message names the place.
    """
    kept = {key: value for key, value in definition.items() if key in ("_target_", "keys", *_SAID)}
    told: dict[str, Any] = config.plain(kept, where)
    if "reader" in definition:
        told["reader"] = _told(config, definition["reader"], f"{where}#reader")
    return told


def columns_first(given: Mapping[str, Any]) -> bool:
    """Tell whether a network is given pictures with their columns as first axis.

    Parameters
    ----------
    given : mapping
        Arguments of ``LoadImage`` as `told_loading` returns them.

    Raises
    ------
    ValueError
        If that depends on the file, or the reader is none that is known; the message names it.
    """
    named = given.get("reader")
    readers = named if isinstance(named, list) else [] if named is None else [named]
    if not readers:
        # MONAI takes another reader for each kind of file.
        said = {key: given[key] for key in _SAID if key in given}
        if turned := [key for key, value in said.items() if (key, value) != ("swap_ij", True)]:
            raise ValueError(
                f"its {turned[0]} means something else for each reader, and it names none "
                f"({', '.join(_STORED)})"
            )
        return True
    found = {_columns_first(reader, given) for reader in readers}
    if len(found) > 1:
        raise ValueError("its readers differ in which axis of a picture comes first")
    return found.pop()


def _columns_first(reader: Any, given: Mapping[str, Any]) -> bool:
    if isinstance(reader, Mapping):
        # A reader with arguments of its own is given none of those beside it.
        if odd := [key for key in reader if key.startswith("_") and key not in _HARMLESS]:
            raise ValueError(f"its reader has {', '.join(sorted(odd))}")
        reader, given = reader.get("_target_"), reader
    module, _, short = reader.rpartition(".") if isinstance(reader, str) else ("", "", "")
    name = _NAMES.get(short.lower())
    if name is None or (module and not module.startswith("monai.")):
        raise ValueError(f"its reader {reader!r} is none of {', '.join(_STORED)}")
    argument, stored = _STORED[name]
    value = given.get(argument, not stored)
    if not isinstance(value, bool):
        raise ValueError(f"its {argument} is {value!r}, not true or false")
    return value is not stored


def _told(config: Configuration, reader: Any, where: str) -> Any:
    if isinstance(reader, list):
        return [_told(config, one, f"{where}#{n}") for n, one in enumerate(reader)]
    if isinstance(reader, Mapping):
        # What it does to colours, such as $lambda image: image.convert('L'), says nothing of axes.
        reader = {k: v for k, v in reader.items() if k in _SAID or str(k).startswith("_")}
    try:
        return config.plain(reader, where)
    except ValueError:
        return reader
