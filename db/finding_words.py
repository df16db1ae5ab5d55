"""Words of findings, as they stand in the tables. Light: what decodes needs them, and no SQL."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """What a finding speaks of."""

    IMAGE = "image"
    SERIES = "series"
    STUDY = "study"


class Presence(StrEnum):
    """Value of a finding, worded as in CID 240 (PS3.16)."""

    PRESENT = "Present"
    ABSENT = "Absent"
    UNDETERMINED = "Undetermined"
