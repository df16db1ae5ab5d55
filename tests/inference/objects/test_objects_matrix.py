"""Every object of an analysis, from every kind of source, before the validators of the field."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from read_sources import (
    ABSENT,
    CREATED_AT,
    REPORTS,
    UNDETERMINED,
    Made,
    files_of,
    raw_name,
    read,
    refused,
    terms,
)
from varied_sources import SCRIPTS, SOURCES, VariedSource, make_source

from inference.objects import object_bytes, stamp, validate
from inference.objects.sources import TYPE_2
from inference.result_objects import make_objects

IDENTITY = (
    *TYPE_2, "StudyInstanceUID", "IssuerOfPatientID", "IssuerOfAccessionNumberSequence",
    "StudyDescription", "TimezoneOffsetFromUTC",
)  # fmt: skip


@pytest.fixture(scope="module", params=list(SOURCES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return the objects of each kind of source in turn."""
    source = make_source(request.param, tmp_path_factory.mktemp("sources"))
    return Made(source, read(source))


@pytest.mark.peer
def test_the_validators_find_nothing(made: Made, validators: Any, tmp_path: Path) -> None:
    pictures = len(made.basis.reading.illustrations) if made.basis.reading else 0
    wanted = {"seg", *REPORTS, *(f"sc{number}" for number in range(1, pictures + 1))}
    assert set(made.files) == wanted | ({"ko"} if made.source.is_ct else set())
    validators.check_objects(made.files, made.source.files, tmp_path)


def test_what_is_read_back_passes_our_own_check(made: Made) -> None:
    read_images = [str(source.SOPInstanceUID) for source in made.basis.sources]
    for stored in made.stored.values():
        validate(stored, read=read_images)


def test_the_name_survives(made: Made) -> None:
    """Byte for byte where the source's character set holds all that is carried."""
    own, name = raw_name(made.source.files[0]), str(made.image.get("PatientName") or "")
    kept = terms(made.image)
    for kind, stored in made.stored.items():
        if terms(stored) == kept:
            assert raw_name(BytesIO(made.files[kind])) == own, kind
        else:
            assert terms(stored) == ["ISO_IR 192"], kind
        assert str(stored.PatientName or "") == name, kind
    if made.source.name.removeprefix("name in ") in SCRIPTS:
        assert {tuple(terms(stored)) for stored in made.stored.values()} == {tuple(kept)}


def test_patient_study_and_request_survive(made: Made) -> None:
    requests = list(made.image.get("RequestAttributesSequence") or ())
    for kind, stored in made.stored.items():
        for keyword in IDENTITY:
            found, own = stored.get(keyword), made.image.get(keyword)
            assert found == own or (not found and not own), f"{kind}: {keyword}"
            assert keyword in stored or keyword not in TYPE_2, f"{kind}: {keyword}"
        if kind.startswith("s") and kind not in REPORTS:
            assert list(stored.get("RequestAttributesSequence") or ()) == requests, kind
            continue
        told = list(stored.get("ReferencedRequestSequence") or ())
        assert len(told) == len(requests), kind
        for item, request in zip(told, requests, strict=True):
            assert item.RequestedProcedureID == request.get("RequestedProcedureID")
            assert item.AccessionNumber == made.image.AccessionNumber
            assert item.get("IssuerOfAccessionNumberSequence") == made.image.get(
                "IssuerOfAccessionNumberSequence"
            )


def test_times_are_in_the_zone_that_is_declared(made: Made) -> None:
    zone = stamp.sources.zone(made.image)
    when = CREATED_AT if zone is None else CREATED_AT.astimezone(zone)
    assert (zone is not None) == bool(made.image.get("TimezoneOffsetFromUTC"))
    for kind, stored in made.stored.items():
        for event in ("InstanceCreation", "Series", "Content"):
            assert stored[f"{event}Date"].value == f"{when:%Y%m%d}", kind
            assert stored[f"{event}Time"].value == f"{when:%H%M%S}", kind
        (item,) = stored.ContributingEquipmentSequence
        assert item.ContributionDateTime == f"{when:%Y%m%d%H%M%S%z}", kind


