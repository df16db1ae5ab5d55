"""What every reader has in common: four verbs around a loaded network.

``setup`` loads, ``decode`` turns stored images into tensors, ``predict`` runs the network and
``encode`` turns probabilities into findings. ``read`` runs the last three, and then shows what was
found in the pictures; an engine that fills batches from several series calls them one by one.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset

from .bundle import Bundle
from .engines import MadeWith
from .engines.choose import EngineSettings
from .errors import ODD_DATA, InferenceError, NotAnalysableError
from .forward import Network
from .illustrate import View
from .masks import MASK_CUTOFF, highest, masks_of, of_present
from .measure import left_out, volumes
from .pixels import common_notes, header_of, open_image
from .placement import Placement
from .postprocess import Probabilities
from .reading import Illustration, Label, Mask, Measurement, NotAnalysed, Reading, SourceImage
from .suitability import check_image
from .test_time import Answers, SeveralViews, TestTime

# Rows that are in memory at once; beyond four a CPU gains nothing.
DEFAULT_BATCH = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the input.

    Attributes
    ----------
    tensor : Tensor of float32, (rows, channels, size, size)
    notes : tuple of tuple of str
        What was done to the pixels of each row.
    placements : tuple of Placement
        What of the source of each row the input shows.
    """

    tensor: torch.Tensor
    notes: tuple[tuple[str, ...], ...]
    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Images that passed the gate, on their way to the network.

    Attributes
    ----------
    uids : tuple of str
        SOP Instance UID of each row; an image of several frames has several rows.
    frames : tuple of int
        Frame of each row, from 0.
    batches : iterator of Batch
        The rows in order, decoded as they are asked for, so that memory does not grow with them.
    positions_mm : ndarray of float64, (rows,)
        Position along the normal; zeros for radiographs.
    headers : tuple of Dataset
        Of each image, in the order of the rows, without pixels and as they came.
    facts : mapping
        What the headers said.
    pixel_ml : ndarray of float64, (rows,), or None
        Volume of one pixel of each row, where the headers tell.
    """

    uids: tuple[str, ...]
    frames: tuple[int, ...]
    batches: Iterator[Batch]
    positions_mm: NDArray[np.float64]
    headers: tuple[Dataset, ...]
    facts: Mapping[str, object] = field(default_factory=dict)
    pixel_ml: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """An image that passed the gate.

    Attributes
    ----------
    dataset : Dataset
        With its pixels.
    header : Dataset
        Without, and as it came: nobody looked at it yet.
    """

    image: SourceImage
    dataset: Dataset
    header: Dataset


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image decoded once more, to be shown.

    Attributes
    ----------
    pixels, window, pixel_aspect
        As of `Illustration`.
    tensor : Tensor of float32, (1, channels, size, size)
        What the network saw of it.
    placement : Placement
        Which part of it that is.
    """

    pixels: NDArray[np.uint8]
    window: str
    pixel_aspect: float
    tensor: torch.Tensor
    placement: Placement


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
        self._network: Answers | None = None

    def setup(self, device: str, engines: EngineSettings | None = None) -> None:
        """Load the network onto `device`, a device of torch.

        Raises
        ------
        BundleError
            If definition and weights do not fit each other.
        EngineUnavailableError
            If the bundle insists on an engine that cannot be had.
        """
        self._device = torch.device(device)
        self._network = Network(self.bundle, self._device, engines)

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
        if self.bundle.mapped:
            return self._loaded().both(tensor)[0]
        return self._loaded().probabilities(tensor)

    def scores(self, batch: Batch) -> Probabilities:
        """Return the probabilities of the rows of a batch, of networks that give maps too.

        Returns
        -------
        ndarray of float64, (rows, labels)
        """
        if self.bundle.masks:
            return highest(self._loaded().maps(batch.tensor), batch.placements)
        if self.bundle.mapped:
            return self._loaded().both(batch.tensor)[0]
        return self.predict(batch.tensor)

    def augmented(self, test_time: TestTime) -> Self:
        """Return the same reader with test-time augmentation; see `TestTime`."""
        other = copy.copy(self)
        black, _ = self.bundle.spec.value_range
        other._network = SeveralViews(self._loaded(), test_time, black)
        return other

    def looked_at(self, picture: Picture, column: int) -> NDArray[np.float32] | None:
        """Return where the network looks in a picture for a label; see `Network.looked_at`."""
        return self._loaded().looked_at(picture.tensor, column, picture.placement)

    def _loaded(self) -> Answers:
        assert self._network is not None, "setup was not called"
        return self._network

    def _mapped(self) -> list[Label]:
        labels = {label.name: label for label in self.bundle.labels}
        return [labels[name] for name in self.bundle.mapped]

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
        masks: list[Mask] = []
        made: dict[MadeWith | None, None] = {}
        for batch in decoded.batches:
            rows = slice(len(notes), len(notes) + len(batch.notes))
            places = list(zip(decoded.uids[rows], decoded.frames[rows], strict=True))
            if self.bundle.masks:
                maps = self._loaded().maps(batch.tensor)
                probabilities.append(highest(maps, batch.placements))
                masks += masks_of(maps, batch.placements, places, self.bundle.labels)
            elif self.bundle.mapped:
                told, maps = self._loaded().both(batch.tensor)
                probabilities.append(told)
                masks += masks_of(maps, batch.placements, places, self._mapped(), MASK_CUTOFF)
            else:
                probabilities.append(self.predict(batch.tensor))
            notes.extend(batch.notes)
            made[self._loaded().made_with] = None
        scores = np.concatenate(probabilities)
        reading = self.encode(decoded, scores, notes)
        shown, failed = self.illustrate(images, decoded, scores)
        kept = of_present(masks, reading.findings)
        images_of = list(zip(decoded.uids, decoded.frames, strict=True))
        ml = decoded.pixel_ml
        measured: tuple[Measurement, ...] = ()
        facts = {**reading.facts, **({"illustration_failed": failed} if failed else {})}
        facts["made_with"] = [one.facts for one in made if one is not None]
        if ml is not None:
            measured = volumes(kept, images_of, ml)
            facts |= left_out(kept, measured)
        return replace(
            reading,
            headers=decoded.headers,
            illustrations=shown,
            masks=kept,
            measurements=measured,
            facts=facts,
        )

    @abstractmethod
    def views(self, decoded: Decoded, probabilities: Probabilities) -> tuple[View, ...]:
        """Choose the rows that a person is shown, best first."""

    @abstractmethod
    def picture(self, dataset: Dataset, frame: int, columns: Sequence[int]) -> Picture:
        """Decode a frame for a person who looks for the labels of these columns."""

    def illustrate(
        self, images: Sequence[SourceImage], decoded: Decoded, probabilities: Probabilities
    ) -> tuple[tuple[Illustration, ...], dict[str, str]]:
        """Show what was found: decode the images that show it once more, and look where it is.

        Parameters
        ----------
        images : sequence of SourceImage
            What was read.
        decoded : Decoded
            What was made of them; its batches are not needed any more.
        probabilities : ndarray, (rows, labels)

        Returns
        -------
        tuple of Illustration
            Best first.
        dict of str to str
            SOP Instance UIDs of images that cannot be shown, or not with where the model looked,
            and the kind of error: a picture that fails must not lose the findings.
        """
        sources = {image.sop_instance_uid: image for image in images}
        shown: list[Illustration] = []
        failed: dict[str, str] = {}
        for view in self.views(decoded, probabilities):
            uid, frame = decoded.uids[view.row], decoded.frames[view.row]
            try:
                picture = self.picture(open_image(sources[uid].path), frame, view.columns)
            except (NotAnalysableError, *ODD_DATA) as error:
                failed[uid] = type(error).__name__
                continue
            saliency = None
            try:
                if view.looked is not None:
                    saliency = self._loaded().looked_at(
                        picture.tensor, view.looked, picture.placement
                    )
            except (InferenceError, *ODD_DATA) as error:
                failed[uid] = type(error).__name__
            position = float(decoded.positions_mm[view.row])
            shown.append(
                Illustration(
                    sop_instance_uid=uid,
                    frame=frame,
                    pixels=picture.pixels,
                    window=picture.window,
                    pixel_aspect=picture.pixel_aspect,
                    saliency=saliency,
                    labels=tuple(self.bundle.labels[column].name for column in view.columns),
                    position_mm=position if self.bundle.spec.kind == "ct_slices" else None,
                )
            )
        return tuple(shown), failed

    def _facts(self, decoded: Decoded, notes: Sequence[tuple[str, ...]]) -> dict[str, object]:
        facts = dict(decoded.facts)
        if counted := common_notes(notes):
            facts["pixel_notes"] = counted
        return facts


