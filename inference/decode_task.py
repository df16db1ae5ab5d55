"""What a decode process is asked and what it answers; light: no torch."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset

from .input_spec import InputSpec
from .model_values import model_values
from .open_source import open_source
from .pixels import ModalityImage, hounsfield_values
from .reading import SourceImage


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """One frame of a stored image, to become the values that an input is made of.

    Attributes
    ----------
    image : SourceImage
        With the facts of its file, if they are known.
    frame : int
        From 0.
    spec : InputSpec
        Of the reader: Hounsfield units of CT, else the values of a radiograph.
    """

    image: SourceImage
    frame: int
    spec: InputSpec

    def made(self, dataset: Dataset) -> ModalityImage:
        """Return what becomes of the frame, the image being open."""
        if self.spec.kind == "radiograph":
            return model_values(dataset, self.frame, self.spec)
        return hounsfield_values(dataset, self.frame)


@dataclass(frozen=True, slots=True)
class Asked:
    """A task, and the place in shared memory for its values."""

    task: DecodeTask
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Values:
    """Values of float32 in shared memory; the rest as of `ModalityImage`."""

    shape: tuple[int, ...]
    notes: tuple[str, ...]
    full_range: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A `NotAnalysableError`: its code and reason."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Larger:
    """Values have so many bytes, more than there is room for."""

    size: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A process has started."""


Answer = Values | Refused | Larger | Ready


class TaskDecoder:
    """Decodes tasks one after the other; an image of several frames is opened once."""

    def __init__(self) -> None:
        self._opened: tuple[SourceImage, Dataset] | None = None

    def decode(self, task: DecodeTask) -> ModalityImage:
        """Return the values of a task.

        Raises
        ------
        NotAnalysableError
            UNDECODABLE or UNSUPPORTED_PIXELS.
        """
        if self._opened is None or self._opened[0] != task.image:
            self._opened = None  # its memory first
            self._opened = (task.image, open_source(task.image)[0])
        return task.made(self._opened[1])