def test_another_time_changes_nothing_but_the_times(made: Made) -> None:
    before = copy.deepcopy(made.basis.sources)
    later = replace(made.basis, created_at=CREATED_AT + timedelta(days=40, hours=3))
    first = [name for name in made.files if name not in REPORTS[1:]]
    again = [one.dataset for one in make_objects(later).made]
    for name, ds in zip(first, again, strict=True):
        assert ds.SOPInstanceUID == made.stored[name].SOPInstanceUID, name
        assert ds.SeriesInstanceUID == made.stored[name].SeriesInstanceUID, name
        assert object_bytes(ds) != made.files[name], name
        stamp.put_times(ds, CREATED_AT)
        assert object_bytes(ds) == made.files[name], name
    assert made.basis.sources == before


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.timeout(900)
def test_the_template_validator_finds_nothing(made: Made, validators: Any, tmp_path: Path) -> None:
    for name in {"sr", "ko"} & made.files.keys():
        validators.assert_template(made.files[name], tmp_path / f"{name}.dcm")


@pytest.mark.peer
@pytest.mark.parametrize("name", ["dx", "ct of GE"])
@pytest.mark.parametrize("probability", [ABSENT, UNDETERMINED])
def test_findings_that_are_not_present(
    name: str, probability: float, validators: Any, tmp_path: Path
) -> None:
    source = make_source(name, tmp_path)
    files = files_of(make_objects(read(source, probability)))
    assert set(files) == {"sc1", *REPORTS}
    validators.check_objects(files, source.files, tmp_path)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["ct of GE", "name in korean", "enhanced ct"])
def test_what_was_not_analysed(name: str, validators: Any, tmp_path: Path) -> None:
    source = make_source(name, tmp_path)
    basis = refused(source, "missing_slices", "3 of 28 slices are missing")
    files = files_of(make_objects(basis))
    assert set(files) == {"sc1", *REPORTS}
    validators.check_objects(files, source.files, tmp_path)


# PS3.5 H.3 and I.2 as they stand there, and with escapes that are legal and need not be.
FOREIGN = {
    "japanese": (
        ["", "ISO 2022 IR 87"],
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "japanese with more escapes": (
        ["", "ISO 2022 IR 87"],
        b"\x1b(BYamada^Tarou=\x1b$B;3\x1b$BED\x1b(B^\x1b(B\x1b$BB@O:\x1b(B",
    ),
    "katakana": (
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
    ),
    "korean": (
        ["", "ISO 2022 IR 149"],
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_names_that_others_encoded_survive(case: str, tmp_path: Path) -> None:
    character_set, name = FOREIGN[case]
    (path,) = make_source("secondary capture", tmp_path).files
    ds, name = dcmread(path), name + b" " * (len(name) % 2)
    ds.SpecificCharacterSet, ds.PatientName = character_set, "X" * len(name)
    ds.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"X" * len(name), name))
    for kind, data in files_of(make_objects(read(VariedSource(case, (path,))))).items():
        assert raw_name(BytesIO(data)) == name, kind


def test_another_process_makes_the_same_bytes(tmp_path: Path) -> None:
    """The order of sets differs from process to process: no byte may depend on it."""
    source = make_source("ct of GE", tmp_path)
    here = digests(source)
    program = (
        "import hashlib, json, sys; from pathlib import Path\n"
        "from inference.result_objects import make_objects\n"
        "from read_sources import files_of, read; from varied_sources import VariedSource\n"
        "source = VariedSource('x', tuple(map(Path, sys.argv[1:])))\n"
        "made = files_of(make_objects(read(source)))\n"
        "print(json.dumps({n: hashlib.sha256(d).hexdigest() for n, d in made.items()}))\n"
    )
    places = [str(Path(__file__).parents[2] / "kit"), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, source.files)],
        env=os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == here


def digests(source: VariedSource) -> dict[str, str]:
    files = files_of(make_objects(read(source)))
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
