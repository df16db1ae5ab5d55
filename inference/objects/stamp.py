"""UIDs and times of result objects, and their bytes.

The UIDs follow from what an object says and from the images it speaks of, never from the time: a
repeated analysis cannot make a second instance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import Final

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_file_meta_info

from . import sources, uids
from .encoding import encoded

# What a digest of the content leaves out: when it was made, and the UIDs made from the digest.
_STAMPED: Final = frozenset(
    {
        "SOPInstanceUID", "SeriesInstanceUID", "InstanceCreationDate", "InstanceCreationTime",
        "SeriesDate", "SeriesTime", "ContentDate", "ContentTime",
    }
)  # fmt: skip
_EVENTS: Final = ("InstanceCreation", "Series", "Content")
# Equipment holds the time too: its item is the device, which the header tells as well.
_NOT_IN_DIGEST: Final = _STAMPED | {"ContributingEquipmentSequence", "PixelData"}


def digest(ds: Dataset, without: Collection[str] = ()) -> str:
    """Return the SHA-256 of all that an object says, whenever it was made.

    Parameters
    ----------
    ds : Dataset
        Built, or read back from its file: both give the same digest.
    without : collection of str
        Keywords of elements that are told by another digest.
    """
    lasting = Dataset()
    for element in ds:
        if element.keyword not in _NOT_IN_DIGEST and element.keyword not in without:
            lasting.add(element)
    found = hashlib.sha256(encoded(lasting))
    if "PixelData" in ds:  # megabytes, hashed where they lie
        found.update(ds.PixelData)
    return found.hexdigest()


def put_uids(
    ds: Dataset, role: str, device_uid: str, inputs: str, content: str, series: str | None = None
) -> None:
    """Put in the SOP and the Series Instance UID.

    Parameters
    ----------
    role : str
        The kind of object.
    device_uid : str
        `uids.device_uid` of the model, weights included.
    inputs : str
        `uids.input_digest` of the images read.
    content : str
        `digest` of the object.
    series : str or None
        Digest of what all objects of the series say; None where each is a series of its own, as
        reports are: time and description belong to the series, and a later report must not
        contradict an earlier one there.
    """
    sop_class = str(ds.SOPClassUID)
    ds.SOPInstanceUID = uids.object_uid(role, sop_class, device_uid, inputs, content)
    ds.SeriesInstanceUID = uids.object_uid(
        f"{role}-series", sop_class, device_uid, inputs, content if series is None else series
    )
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID


def put_times(ds: Dataset, created_at: datetime) -> None:
    """Put in the time, in the zone that the object declares, or in the zone it came with.

    Without a declared zone the dates of the source are local time; `created_at` is taken as given,
    and its offset stands in Contribution DateTime, which is therefore never ambiguous.
    """
    declared = sources.zone(ds)
    when = created_at if declared is None else created_at.astimezone(declared)
    for event in _EVENTS:
        setattr(ds, f"{event}Date", f"{when:%Y%m%d}")
        setattr(ds, f"{event}Time", f"{when:%H%M%S}")
    for item in ds.ContributingEquipmentSequence:
        item.ContributionDateTime = f"{when:%Y%m%d%H%M%S%z}"


def object_bytes(ds: Dataset) -> bytes:
    """Return the Part 10 file of a result object, Explicit VR Little Endian (PS3.10 7)."""
    file = DicomBytesIO()
    with config.disable_value_validation():
        if ds.original_encoding != (None, None):  # read from a file
            dcmwrite(file, ds, enforce_file_format=True)
        else:
            file.is_little_endian, file.is_implicit_VR = True, False
            file.write(bytes(128) + b"DICM")
            write_file_meta_info(file, ds.file_meta)
            file.write(encoded(ds))
    return file.getvalue()
