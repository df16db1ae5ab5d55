"""What every reader has in common: four verbs around a loaded network.

``setup`` loads, ``decode`` turns stored images into tensors, ``predict`` runs the network and
``encode`` turns probabilities into findings. ``read`` runs the last three; an engine that fills
batches from several series calls them one by one.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset

from .bundle import Bundle
from .errors import BundleError, NotAnalysableError
from .network import load_network
from .pixels import common_notes, open_image
from .postprocess import Probabilities
from .reading import NotAnalysed, Reading, SourceImage
from .suitability import check_image

# Rows that are in memory at once; beyond four a CPU gains nothing.
DEFAULT_BATCH = 8

# The same input gives the same output: cuDNN neither tries algorithms out nor rounds to TF32.
_REPRODUCIBLE = functools.partial(
    torch.backends.cudnn.flags, benchmark=False, deterministic=True, allow_tf32=False
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the input.

    Attributes
    ----------
    tensor : Tensor of float32, (rows, channels, size, size)
    notes : tuple of tuple of str
        What was done to the pixels of each row.
    """

    tensor: torch.Tensor
    notes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Images that passed the gate, on their way to the network.

    Attributes
    ----------
    uids : tuple of str
        SOP Instance UID of each row; an image of several frames has several rows.
    batches : iterator of Batch
        The rows in order, decoded as they are asked for, so that memory does not grow with them.
    positions_mm : ndarray of float64, (rows,)
        Position along the normal; zeros for radiographs.
    facts : mapping
        What the headers said.
    """

    uids: tuple[str, ...]
    batches: Iterator[Batch]
    positions_mm: NDArray[np.float64]
    facts: Mapping[str, object] = field(default_factory=dict)


class Reader(ABC):
    """A model that reads stored images.

    Parameters
    ----------
    bundle : Bundle
        What to load.
    batch_size : int
        Rows that go to the network, and are in memory, at once.
    """

    def __init__(self, bundle: Bundle, batch_size: int = DEFAULT_BATCH) -> None:
        self.bundle = bundle
        self._batch_size = batch_size
        self._device = torch.device("cpu")
        self._network: torch.nn.Module | None = None

    def setup(self, device: str) -> None:
        """Load the network onto `device`, a device of torch.

        Raises
        ------
        BundleError
            If definition and weights do not fit each other.
        """
        self._device = torch.device(device)
        network = load_network(self.bundle, self._device)
        # Measured on CPU: 15 % less time for EfficientNet-B0.
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @abstractmethod
    def decode(self, images: Sequence[SourceImage]) -> Decoded:
        """Check, order and prepare images.

        Raises
        ------
        NotAnalysableError
            If the images are not what the model reads, or cannot be decoded; also while the
            batches are iterated.
        """

    def predict(self, tensor: torch.Tensor) -> Probabilities:
        """Run the network.

        Parameters
        ----------
        tensor : Tensor of float32, (rows, channels, size, size)

        Returns
        -------
        ndarray of float64, (rows, labels)
            Probabilities in the order of the bundle's labels.

        Raises
        ------
        BundleError
            If the network gives fewer outputs than there are labels, or no numbers.
        """
        assert self._network is not None, "setup was not called"
        with torch.inference_mode(), _REPRODUCIBLE():
            tensor = tensor.to(self._device).contiguous(memory_format=torch.channels_last)
            outputs = self._network(tensor).float()
            if self.bundle.activation == "sigmoid":
                outputs = outputs.sigmoid()
            else:
                outputs = outputs.softmax(dim=1)
        probabilities = outputs.cpu().numpy().astype(np.float64)
        wanted = [output.index for output in self.bundle.outputs]
        if probabilities.ndim != 2 or probabilities.shape[1] <= max(wanted):
            raise BundleError(
                f"{self.bundle.path}: the network gives outputs of shape {probabilities.shape}, "
                f"the labels need {max(wanted) + 1}"
            )
        if not np.isfinite(probabilities).all():
            raise BundleError(f"{self.bundle.path}: the network gives outputs that are no numbers")
        return np.asarray(probabilities[:, wanted], dtype=np.float64)

    @abstractmethod
    def encode(
        self,
        decoded: Decoded,
        probabilities: Probabilities,
        notes: Sequence[tuple[str, ...]] = (),
    ) -> Reading:
        """Turn the probabilities, (rows, labels), and notes of all rows into a reading."""

    def read(self, images: Sequence[SourceImage]) -> Reading:
        """Read images from files to findings.

        Parameters
        ----------
        images : sequence of SourceImage
            A series, in any order.

        Returns
        -------
        Reading
            The same for the same images, whatever their order.

        Raises
        ------
        NotAnalysableError
            If the images are not what the model reads.
        BundleError
            If the network does not give what the bundle promises.
        """
        decoded = self.decode(images)
        probabilities: list[Probabilities] = []
        notes: list[tuple[str, ...]] = []
        for batch in decoded.batches:
            probabilities.append(self.predict(batch.tensor))
            notes.extend(batch.notes)
        return self.encode(decoded, np.concatenate(probabilities), notes)

    def _facts(self, decoded: Decoded, notes: Sequence[tuple[str, ...]]) -> dict[str, object]:
        facts = dict(decoded.facts)
        if counted := common_notes(notes):
            facts["pixel_notes"] = counted
        return facts


def admitted(
    images: Sequence[SourceImage], bundle: Bundle
) -> tuple[dict[str, tuple[SourceImage, Dataset]], dict[str, str]]:
    """Return the images that pass the gate and the codes of those that do not.

    If none passes, the reason for the whole is that of most images; of two that are as frequent
    the one that stands first in `NotAnalysed`.
    """
    admitted: dict[str, tuple[SourceImage, Dataset]] = {}
    refused: dict[str, NotAnalysableError] = {}
    for image in sorted(images, key=lambda image: (image.sop_instance_uid, image.instance_id)):
        if image.sop_instance_uid in admitted:
            continue
        header = open_image(image.path)
        try:
            check_image(header, bundle.suitability)
        except NotAnalysableError as error:
            refused[image.sop_instance_uid] = error
        else:
            refused.pop(image.sop_instance_uid, None)
            admitted[image.sop_instance_uid] = (image, header)
    codes = {uid: str(error.code) for uid, error in refused.items()}
    if not admitted:
        raise _reason_of_most(list(refused.values()), codes)
    return admitted, codes


def _reason_of_most(
    refusals: Sequence[NotAnalysableError], codes: Mapping[str, str]
) -> NotAnalysableError:
    if not refusals:
        return NotAnalysableError(NotAnalysed.NOT_AN_IMAGE, "there are no images")
    counted = Counter(str(error.code) for error in refusals)
    most = max(NotAnalysed, key=lambda code: counted[code])  # the first of several
    error = next(error for error in refusals if error.code == most)
    reason = error.reason
    if len(counted) > 1:
        listed = ", ".join(f"{counted[code]} {code}" for code in NotAnalysed if counted[code])
        reason = f"{reason} (of {len(refusals)} images: {listed})"
    return NotAnalysableError(error.code, reason, {"set_aside": dict(codes)})