def admitted(
    images: Sequence[SourceImage], bundle: Bundle
) -> tuple[dict[str, Opened], dict[str, str]]:
    """Return the images that pass the gate and the codes of those that do not.

    If none passes, the reason for the whole is that of most images; of two that are as frequent
    the one that stands first in `NotAnalysed`.
    """
    admitted: dict[str, Opened] = {}
    refused: dict[str, NotAnalysableError] = {}
    for image in sorted(images, key=lambda image: (image.sop_instance_uid, image.instance_id)):
        if image.sop_instance_uid in admitted:
            continue
        dataset = open_image(image.path)
        opened = Opened(image, dataset, header_of(dataset))
        try:
            check_image(dataset, bundle.suitability)
        except NotAnalysableError as error:
            refused[image.sop_instance_uid] = error
        else:
            refused.pop(image.sop_instance_uid, None)
            admitted[image.sop_instance_uid] = opened
    codes = {uid: str(error.code) for uid, error in refused.items()}
    if not admitted:
        raise reason_of_most(list(refused.values()), codes)
    return admitted, codes


def reason_of_most(
    refusals: Sequence[NotAnalysableError], codes: Mapping[str, str]
) -> NotAnalysableError:
    """Return why nothing is read, where each image was refused: the reason of most."""
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
