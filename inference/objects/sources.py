"""From the headers of source images: what a result object takes over about patient and study.

highdicom is never given these values: it logs a patient's name that it finds odd, and refuses
character sets and values that are legal or at least common. They are put in afterwards, here.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable, Sequence
from datetime import timedelta, timezone
from io import BytesIO
from typing import Final

from pydicom import dcmread
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import PersonName

from ..functional_groups import items

# PS3.3 C.7.1.1, C.7.2.1: Type 2, so present even where the source lacks them.
TYPE_2: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip
_CARRIED: Final = (
    *TYPE_2,
    # C.7.1.1 Patient
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID",
    "OtherPatientIDsSequence", "OtherPatientNames", "PatientBirthTime", "EthnicGroup",
    "PatientComments", "ReferencedPatientSequence", "QualityControlSubject",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson",
    "ResponsiblePersonRole", "ResponsibleOrganization", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    # C.7.1.3 and C.7.2.3 Clinical Trial Subject and Study
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    # C.7.2.1 General Study
    "StudyInstanceUID", "StudyDescription", "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence", "PhysiciansOfRecord", "ConsultingPhysicianName",
    "ReferringPhysicianIdentificationSequence", "ReferencedStudySequence",
    "RequestingService", "NameOfPhysiciansReadingStudy",
    # C.7.2.2 Patient Study
    "AdmittingDiagnosesDescription", "PatientAge", "PatientSize", "PatientWeight", "AdmissionID",
    "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence", "PatientSexNeutered", "Occupation",
    "AdditionalPatientHistory", "ReasonForVisit",
    # C.7.5.1 General Equipment, C.12.1 SOP Common
    "InstitutionName", "TimezoneOffsetFromUTC",
)  # fmt: skip

_NAMES: Final = tuple(keyword for keyword in _CARRIED if dictionary_VR(keyword) == "PN")
# Most images have few of them: to ask by tag costs a tenth of what it costs by keyword.
_TAGS: Final = {keyword: Tag(keyword) for keyword in _CARRIED}

# PS3.3 C.17.2: an item of Referenced Request Sequence; the first group is Type 2.
_REQUEST_TYPE_2: Final = (
    "AccessionNumber", "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest", "RequestedProcedureID",
    "RequestedProcedureDescription", "RequestedProcedureCodeSequence", "ReferencedStudySequence",
)  # fmt: skip
_REQUEST_TYPE_3: Final = (
    "IssuerOfAccessionNumberSequence", "OrderPlacerIdentifierSequence",
    "OrderFillerIdentifierSequence", "ReasonForTheRequestedProcedure",
    "ReasonForRequestedProcedureCodeSequence",
)  # fmt: skip

# PS3.5 6.2: what is worth carrying; a value that breaks its representation is worth nothing.
_FORMS: Final = {
    "DA": re.compile(r"\d{8}"),
    "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "DS": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
}
_SEXES: Final = frozenset({"M", "F", "O"})  # C.7.1.1
_TEXT: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_OFFSET: Final = re.compile(r"([+-])(\d{2})([0-5]\d)")


def identity(
    source: Dataset,
    requested: Sequence[Dataset] = (),
    requested_as: str = "ReferencedRequestSequence",
) -> Dataset:
    """Return what a result object carries over from an image about patient, study and request.

    Type 2 attributes are present even where the source lacks them. Values that break their value
    representation are left out (empty where Type 2); dates in the form of ACR-NEMA are rewritten.
    The source is not changed.

    Parameters
    ----------
    source : Dataset
        The first of the images read.
    requested : sequence of Dataset
        What was requested; the character set must hold its text too.
    requested_as : str
        The sequence that it stands in.
    """
    carried = Dataset()
    for keyword in _CARRIED:
        element = _element(source, keyword)
        if element is not None:
            carried.add(element)
            _mend(carried, keyword)
    if requested:
        setattr(carried, requested_as, list(requested))
    for keyword in TYPE_2:
        if keyword not in carried:
            setattr(carried, keyword, None)
    _add_deidentification(carried)
    if "TimezoneOffsetFromUTC" in carried and zone(carried) is None:
        del carried.TimezoneOffsetFromUTC
    _add_character_set(carried, source)
    return carried


def zone(source: Dataset) -> timezone | None:
    """Return the zone that Timezone Offset From UTC (0008,0201) names, or None."""
    match = _OFFSET.fullmatch(str(source.get("TimezoneOffsetFromUTC") or "").strip())
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    return timezone(offset) if timedelta(hours=-12) <= offset <= timedelta(hours=14) else None


def requests(sources: Iterable[Dataset]) -> list[Dataset]:
    """Return the items of Referenced Request Sequence (0040,A370), each request once.

    They come from Request Attributes Sequence (0040,0275) of the images; what its items leave out
    is taken from the image that holds them.
    """
    found: dict[tuple[str, ...], Dataset] = {}
    for source in sources:
        for request in items(source, "RequestAttributesSequence"):
            # Hundreds of slices name one request: it is made once.
            study = request.get("StudyInstanceUID") or source.StudyInstanceUID
            accession = request.get("AccessionNumber") or source.get("AccessionNumber")
            procedure = request.get("RequestedProcedureID")
            key = tuple(str(value or "") for value in (study, accession, procedure))
            if key not in found:
                found[key] = _request(request, source)
    return list(found.values())


def request_attributes(sources: Iterable[Dataset]) -> list[Dataset]:
    """Return the items of Request Attributes Sequence (0040,0275), each request once.

    That is how images tell their requests, so captures and segmentations take them over as they
    are.
    """
    found: dict[tuple[str, ...], Dataset] = {}
    for source in sources:
        for request in items(source, "RequestAttributesSequence"):
            words = ("AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID")
            key = tuple(str(request.get(word) or "") for word in words)
            if key not in found:
                found[key] = copy.deepcopy(request)
    return list(found.values())


def keep_names(ds: Dataset) -> None:
    """Have the names of a data set just read written as they came, byte for byte.

    A name can be encoded in more than one way (PS3.5 6.1.2.5.3), of which pydicom writes its own.
    Under another character set it is encoded anew.
    """
    for keyword in _NAMES:
        _element(ds, keyword)


def _element(source: Dataset, keyword: str) -> DataElement | None:
    """Return a copy of an element, or None where there is none that can be read."""
    tag = _TAGS[keyword]
    if tag not in source:
        return None
    raw = source.get_item(tag)
    try:
        element = source[tag]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if isinstance(raw, RawDataElement) and isinstance(element.value, PersonName) and element.value:
        element.value.original_string = (raw.value or b"").rstrip(b"\0 ")
    # pydicom falls back to another representation where a value does not fit its own.
    return copy.deepcopy(element) if dictionary_VR(tag) == element.VR else None


def _mend(carried: Dataset, keyword: str) -> None:
    element = carried[keyword]
    text = str(element.value or "").strip()
    if element.VR == "DA" and re.fullmatch(r"\d{4}\.\d{2}\.\d{2}", text):
        text = text.replace(".", "")
        element.value = text
    form = _FORMS.get(element.VR)
    legal = form is None or form.fullmatch(text) is not None
    if keyword == "PatientSex":
        legal = text in _SEXES
    is_bare = not text and element.VR != "SQ" and keyword not in TYPE_2
    if is_bare or (text and not legal):
        del carried[keyword]


def _add_deidentification(carried: Dataset) -> None:
    """Type 1C: an identity that was removed needs a method; some tools leave it empty."""
    told = carried.get("DeidentificationMethod") or carried.get(
        "DeidentificationMethodCodeSequence"
    )
    if carried.get("PatientIdentityRemoved") == "YES" and not told:
        carried.DeidentificationMethod = "Not stated in source"


def _request(request: Dataset, source: Dataset) -> Dataset:
    item = Dataset()
    study = request.get("StudyInstanceUID") or source.StudyInstanceUID
    item.StudyInstanceUID = str(study)
    for keyword in _REQUEST_TYPE_2:
        if keyword in request:
            item.add(copy.deepcopy(request[keyword]))
        else:
            setattr(item, keyword, [] if keyword.endswith("Sequence") else None)
    for keyword in _REQUEST_TYPE_3:
        if request.get(keyword):
            item.add(copy.deepcopy(request[keyword]))
    if not item.AccessionNumber and source.get("AccessionNumber"):
        item.AccessionNumber = source.AccessionNumber
        if source.get("IssuerOfAccessionNumberSequence"):
            item.add(copy.deepcopy(source["IssuerOfAccessionNumberSequence"]))
    return item


def _add_character_set(carried: Dataset, source: Dataset) -> None:
    """Carry the source's character set, or use UTF-8 where text would not survive in it."""
    terms = _terms(source)
    known = all(term in python_encoding for term in terms)
    if not known or not (_is_plain(carried) or _survives(carried, terms)):
        terms = ["ISO_IR 192"]
    if terms:
        carried.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]


