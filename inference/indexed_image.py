"""A stored image opened by its facts: its file is read where the pixels are, and no further."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID

from .direct_frames import direct_frame
from .frame_table import FrameTable, UnlocatedError
from .known_values import KnownDataset
from .stored_facts import StoredFacts


class IndexedImage(KnownDataset):
    """A data set that reads its file when something is asked for that its facts do not say.

    Parameters
    ----------
    path : Path
    facts : StoredFacts
        Of this very file.
    read : callable
        Reads the whole header: `image_file.open_image`, or what takes the pixels off it.
    """

    def __init__(self, path: Path, facts: StoredFacts, read: Callable[[Path], Dataset]) -> None:
        # Nothing of a data set is here yet: whatever is missed brings the file (`__getattr__`).
        self.__dict__.update(
            known=facts.known, known_syntax=facts.syntax, indexed=path, facts=facts, read=read
        )

    def __getattr__(self, name: str) -> Any:
        if "_dict" not in self.__dict__ and "read" in self.__dict__:
            whole = self.__dict__["read"](self.__dict__["indexed"])
            self.__dict__.update(vars(whole))
            return getattr(self, name)
        return super().__getattr__(name)

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and self.known is not None:
            there = self.known.contains(name)
            if there is not None:
                return there
        return bool(super().__contains__(name))  # type: ignore[operator]

    def ask_the_file(self) -> None:
        """Answer nothing by the facts: what is asked is what the file says, to the byte."""
        self.__dict__.update(known=None, facts=replace(self.facts, table=None))

    @property
    def located_frames(self) -> int | None:
        """How many frames can be read by their offset; None where that is not known."""
        table: FrameTable | None = self.facts.table
        return None if table is None else len(table.spans)

    def is_direct(self, index: int) -> bool:
        """Return whether a frame should be read by its offset and the first decoder."""
        facts: StoredFacts = self.facts
        known = facts.table is not None and facts.cells is not None
        return known and 0 <= index < (self.located_frames or 0)

    def frame(self, index: int) -> tuple[NDArray[Any], str] | None:
        """Return the stored values of a frame and its Photometric Interpretation.

        None where the facts do not say enough, or the file is not as they say.
        """
        facts: StoredFacts = self.facts
        if facts.table is None or (cells := facts.cells) is None or not self.is_direct(index):
            return None
        try:
            descriptor = os.open(self.indexed, os.O_RDONLY | os.O_CLOEXEC)
            try:
                frame = facts.table.read(descriptor, index)
            finally:
                os.close(descriptor)
        except (OSError, UnlocatedError):
            return None
        values = direct_frame(frame, UID(facts.syntax), cells)
        if values is None:
            return None
        return values, str(facts.known.value("PhotometricInterpretation"))
