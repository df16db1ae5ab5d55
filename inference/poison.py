"""Images that a network cannot be carried out on: the others of their batch are not touched.

An analysis with such an image fails as a whole and says which it was: a series of which a slice was
left out would be a reading that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .engines import EngineError
from .engines.errors import PoisonedRowsError

# A reason is for a person; the facts have them all.
_NAMED = 3


class PoisonedImagesError(EngineError):
    """The network fails on some images of an analysis, alone or among others.

    Attributes
    ----------
    sop_instance_uids : tuple of str
        Which.
    """

    code = "poisoned_input"

    def __init__(self, uids: Sequence[str], of: int, cause: str) -> None:
        self.sop_instance_uids = tuple(uids)
        named = ", ".join(self.sop_instance_uids[:_NAMED])
        more = f" and {len(uids) - _NAMED} more" if len(uids) > _NAMED else ""
        super().__init__(
            f"the network fails on image {named}{more} (of {of} in its batch), and nothing of the "
            f"series is reported: {cause}"
        )
        self.facts = {"poisoned": list(self.sop_instance_uids)}


class PoisonedVolumeError(EngineError):
    """The network fails on a part of a volume, while others pass, or on the whole one."""

    code = "poisoned_input"

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"the network fails on a part of the volume, and nothing of it is reported: {cause}"
        )


@contextmanager
def poisoned_images(uids: Sequence[str]) -> Iterator[None]:
    """Name the images whose rows a network fails on within the block.

    Parameters
    ----------
    uids : sequence of str
        SOP Instance UID of each row of the batch.

    Raises
    ------
    PoisonedImagesError
        In the place of `PoisonedRowsError`.
    """
    try:
        yield
    except PoisonedRowsError as error:
        named = tuple(dict.fromkeys(uids[row] for row in error.rows if row < len(uids)))
        cause = str(error.__cause__ or error)
        raise PoisonedImagesError(named, len(uids), cause) from error
