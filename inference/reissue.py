"""Results made anew after a patient merge or a changed accession number, when a person asks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import pydicom
import sqlalchemy as sa
import structlog
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.errors import InvalidDicomError
from pydicom.valuerep import validate_value

from db import corrections
from db.corrections import CORRECTABLE, CurrentObject
from db.files import FileStore
from db.outcomes import ObjectRecord

from .errors import ReissueError
from .objects import corrected, stamp
from .objects.validate import validate

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reissued:
    """An object and the one that replaces it."""

    kind: str
    replaced: str
    sop_instance_uid: str


def reissue_study(
    engine: sa.Engine,
    files: FileStore,
    study_instance_uid: str,
    attributes: Mapping[str, str],
    reason: str,
    now: datetime,
) -> list[Reissued]:
    """Correct a study and replace its results, in one transaction.

    Parameters
    ----------
    attributes : mapping of str to str
        Corrected values by DICOM keyword, of `db.corrections.CORRECTABLE`.
    reason : str
        Why, for those who read the database later.
    now : datetime
        Aware; Content Date and Time of the new objects.

    Returns
    -------
    list of Reissued
        Empty if the study has no results yet: those to come will be correct.

    Raises
    ------
    ReissueError
        If the study is not known, an attribute cannot be corrected or a file cannot be read;
        nothing was changed.
    ObjectError
        If an object would not pass its check; nothing was changed.
    db.DatabaseError, sqlalchemy.exc.SQLAlchemyError
        If a file or the database is away.
    """
    _require_legal(attributes)
    with engine.connect() as connection:
        if not corrections.is_known(connection, study_instance_uid):
            raise ReissueError(f"study {study_instance_uid} is not known here")
        current = corrections.current_objects(connection, study_instance_uid)
    made = [
        pair
        for _, group in itertools.groupby(current, key=lambda one: one.analysis_id)
        for pair in _make(files, list(group), attributes, now)
    ]
    with engine.begin() as connection:
        corrections.hold(connection, study_instance_uid)
        if corrections.current_objects(connection, study_instance_uid) != current:
            raise ReissueError(f"results of study {study_instance_uid} came meanwhile; try again")
        corrections.correct(connection, study_instance_uid, attributes, reason, now)
        corrections.withhold(connection, study_instance_uid, current)
        for old, record in made:
            corrections.replace(connection, old, record, now)
    done = [Reissued(old.kind, old.sop_instance_uid, new.sop_instance_uid) for old, new in made]
    _log.info(
        "study.reissued",
        study=study_instance_uid,
        attributes=sorted(attributes),
        objects=[one.sop_instance_uid for one in done],
    )
    return done


def _require_legal(attributes: Mapping[str, str]) -> None:
    unknown = sorted(attributes.keys() - CORRECTABLE.keys())
    if unknown or not attributes:
        what = f"{', '.join(unknown)} cannot be corrected" if unknown else "nothing to correct"
        raise ReissueError(f"{what}; what can be: {', '.join(CORRECTABLE)}")
    for keyword, value in attributes.items():
        vr = dictionary_VR(keyword)
        try:
            validate_value(vr, value, RAISE)
        except ValueError:
            # Its own words quote the value, which is a patient's.
            raise ReissueError(f"the new {keyword} is no legal value ({vr})") from None
        if keyword == "PatientSex" and value not in ("", "M", "F", "O"):
            raise ReissueError("the new PatientSex is none of M, F and O")


def _read(files: FileStore, old: CurrentObject) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(files.absolute(old.path))
    except (OSError, InvalidDicomError) as error:
        why = type(error).__name__
        raise ReissueError(
            f"{old.path} cannot be read ({why}): bring it back from a backup"
        ) from None


def _make(
    files: FileStore, olds: list[CurrentObject], attributes: Mapping[str, str], now: datetime
) -> Iterator[tuple[CurrentObject, ObjectRecord]]:
    """Yield the objects of one analysis with what replaces them, already on disk."""
    read = [_read(files, old) for old in olds]
    news = corrected.reissue(read, attributes, now)
    for new in news:
        validate(new)
    for old, new in zip(olds, news, strict=True):
        stored = files.write_result(str(new.SOPInstanceUID), stamp.object_bytes(new))
        yield (
            old,
            ObjectRecord(
                kind=old.kind,
                sop_class_uid=str(new.SOPClassUID),
                sop_instance_uid=str(new.SOPInstanceUID),
                series_instance_uid=str(new.SeriesInstanceUID),
                path=stored.path,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                destinations=(),
            ),
        )
