"""What of a header may be shown to whoever did not ask who the patient is. Light: no torch.

An attribute is shown if its place in the dictionary says that it is about the image, and its value
if it has the form that such an attribute has: a name in Modality is not shown either.
"""

from __future__ import annotations

import re

from pydicom.datadict import dictionary_VR

# What stands for a value of another form than the attribute has.
HIDDEN = "?"
# Patients, trials, requests, visits, procedures, interpretations, and signatures.
_GROUPS = frozenset({0x0010, 0x0012, 0x0032, 0x0038, 0x0040, 0x0400, 0x4008})
# Names, moments, free text of any length, addresses of nodes, and bytes.
_VRS = frozenset(
    {"PN", "DA", "DT", "TM", "LT", "ST", "UT", "UC", "UR", "AE",
     "UN", "OB", "OD", "OF", "OL", "OV", "OW"}
)  # fmt: skip
# Words of a line are free text too: only the technique of an image, and these, are about it.
_WORDS = ("LO", "SH")
_TECHNIQUE = 0x0018
_ABOUT_IMAGES = frozenset(
    {"Manufacturer", "ManufacturerModelName", "SeriesDescription", "StudyDescription"}
)
# Endings of attributes by which one device, and so one patient, can be found; and UIDs that are of
# kinds of things. The UID of the image itself stands in every table.
_FINDS = ("ID", "IDs", "Identifier", "SerialNumber", "Comments", "Location")
_UIDS = ("ClassUID", "TransferSyntaxUID", "SOPInstanceUID")

_CODE = re.compile(r"[A-Z0-9_ ]{0,16}")
# The competition of RSNA 2019 has its own SOP Instance UIDs.
_UID = re.compile(r"(?=.{1,64}\Z)(\d+(\.\d+)+|ID_[0-9a-f]{9})")
_AGE = re.compile(r"\d{3}[DWMY]")
_ITEMS = re.compile(r"\d+ items")


def names_somebody(tag: int, keyword: str) -> bool:
    """Return whether an attribute may identify the patient, as its place says."""
    vr = dictionary_VR(tag).split(" or ")
    if tag >> 16 in _GROUPS or not _VRS.isdisjoint(vr):
        return True
    if "UI" in vr:
        return not keyword.endswith(_UIDS) or keyword.startswith("Referenced")
    if vr[0] not in _WORDS:
        return False
    about = tag >> 16 == _TECHNIQUE or keyword in _ABOUT_IMAGES
    return not about or keyword.endswith(_FINDS)


def of_form(value: str | int | float | None, vr: str) -> str | int | float | None:
    """Return a cell if each of its values has the form of its VR (PS3.5 6.2), else `HIDDEN`.

    Parameters
    ----------
    value : str, int, float or None
        Several values are joined by a backslash.
    vr : str
        Of the dictionary, whatever the file says.
    """
    if not isinstance(value, str):
        return value
    parts = value.split("\\")
    return value if all(_has_form(one.strip(), vr) for one in parts) else HIDDEN


def uid_shown(value: str) -> str:
    """Return a UID, or `HIDDEN` for what is none; nothing for nothing."""
    return str(of_form(value, "UI"))


def _has_form(value: str, vr: str) -> bool:
    if not value:
        return True
    if vr in _WORDS:
        return "^" not in value
    if vr in ("CS", "UI", "AS", "SQ"):
        form = {"CS": _CODE, "UI": _UID, "AS": _AGE, "SQ": _ITEMS}[vr]
        return form.fullmatch(value) is not None
    try:
        float(value)
    except ValueError:
        return False
    return True
