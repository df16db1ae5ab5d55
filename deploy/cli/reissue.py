"""``preread reissue``: results again, for a patient or request that was corrected."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from db import FileStore, create_engine
from db.migrate import check
from inference.number_words import noun, number_of

from .. import logs, settings
from ..errors import DeployError
from .options import Config
from .output import require_unicode


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reissue")(reissue)


def reissue(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the correction.")],
    config: Config = None,
    patient_id: Annotated[str | None, typer.Option(help="Corrected Patient ID.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Corrected Issuer of Patient ID.")] = None,
    patient_name: Annotated[
        str | None, typer.Option(help="Corrected Patient's Name: Family^Given^Middle^Prefix^Suffix")
    ] = None,
    birth_date: Annotated[
        str | None, typer.Option(help="Corrected Patient's Birth Date: YYYYMMDD")
    ] = None,
    sex: Annotated[str | None, typer.Option(help="Corrected Patient's Sex: M, F or O")] = None,
    accession: Annotated[str | None, typer.Option(help="Corrected Accession Number.")] = None,
) -> None:
    """Replace the results of a study after a patient merge or a changed accession number.

    Each result object gets a corrected successor, which goes to the destinations that were to have
    the old one; a report names its predecessor. The old ones are kept and never sent again; a PACS
    that has them keeps them until somebody deletes them there. Later results of the study, and
    v_studies, say what was corrected. Images stay as received. An empty value ("") empties an
    attribute.
    """
    from inference.reissue import reissue_study

    given = {
        "PatientID": patient_id,
        "IssuerOfPatientID": issuer,
        "PatientName": patient_name,
        "PatientBirthDate": birth_date,
        "PatientSex": sex,
        "AccessionNumber": accession,
    }
    attributes = {keyword: value for keyword, value in given.items() if value is not None}
    for text in (study, reason, *attributes.values()):
        require_unicode(text)
    if not attributes:
        raise DeployError("nothing to correct: give --patient-id, --accession or another option")
    loaded = settings.load(config)
    logs.configure(loaded.log, "reissue")  # to standard error: the answer goes to standard output
    engine = create_engine(loaded.db_url)
    check(engine)
    done = reissue_study(
        engine, FileStore(loaded.data_dir), study, attributes, reason, datetime.now().astimezone()
    )
    for one in done:
        print(f"{one.kind} {one.replaced} -> {one.sop_instance_uid}")
    if done:
        old = noun(len(done), "the old one was", "the old ones were")
        print(
            f"{number_of(len(done), 'object')} replaced; where {old} delivered, delete "
            f"{noun(len(done), 'it', 'them')} there"
        )
    else:
        print("no results yet; later ones will be correct")
