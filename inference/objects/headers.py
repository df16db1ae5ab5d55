"""The headers of all images read, checked once, with what every object asks of them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Final

from pydicom.dataset import Dataset

from ..errors import ObjectError
from . import sources, uids

_REQUIRED: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


class Headers(tuple[Dataset, ...]):
    """Headers that can be the sources of a result: of one study and patient, each given once.

    An analysis has up to ten objects, and each of hundreds of headers costs them the same again;
    so what is asked of all of them is asked once. The data sets must not change meanwhile.

    Raises
    ------
    ObjectError
        If they cannot be the sources of one result.
    """

    def __new__(cls, headers: Iterable[Dataset]) -> Headers:
        """Check the headers; return those that were checked already as they are."""
        if isinstance(headers, Headers):
            return headers
        made = super().__new__(cls, headers)
        _require_sources(made)
        return made

    @cached_property
    def uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs, in the order of the headers."""
        return tuple(str(header.SOPInstanceUID) for header in self)

    @cached_property
    def digest(self) -> str:
        """Digest of the images read, as `uids` wants it."""
        return uids.input_digest(self.uids)

    def identity(self, requested_as: str) -> Dataset:
        """Return a new copy of what an object carries over about patient, study and requests.

        Parameters
        ----------
        requested_as : {"RequestAttributesSequence", "ReferencedRequestSequence"}
            The sequence in which this kind of object tells its requests: images and documents
            have different ones.
        """
        if requested_as not in self._identities:
            of_images = requested_as == "RequestAttributesSequence"
            requested = (sources.request_attributes if of_images else sources.requests)(self)
            self._identities[requested_as] = sources.identity(self[0], requested, requested_as)
        return copy.deepcopy(self._identities[requested_as])

    @cached_property
    def _identities(self) -> dict[str, Dataset]:
        return {}


def _require_sources(headers: tuple[Dataset, ...]) -> None:
    if not headers:
        raise ObjectError("a result needs the header of at least one image")
    for number, header in enumerate(headers):
        missing = [keyword for keyword in _REQUIRED if not header.get(keyword)]
        if missing:
            raise ObjectError(f"source {number} lacks {', '.join(missing)}")
    whose = {(str(h.StudyInstanceUID), str(h.get("PatientID") or "")) for h in headers}
    if len(whose) > 1:
        raise ObjectError(f"the sources belong to {len(whose)} studies or patients, not to one")
    counts = Counter(str(header.SOPInstanceUID) for header in headers)
    twice = [uid for uid, count in counts.items() if count > 1]
    if twice:
        raise ObjectError(f"source images are given twice: {', '.join(twice)}")
