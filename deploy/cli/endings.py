"""UIDs by their end, as tables print them: a person need not copy sixty digits."""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sa

from db.query import view

from ..errors import DeployError

FEWEST_DIGITS: Final = 6
_ENDING: Final = re.compile(r"(?:\.\.\.|…)?([0-9.]*[0-9])")
_NAMED: Final = (("v_studies", "study_instance_uid"), ("v_objects", "sop_instance_uid"))


def whole_uid(connection: sa.Connection, text: str) -> str:
    """Return the UID of a study or a result object that a text is the end of.

    Parameters
    ----------
    connection : Connection
    text : str
        A UID, or its last digits with or without "..." before them. A whole UID of the node is
        itself, even if it ends another.

    Returns
    -------
    str
        The UID; what ends none is returned as it is.

    Raises
    ------
    DeployError
        If it ends several; or none, and is too short to be asked for.
    """
    match = _ENDING.fullmatch(text)
    if match is None:
        return text
    # Asked first: it is the common case, and an index answers it.
    if any(_uids(connection, *named, text, whole=True) for named in _NAMED):
        return text
    ending = match[1].lstrip(".")
    if sum(map(str.isdigit, ending)) < FEWEST_DIGITS:
        raise DeployError(
            f"{text} is no file, and no result object or study of this node; of the end of a UID"
            f" at least {FEWEST_DIGITS} digits are needed"
        )
    studies, objects = (_uids(connection, *named, ending) for named in _NAMED)
    found = studies + objects
    if len(found) > 1:
        raise DeployError(
            f"{text} ends {len(found)} UIDs of this node, {len(studies)} of studies and"
            f" {len(objects)} of result objects: give more digits"
        )
    return found[0] if found else text


def _uids(
    connection: sa.Connection, name: str, column: str, text: str, *, whole: bool = False
) -> list[str]:
    uid = view(name).c[column]
    meant = uid == text if whole else uid.endswith(text, autoescape=True)
    return [
        str(one) for one in connection.execute(sa.select(uid).where(meant).distinct()).scalars()
    ]
