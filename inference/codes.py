"""Every coded concept that Preread writes, frozen and checked.

Codes are copied from PS3.16 once and never composed at run time: a wrong code that nobody reads
travels for years. SNOMED CT identifiers carry a check digit, so a mistyped one can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from .reading import Code, NotAnalysed, Presence

PRIVATE_SCHEME: Final = "99PREREAD"

# TID 1500 Measurement Report and its observers (TID 1001, 1002, 1004, 1204)
REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
LANGUAGE: Final = Code("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH: Final = Code("en-US", "RFC5646", "English (United States)")
OBSERVER_TYPE: Final = Code("121005", "DCM", "Observer Type")
DEVICE: Final = Code("121007", "DCM", "Device")
DEVICE_UID: Final = Code("121012", "DCM", "Device Observer UID")
DEVICE_NAME: Final = Code("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER: Final = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL: Final = Code("121015", "DCM", "Device Observer Model Name")
DEVICE_SERIAL: Final = Code("121016", "DCM", "Device Observer Serial Number")
PROCEDURE_REPORTED: Final = Code("121058", "DCM", "Procedure reported")
IMAGING_MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
CONCLUSION: Final = Code("121077", "DCM", "Conclusion")
COMMENT: Final = Code("121106", "DCM", "Comment")

# TID 1501 Measurement Group, TID 4019 Algorithm Identification
MEASUREMENT_GROUP: Final = Code("125007", "DCM", "Measurement Group")
TRACKING_IDENTIFIER: Final = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING: Final = Code("121071", "DCM", "Finding")
FINDING_SITE: Final = Code("363698007", "SCT", "Finding Site")
PROBABILITY: Final = Code("122157", "DCM", "Probability")
PERCENT: Final = Code("%", "UCUM", "Percent")
VOLUME: Final = Code("118565006", "SCT", "Volume")
MILLILITRE: Final = Code("ml", "UCUM", "Milliliter")
SOURCE_OF_MEASUREMENT: Final = Code("121112", "DCM", "Source of Measurement")
ALGORITHM_NAME: Final = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION: Final = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_MANUFACTURER: Final = Code("122405", "DCM", "Algorithm Manufacturer")
ALGORITHM_PARAMETERS: Final = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_FAMILY: Final = Code("111000", "DCM", "Algorithm Family")
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")

# TID 1600 Image Library and TID 1602 to 1604, its descriptors
IMAGE_LIBRARY: Final = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP: Final = Code("126200", "DCM", "Image Library Group")
SOURCE: Final = Code("260753009", "SCT", "Source")
MODALITY: Final = Code("121139", "DCM", "Modality")
FRAME_OF_REFERENCE: Final = Code("112227", "DCM", "Frame of Reference UID")
ROWS: Final = Code("110910", "DCM", "Pixel Data Rows")
COLUMNS: Final = Code("110911", "DCM", "Pixel Data Columns")
HORIZONTAL_SPACING: Final = Code("111026", "DCM", "Horizontal Pixel Spacing")
VERTICAL_SPACING: Final = Code("111066", "DCM", "Vertical Pixel Spacing")
SLICE_THICKNESS: Final = Code("112225", "DCM", "Slice Thickness")
ORIENTATION_ROW: Final = Code("111044", "DCM", "Patient Orientation Row")
ORIENTATION_COLUMN: Final = Code("111043", "DCM", "Patient Orientation Column")
POSITION: Final = (
    Code("110901", "DCM", "Image Position (Patient) X"),
    Code("110902", "DCM", "Image Position (Patient) Y"),
    Code("110903", "DCM", "Image Position (Patient) Z"),
)
ORIENTATION: Final = (
    Code("110904", "DCM", "Image Orientation (Patient) Row X"),
    Code("110905", "DCM", "Image Orientation (Patient) Row Y"),
    Code("110906", "DCM", "Image Orientation (Patient) Row Z"),
    Code("110907", "DCM", "Image Orientation (Patient) Column X"),
    Code("110908", "DCM", "Image Orientation (Patient) Column Y"),
    Code("110909", "DCM", "Image Orientation (Patient) Column Z"),
)
PIXELS: Final = Code("{pixels}", "UCUM", "Pixels")
MILLIMETRE: Final = Code("mm", "UCUM", "Millimeter")
COSINE: Final = Code("{-1:1}", "UCUM", "{-1:1}")
MODALITIES: Final[Mapping[str, Code]] = MappingProxyType(  # CID 29
    {
        "CR": Code("CR", "DCM", "Computed Radiography"),
        "CT": Code("CT", "DCM", "Computed Tomography"),
        "DX": Code("DX", "DCM", "Digital Radiography"),
        "MG": Code("MG", "DCM", "Mammography"),
        "MR": Code("MR", "DCM", "Magnetic Resonance"),
        "NM": Code("NM", "DCM", "Nuclear Medicine"),
        "PT": Code("PT", "DCM", "Positron emission tomography"),
        "RF": Code("RF", "DCM", "Radiofluoroscopy"),
        "RG": Code("RG", "DCM", "Radiographic imaging"),
        "US": Code("US", "DCM", "Ultrasound"),
        "XA": Code("XA", "DCM", "X-Ray Angiography"),
    }
)

# CID 240: what a finding is said to be
PRESENCE: Final[Mapping[Presence, Code]] = MappingProxyType(
    {
        Presence.PRESENT: Code("52101004", "SCT", "Present"),
        Presence.ABSENT: Code("272519000", "SCT", "Absent"),
        Presence.UNDETERMINED: Code("373068000", "SCT", "Undetermined"),
    }
)

# CID 100: the imaging procedure that is reported, never the analysis
CT_PROCEDURE: Final = Code("25045-6", "LN", "CT unspecified body region")
IMAGING_PROCEDURE: Final = Code("363679005", "SCT", "Imaging procedure")

# CID 6042 status of results, as CAD reports write it (TID 4015)
SUMMARY_OF_ANALYSES: Final = Code("111065", "DCM", "Summary of Analyses")
NOT_ATTEMPTED: Final = Code("111225", "DCM", "Not Attempted")
# No published code says why images were not analysed; code values are at most 16 characters (SH).
REASON_NOT_ANALYSED: Final = Code("REASON", PRIVATE_SCHEME, "Reason not analyzed")
NOT_ANALYSED: Final[Mapping[NotAnalysed, Code]] = MappingProxyType(
    {
        NotAnalysed.WRONG_VIEW: Code("WRONG_VIEW", PRIVATE_SCHEME, "Wrong view"),
        NotAnalysed.WRONG_BODY_PART: Code("WRONG_BODY_PART", PRIVATE_SCHEME, "Wrong body part"),
        NotAnalysed.WRONG_MODALITY: Code("WRONG_MODALITY", PRIVATE_SCHEME, "Wrong modality"),
        NotAnalysed.TOO_FEW_SLICES: Code("TOO_FEW_SLICES", PRIVATE_SCHEME, "Too few slices"),
        NotAnalysed.MISSING_SLICES: Code("MISSING_SLICES", PRIVATE_SCHEME, "Missing slices"),
        NotAnalysed.DUPLICATE_SLICES: Code("DUPLICATE_SLICES", PRIVATE_SCHEME, "Duplicate slices"),
        NotAnalysed.UNEVEN_SPACING: Code("UNEVEN_SPACING", PRIVATE_SCHEME, "Uneven slice spacing"),
        NotAnalysed.NO_GEOMETRY: Code("NO_GEOMETRY", PRIVATE_SCHEME, "Unknown geometry"),
        NotAnalysed.CONTRAST: Code("CONTRAST", PRIVATE_SCHEME, "Wrong contrast phase"),
        NotAnalysed.KERNEL: Code("KERNEL", PRIVATE_SCHEME, "Wrong reconstruction kernel"),
        NotAnalysed.NOT_AN_IMAGE: Code("NOT_AN_IMAGE", PRIVATE_SCHEME, "Not an image"),
        NotAnalysed.NOT_A_PATIENT: Code("NOT_A_PATIENT", PRIVATE_SCHEME, "Not a patient"),
        NotAnalysed.UNDECODABLE: Code("UNDECODABLE", PRIVATE_SCHEME, "Pixels cannot be decoded"),
        NotAnalysed.UNSUPPORTED_PIXELS: Code(
            "UNSUPP_PIXELS", PRIVATE_SCHEME, "Unsupported pixel format"
        ),
    }
)

# What SR, key objects, captures and segmentations say of each other and of their images
ILLUSTRATION: Final = Code("121200", "DCM", "Illustration of ROI")
OF_INTEREST: Final = Code("113000", "DCM", "Of Interest")  # CID 7010
KEY_OBJECT_DESCRIPTION: Final = Code("113012", "DCM", "Key Object Description")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")
SEGMENTATION: Final = Code("113076", "DCM", "Segmentation")  # CID 7203
ANATOMICAL_STRUCTURE: Final = Code("91723000", "SCT", "Anatomical Structure")  # CID 7150
ABNORMAL_STRUCTURE: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")

PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")

# What the two built-in readers say, and where. 23276006 (intraventricular) is unverified: it is
# written as intracranial hemorrhage with the site brain ventricle.
PNEUMOTHORAX: Final = Code("36118008", "SCT", "Pneumothorax")
PLEURA: Final = Code("3120008", "SCT", "Pleura")
INTRACRANIAL_HEMORRHAGE: Final = Code("1386000", "SCT", "Intracranial hemorrhage")
EPIDURAL_HEMORRHAGE: Final = Code("82999001", "SCT", "Epidural intracranial hemorrhage")
SUBDURAL_HEMORRHAGE: Final = Code("35486000", "SCT", "Subdural intracranial hemorrhage")
SUBARACHNOID_HEMORRHAGE: Final = Code("21454007", "SCT", "Subarachnoid intracranial hemorrhage")
CEREBRAL_HEMORRHAGE: Final = Code("274100004", "SCT", "Cerebral hemorrhage")
INTRACRANIAL: Final = Code("1101003", "SCT", "Intracranial")
BRAIN: Final = Code("12738006", "SCT", "Brain")
BRAIN_VENTRICLE: Final = Code("35764002", "SCT", "Brain ventricle")
SUBARACHNOID_SPACE: Final = Code("35951006", "SCT", "Subarachnoid space")

# What readers of chest radiographs say: PS3.16 has nodule, mass, infiltrate, opacity (CID 6104),
# lesion, pulmonary edema (CID 3700) and pleural effusion; the others are SNOMED CT's own. For
# cardiomegaly CID 12248 has 287272002, which SNOMED CT calls an enlarged septal foramen. Three have
# no code that says as much as the label and no more: theirs are private.
LUNG: Final = Code("39607008", "SCT", "Lung")
HEART: Final = Code("80891009", "SCT", "Heart")
MEDIASTINUM: Final = Code("72410000", "SCT", "Mediastinum")
THORAX: Final = Code("51185008", "SCT", "Thoracic structure")
CHEST_FINDINGS: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "atelectasis": Code("46621007", "SCT", "Atelectasis"),
        "consolidation": Code("95436008", "SCT", "Lung consolidation"),
        "infiltration": Code("112121", "DCM", "Infiltrate"),
        "pneumothorax": PNEUMOTHORAX,
        "edema": Code("19242006", "SCT", "Pulmonary edema"),
        "emphysema": Code("87433001", "SCT", "Pulmonary emphysema"),
        "fibrosis": Code("51615001", "SCT", "Fibrosis of lung"),
        "effusion": Code("60046008", "SCT", "Pleural effusion"),
        "pneumonia": Code("233604007", "SCT", "Pneumonia"),
        "pleural_thickening": Code("PLEURAL_THICKEN", PRIVATE_SCHEME, "Pleural thickening"),
        "cardiomegaly": Code("8186001", "SCT", "Cardiomegaly"),
        "nodule": Code("27925004", "SCT", "Nodule"),
        "mass": Code("4147007", "SCT", "Mass"),
        "hernia": Code("HERNIA", PRIVATE_SCHEME, "Hernia on a chest radiograph"),
        "lung_lesion": Code("52988006", "SCT", "Lesion"),
        "fracture": Code("125605004", "SCT", "Fracture of bone"),
        "lung_opacity": Code("112001", "DCM", "Opacity"),
        "enlarged_cardiomediastinum": Code(
            "ENLARGED_CMED", PRIVATE_SCHEME, "Enlarged cardiomediastinum"
        ),
    }
)
CHEST_SITES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        **dict.fromkeys(CHEST_FINDINGS, LUNG),
        "pneumothorax": PLEURA,
        "effusion": PLEURA,
        "pleural_thickening": PLEURA,
        "cardiomegaly": HEART,
        "hernia": THORAX,
        "fracture": THORAX,
        "enlarged_cardiomediastinum": MEDIASTINUM,
    }
)


# Parts of the body that networks segment (CID 7151, 7192), and what they look for there.
ORGANS: Final = (
    Code("23451007", "SCT", "Adrenal gland"),
    Code("15825003", "SCT", "Aorta"),
    Code("89837001", "SCT", "Bladder"),
    Code("3138006", "SCT", "Bone"),
    BRAIN,
    Code("71854001", "SCT", "Colon"),
    Code("38848004", "SCT", "Duodenum"),
    Code("32849002", "SCT", "Esophagus"),
    Code("71341001", "SCT", "Femur"),
    Code("28231008", "SCT", "Gallbladder"),
    Code("80891009", "SCT", "Heart"),
    Code("29836001", "SCT", "Hip"),
    Code("64131007", "SCT", "Inferior vena cava"),
    Code("64033007", "SCT", "Kidney"),
    Code("10200004", "SCT", "Liver"),
    Code("39607008", "SCT", "Lung"),
    Code("15776009", "SCT", "Pancreas"),
    Code("32764006", "SCT", "Portal vein"),
    Code("41216001", "SCT", "Prostate"),
    Code("113197003", "SCT", "Rib"),
    Code("54735007", "SCT", "Sacrum"),
    Code("30315005", "SCT", "Small intestine"),
    Code("78961009", "SCT", "Spleen"),
    Code("56873002", "SCT", "Sternum"),
    Code("69695003", "SCT", "Stomach"),
    Code("69748006", "SCT", "Thyroid"),
    Code("44567001", "SCT", "Trachea"),
    Code("51282000", "SCT", "Vertebra"),
)
NODULE: Final = Code("27925004", "SCT", "Nodule")
MASS: Final = Code("4147007", "SCT", "Mass")
NEOPLASM: Final = Code("108369006", "SCT", "Neoplasm")


def _table() -> dict[tuple[str, str], str]:
    found: list[Code] = []
    for value in list(globals().values()):
        members: Any = value
        if isinstance(value, Code):
            members = (value,)
        elif isinstance(value, MappingProxyType):
            members = value.values()
        if isinstance(members, tuple) or members is not value:
            found.extend(code for code in members if isinstance(code, Code))
    return {(code.scheme, code.value): code.meaning for code in found}


TABLE: Final[Mapping[tuple[str, str], str]] = MappingProxyType(_table())
"""Meaning by (scheme, value) of every concept above."""

# The dihedral group D5, its permutation of digits by position, and its inverses.
_PRODUCT: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_SHUFFLE: Final = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def verhoeff_ok(identifier: str) -> bool:
    """Tell whether the last digit of a SNOMED CT identifier is its Verhoeff check digit.

    Parameters
    ----------
    identifier : str
        Digits only, 6 to 18 of them; anything else is wrong.
    """
    if not (identifier.isascii() and identifier.isdigit() and 6 <= len(identifier) <= 18):
        return False
    check = 0
    for position, digit in enumerate(reversed(identifier)):
        check = int(_PRODUCT[check][int(_SHUFFLE[position % 8][int(digit)])])
    return check == 0


@lru_cache(maxsize=1024)  # a report says a few dozen codes, each many times
def fault(code: Code) -> str | None:
    """Return what is wrong with a code, or None.

    A code of our table must carry the meaning of the table; a SNOMED CT code must pass its check
    digit; lengths follow the value representations SH and LO (PS3.5 6.2).
    """
    if code.scheme == "SCT" and not verhoeff_ok(code.value):
        return f"({code.value}, SCT) fails its check digit"
    known = TABLE.get((code.scheme, code.value))
    if known is not None and known != code.meaning:
        return f"({code.value}, {code.scheme}) means {known!r}, not {code.meaning!r}"
    if not 0 < len(code.value) <= 16 or not 0 < len(code.scheme) <= 16:
        return f"({code.value}, {code.scheme}) needs a value and a scheme of 1 to 16 characters"
    if not 0 < len(code.meaning) <= 64:
        return f"({code.value}, {code.scheme}) needs a meaning of 1 to 64 characters"
    return None
