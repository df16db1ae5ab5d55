"""Images that are sent without being written first."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from scp.requestor import Context


class InMemory:
    """An image that is not on disk, as `store_each` wants it."""

    def __init__(self, image: Dataset) -> None:
        self.context = Context(image.SOPClassUID, "1.2.840.10008.1.2.1")
        self.sop_instance_uid = image.SOPInstanceUID
        self._image = image

    def data_set(self) -> bytes:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_dataset(buffer, self._image)
        return bytes(buffer.getvalue())
