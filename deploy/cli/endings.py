"""UIDs by their end, as tables print them: a person need not copy sixty digits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from db.query import view

from ..errors import DeployError

FEWEST_DIGITS: Final = 6
_ENDING: Final = re.compile(r"(?:\.\.\.|…)?([0-9.]*[0-9])")
# Of what a UID may be: view, column, and what one and several are called.
Named = tuple[tuple[str, str, str, str], ...]
_NAMED: Final[Named] = (
    ("v_studies", "study_instance_uid", "study", "studies"),
    ("v_objects", "sop_instance_uid", "result object", "result objects"),
)


def whole_uid(connection: sa.Connection, text: str, among: Named = _NAMED) -> str:
    """Return the UID, such as of a study or a result object, that a text is the end of.

    Parameters
    ----------
    connection : Connection
    text : str
        A UID, or its last digits with or without "..." before them. A whole UID of the node is
        itself, even if it ends another.
    among : tuple
        Where it is looked for.

    Returns
    -------
    str
        The UID; what ends none is returned as it is.

    Raises
    ------
    DeployError
        If it ends several; or none, and is too short to be asked for.
    """
    if not text.strip():
        known = _listed([one for _, _, one, _ in among], "or")
        raise DeployError(
            f"nothing is named: give the UID of a {known}, or its last digits "
            f"({FEWEST_DIGITS} or more)"
        )
    match = _ENDING.fullmatch(text)
    if match is None:
        return text
    # Asked first: it is the common case, and an index answers it.
    if any(_uids(connection, name, column, text, whole=True) for name, column, *_ in among):
        return text
    ending = match[1].lstrip(".")
    if sum(map(str.isdigit, ending)) < FEWEST_DIGITS:
        known = _listed([one for _, _, one, _ in reversed(among)], "or")
        raise DeployError(
            f"{text} is no file, and no {known} of this node; of the end of a UID"
            f" at least {FEWEST_DIGITS} digits are needed"
        )
    ended = {several: _uids(connection, name, column, ending) for name, column, _, several in among}
    found = list(dict.fromkeys(uid for uids in ended.values() for uid in uids))
    if len(found) > 1:
        counts = _listed([f"{len(uids)} of {what}" for what, uids in ended.items()], "and")
        raise DeployError(f"{text} ends {len(found)} UIDs of this node, {counts}: give more digits")
    return found[0] if found else text


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _uids(
    connection: sa.Connection, name: str, column: str, text: str, *, whole: bool = False
) -> list[str]:
    uid = view(name).c[column]
    meant = uid == text if whole else uid.endswith(text, autoescape=True)
    return [
        str(one) for one in connection.execute(sa.select(uid).where(meant).distinct()).scalars()
    ]