def _terms(source: Dataset) -> list[str]:
    """Return the defined terms of (0008,0005); empty for the default repertoire.

    The legal empty first value of a list is written out as ISO 2022 IR 6, which more peers read.
    """
    value = source.get("SpecificCharacterSet")
    listed = [] if value is None else [value] if isinstance(value, str) else list(value)
    terms = [str(term).strip() for term in listed]
    if len(terms) == 1:
        return [] if terms[0] in ("", "ISO_IR 6", "ISO 2022 IR 6") else terms
    return [term or "ISO 2022 IR 6" for term in terms]


def _is_plain(carried: Dataset) -> bool:
    """Tell whether all text is ASCII that no character set replaces, as most is.

    The backslash and the tilde are other signs in ISO_IR 13, and escapes begin another set.
    """
    return all(
        text.isascii() and text.isprintable() and "\\" not in text and "~" not in text
        for _, texts in _texts(carried)
        for text in texts
    )


def _survives(carried: Dataset, terms: list[str]) -> bool:
    """Tell whether a peer reads all text as it was, when it is written in a character set."""
    return _texts(_round_trip(carried, terms)) == _texts(carried)


def _round_trip(carried: Dataset, terms: list[str]) -> Dataset:
    """Return the data set as a peer reads it, when written in a character set."""
    probe = copy.deepcopy(carried)
    if terms:
        probe.SpecificCharacterSet = terms
    file = BytesIO()
    with warnings.catch_warnings():  # an unfit character set is what is asked for here
        warnings.simplefilter("ignore")
        dcmwrite(file, probe, implicit_vr=False, little_endian=True, force_encoding=True)
    file.seek(0)
    back: Dataset = dcmread(file, force=True)
    return back


def _texts(ds: Dataset) -> list[tuple[int, list[str]]]:
    """Return all values that a character set touches (PS3.5 6.1.2.3), without padding."""
    found = []
    for element in ds.iterall():
        if element.VR in _TEXT:
            listed = element.value if isinstance(element.value, MultiValue) else [element.value]
            found.append((int(element.tag), [str(value or "").strip() for value in listed]))
    return found
