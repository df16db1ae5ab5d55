"""What a data set says of itself: the attributes that identify, sort and describe it.

They are read straight from the walk over the encoded bytes, because decoding the data set into
objects costs several times as much as receiving it. Text is decoded with the data set's own
Specific Character Set (PS3.3 C.12.1.1.2) and cut to what its column holds; values that make no
sense become None. Only the UIDs decide whether an instance is kept.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pynetdicom import AllStoragePresentationContexts

from .errors import IdentityError
from .structure import tag_text, walk

CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
STUDY_DATE = 0x00080020
ACCESSION_NUMBER = 0x00080050
MODALITY = 0x00080060
STUDY_DESCRIPTION = 0x00081030
SERIES_DESCRIPTION = 0x0008103E
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
PATIENT_BIRTH_DATE = 0x00100030
PATIENT_SEX = 0x00100040
BODY_PART = 0x00180015
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
SERIES_NUMBER = 0x00200011
INSTANCE_NUMBER = 0x00200013

WANTED = frozenset(
    {
        CHARACTER_SET,
        SOP_CLASS_UID,
        SOP_INSTANCE_UID,
        STUDY_DATE,
        ACCESSION_NUMBER,
        MODALITY,
        STUDY_DESCRIPTION,
        SERIES_DESCRIPTION,
        PATIENT_NAME,
        PATIENT_ID,
        PATIENT_BIRTH_DATE,
        PATIENT_SEX,
        BODY_PART,
        STUDY_INSTANCE_UID,
        SERIES_INSTANCE_UID,
        SERIES_NUMBER,
        INSTANCE_NUMBER,
    }
)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_DATE = re.compile(r"(\d{4})[.]?(\d{2})[.]?(\d{2})", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,12}", re.ASCII)
_UID_NAMES = {
    SOP_CLASS_UID: "SOP Class UID",
    SOP_INSTANCE_UID: "SOP Instance UID",
    STUDY_INSTANCE_UID: "Study Instance UID",
    SERIES_INSTANCE_UID: "Series Instance UID",
}
# Storage SOP classes that belong to a patient (PS3.4 Section B.5). All others, private and unknown
# ones and those that belong to none (Annex GG), may have no study.
_PATIENT_CLASSES = frozenset(str(one.abstract_syntax) for one in AllStoragePresentationContexts)
# Bytes at which a switched character set falls back to the first one (PS3.5 6.1.2.5.3).
_TEXT_RESETS = frozenset(b"\r\n\t\f")
_NAME_RESETS = frozenset(b"^=")
# The codecs of the defined terms (PS3.3 C.12.1.1.2). pydicom takes any other codec of Python's too,
# also ones that are no character sets, like punycode, whose time grows with the square of the text.
_SPELLING = re.compile(r"ISO[ _-]?(2022[ _-])?IR[ _-]?(\d+)", re.ASCII | re.IGNORECASE)
_TERMS = frozenset(python_encoding)
# There are not so many of the ISO 2022 ones.
_MOST_CHARACTER_SETS = 16
_CODECS = frozenset(codecs.lookup(name).name for name in python_encoding.values())


@dataclass(slots=True)  # not frozen: one is made for every image, and freezing is slow
class Header:
    """Identifying attributes of one instance; absent or senseless ones are None.

    Objects that belong to no patient have neither Study nor Series Instance UID.
    """

    study_instance_uid: str | None
    series_instance_uid: str | None
    sop_instance_uid: str
    sop_class_uid: str
    patient_id: str | None
    patient_name: str | None
    patient_birth_date: str | None
    patient_sex: str | None
    accession_number: str | None
    study_date: str | None
    study_description: str | None
    modality: str | None
    series_number: int | None
    series_description: str | None
    body_part: str | None
    instance_number: int | None


def is_uid(text: str) -> bool:
    """Tell whether `text` is a UID: digits and dots, at most 64 (PS3.5 Section 9.1).

    Leading zeros in a component are let pass: old equipment makes them, and they do no harm.
    """
    return len(text) <= 64 and _has_form_of_uid(text)


@lru_cache(maxsize=1024)  # of an image's four, three are those of its series
def _has_form_of_uid(text: str) -> bool:
    return _UID.fullmatch(text) is not None


def read_header(
    data: bytes | memoryview, transfer_syntax_uid: str, size: int | None = None
) -> Header:
    """Walk a data set to its end and return what identifies it.

    Parameters
    ----------
    data : bytes
        The data set, or its beginning if `size` is given.
    transfer_syntax_uid : str
    size : int or None
        Size of the whole data set in bytes.

    Raises
    ------
    BeyondError
        If `data` is the beginning only and does not suffice.
    StructureError
        If the data set is truncated or is none.
    IdentityError
        If one of the four identifying UIDs is absent or is no UID. Only an object of a class that
        is not known to belong to a patient may lack Study and Series Instance UID.
    """
    values = walk(data, transfer_syntax_uid, WANTED, size).values
    text = _Text(values)
    sop_class_uid = _uid(values, SOP_CLASS_UID)
    study_instance_uid, series_instance_uid = _study_and_series(values, sop_class_uid)
    return Header(
        study_instance_uid=study_instance_uid,
        series_instance_uid=series_instance_uid,
        sop_instance_uid=_uid(values, SOP_INSTANCE_UID),
        sop_class_uid=sop_class_uid,
        patient_id=text(PATIENT_ID, 256),
        patient_name=text(PATIENT_NAME, 1024, _NAME_RESETS),
        patient_birth_date=_date(values, PATIENT_BIRTH_DATE),
        patient_sex=text(PATIENT_SEX, 16),
        accession_number=text(ACCESSION_NUMBER, 64),
        study_date=_date(values, STUDY_DATE),
        study_description=text(STUDY_DESCRIPTION, 1024),
        modality=text(MODALITY, 16),
        series_number=_integer(values, SERIES_NUMBER),
        series_description=text(SERIES_DESCRIPTION, 1024),
        body_part=text(BODY_PART, 64),
        instance_number=_integer(values, INSTANCE_NUMBER),
    )


class _Text:
    """Decodes text values of one data set."""

    def __init__(self, values: Mapping[int, bytes]) -> None:
        self._values = values
        self._encodings = _encodings(values.get(CHARACTER_SET, b""))

    def __call__(self, tag: int, limit: int, resets: frozenset[int] = _TEXT_RESETS) -> str | None:
        raw = self._values.get(tag)
        return _decoded(raw, self._encodings, limit, resets) if raw else None


# The images of a series, and of a study, have nearly all texts in common.
@lru_cache(maxsize=1024)
def _decoded(
    raw: bytes, encodings: tuple[str, ...], limit: int, resets: frozenset[int]
) -> str | None:
    try:
        decoded = decode_bytes(raw, encodings, set(resets))
    except (ValueError, LookupError):
        decoded = raw.decode("latin-1")
    # PostgreSQL refuses NUL inside text, and senders pad with it.
    decoded = decoded.replace("\0", " ").strip()
    text = decoded[:limit].rstrip()
    # Component groups that a sender left empty at the end of a name mean nothing (PS3.5 6.2.1).
    while resets is _NAME_RESETS and text.endswith("="):
        text = text.rstrip("=").rstrip()
    return text or None


@lru_cache(maxsize=64)
def _encodings(specific_character_set: bytes) -> tuple[str, ...]:
    """Python codecs for a Specific Character Set; what is unknown is read as Latin-1."""
    text = specific_character_set.decode("ascii", "replace")
    terms = [term.strip(" \0") for term in text.split("\\")[:_MOST_CHARACTER_SETS]]
    terms = [_defined(term) for term in terms]
    try:
        names = convert_encodings(terms)
    except (LookupError, ValueError):  # ValueError: NUL inside a term
        return ("latin_1",)
    return tuple(name if codecs.lookup(name).name in _CODECS else "latin_1" for name in names)


def _defined(term: str) -> str:
    """Return a defined term as it is written (PS3.3 C.12.1.1.2), empty if it is none.

    pydicom would warn of one that is not known, with its text.
    """
    spelt = _SPELLING.sub(lambda found: f"ISO{' 2022 IR' if found[1] else '_IR'} {found[2]}", term)
    return spelt if spelt in _TERMS else ""


def _plain(values: Mapping[int, bytes], tag: int) -> str:
    return values.get(tag, b"").decode("ascii", "replace").strip(" \0")


def _uid(values: Mapping[int, bytes], tag: int) -> str:
    uid = _plain(values, tag)
    if not uid:
        raise IdentityError(f"no {_UID_NAMES[tag]} {tag_text(tag)}", tag)
    if not is_uid(uid):
        raise IdentityError(f"{_UID_NAMES[tag]} {tag_text(tag)} is no UID", tag)
    return uid


def _study_and_series(
    values: Mapping[int, bytes], sop_class_uid: str
) -> tuple[str, str] | tuple[None, None]:
    present = [_plain(values, tag) != "" for tag in (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)]
    if sop_class_uid not in _PATIENT_CLASSES and not all(present):
        return None, None
    return _uid(values, STUDY_INSTANCE_UID), _uid(values, SERIES_INSTANCE_UID)


def _date(values: Mapping[int, bytes], tag: int) -> str | None:
    found = _DATE.fullmatch(_plain(values, tag))
    return "".join(found.groups()) if found else None


def _integer(values: Mapping[int, bytes], tag: int) -> int | None:
    text = _plain(values, tag)
    return int(text) if _INTEGER.fullmatch(text) else None
