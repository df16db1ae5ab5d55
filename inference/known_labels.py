"""Labels that a network may name and this node has a code for. Light: no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from . import codes
from .reading import Code

# Parts of the body (CID 7151 and others of PS3.16), and what is found in them.
_ANATOMY: Final = codes.ORGANS
_FOUND: Final = (
    codes.PNEUMOTHORAX,
    codes.INTRACRANIAL_HEMORRHAGE,
    codes.EPIDURAL_HEMORRHAGE,
    codes.SUBDURAL_HEMORRHAGE,
    codes.SUBARACHNOID_HEMORRHAGE,
    codes.CEREBRAL_HEMORRHAGE,
    codes.NODULE,
    codes.MASS,
    codes.NEOPLASM,
)


def label_name(text: str) -> str:
    """Return a name as this node writes it: small letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def label_meant(told: str, names: Sequence[str]) -> str:
    """Return which of `names` somebody means: the same, or the one that it is written as.

    Labels of the settings are written small (`label_name`), and who wrote ``D`` there means it by
    ``D`` elsewhere. What is none of them, or could be two, is returned as it was told.
    """
    if told in names:
        return told
    alike = [name for name in names if label_name(name) == label_name(told)]
    return alike[0] if len(alike) == 1 else told


def known_code(name: str) -> Code | None:
    """Return the code of a label by its name, such as ``spleen``; None where nobody knows."""
    return _BY_NAME.get(label_name(name))


def is_anatomy(code: Code) -> bool:
    """Tell whether a code is a part of the body and no abnormality."""
    return code in _ANATOMY


_BY_NAME: Final[Mapping[str, Code]] = {
    label_name(code.meaning): code for code in (*_ANATOMY, *_FOUND)
}
