"""What every reader has in common: four verbs around a loaded network.

``setup`` loads, ``decode`` turns stored images into what it sees, ``predict`` runs the network and
``encode`` turns probabilities into findings. ``read`` runs the last three, and then shows what was
found in the pictures; an engine that fills batches from several series calls them one by one.

Light: torch is imported by engines that run on it, on other devices than a CPU, for gradients and
for test-time augmentation.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .bundle import Bundle
from .decode_pool import DecodePool
from .decode_settings import PoolSettings
from .decoded import Batch, Decoded, Picture, Shown
from .engines import MadeWith, Rows
from .engines.choose import EngineSettings
from .exclusive import label_masks, of_labels
from .explaining import Wanted, wanted_of
from .explanation import Explanation, Method
from .forward import Network
from .illustrate import View
from .input_spec import InputSpec
from .kept_passes import KeptPasses
from .key_images import key_images
from .masks import MASK_CUTOFF, highest, masks_of, of_present
from .measure import with_masks
from .model_values import model_values
from .pixels import ModalityImage, common_notes
from .placement import Placement
from .poison import poisoned_images
from .postprocess import Probabilities
from .provenance import with_engines
from .reading import Label, Mask, Reading, SourceImage
from .test_time import Answers, TestTime

# Rows that are in memory at once; beyond four a CPU gains nothing.
DEFAULT_BATCH = 8


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
        self._device = "cpu"
        self._network: Answers | None = None
        # Where images are decoded; whoever runs the reader may put a pool with processes here.
        self.decoding = DecodePool(PoolSettings())
        # Whether a GPU decodes what it can; see `EngineSettings`.
        self.gpu_decoding = False

    def setup(self, device: str, engines: EngineSettings | None = None) -> None:
        """Load the network onto `device`, a device of torch.

        Raises
        ------
        BundleError
            If definition and weights do not fit each other.
        EngineUnavailableError
            If the bundle insists on an engine that cannot be had.
        """
        self._device = device
        self.gpu_decoding = engines is not None and engines.gpu_decoding and "cuda" in device
        if self.gpu_decoding:
            from .device_input.gpu_codec import codec_on

            codec_on(device)  # what is missing is said at the start
        self._network = Network(self.bundle, device, engines)

    @abstractmethod
    def decode(self, images: Sequence[SourceImage]) -> Decoded:
        """Check, order and prepare images.

        Raises
        ------
        NotAnalysableError
            If the images are not what the model reads, or cannot be decoded; also while the
            batches are iterated.
        """

    def predict(self, tensor: Rows) -> Probabilities:
        """Run the network.

        Parameters
        ----------
        tensor : ndarray or Tensor of float32, (rows, channels, size, size)

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
            return self.network.both(tensor)[0]
        return self.network.probabilities(tensor)

    def scores(self, batch: Batch) -> Probabilities:
        """Return the probabilities of the rows of a batch, of networks that give maps too.

        Returns
        -------
        ndarray of float64, (rows, labels)
        """
        if self.bundle.masks:
            maps = of_labels(self.network.maps(batch.tensor), self.bundle)
            return highest(maps.probability, batch.placements)
        if self.bundle.mapped:
            return self.network.both(batch.tensor)[0]
        return self.predict(batch.tensor)

    def augmented(self, test_time: TestTime) -> Self:
        """Return the same reader with test-time augmentation; see `TestTime`."""
        from .several_views import SeveralViews  # it turns pictures with torch

        other = copy.copy(self)
        # Each step of a plane can move its black, also by the values of each picture.
        spec = self.bundle.spec
        black = spec.value_range[0] if spec.plane is None else None
        other._network = SeveralViews(self.network, test_time, black)
        return other

    def looked_at(self, picture: Picture, column: int) -> NDArray[np.float32] | None:
        """Return where the network looks in a picture for a label; see `Network.looked_at`."""
        return self.network.looked_at(picture.tensor, column, picture.placement)

    def explained(
        self,
        picture: Picture,
        column: int,
        wanted: Wanted,
        spacing_mm: tuple[float, float] | None = None,
    ) -> Explanation | None:
        """Return where the network looks in a picture for a label; see `Network.explained`."""
        found = self.network.explained(picture.tensor, column, wanted)
        if found is None:
            return None
        return found.placed(self.bundle.labels[column].name, picture.placement, spacing_mm)

    @property
    def network(self) -> Answers:
        """The loaded network."""
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
        places = tuple(zip(decoded.uids, decoded.frames, strict=True))
        probabilities: list[Probabilities] = []
        notes: list[tuple[str, ...]] = []
        masks: list[Mask] = []
        made: list[MadeWith] = []
        passes = KeptPasses()
        for batch in decoded.batches:
            rows = slice(len(notes), len(notes) + len(batch.notes))
            with poisoned_images(decoded.uids[rows]):
                scores, mapped = self._said(batch, places[rows])
            probabilities.append(scores)
            self._keep(passes, batch)
            if passes.are_too_many:
                passes.keep(self.candidates(decoded, np.concatenate(probabilities)))
            masks += mapped
            notes.extend(batch.notes)
            made += self.network.rows_made_with
        every = np.concatenate(probabilities)
        reading = self.encode(decoded, every, notes)
        kept = of_present(masks, reading.findings)
        sources = {image.sop_instance_uid: image for image in images}
        views = self.views(decoded, every)
        shown, failed = key_images(self, sources, decoded, views, kept, passes)
        facts = {**reading.facts, **({"illustration_failed": failed} if failed else {})}
        if explained := [one.explanation.facts for one in shown if one.explanation is not None]:
            facts["explanations"] = explained
        reading = replace(reading, headers=decoded.headers, illustrations=shown, facts=facts)
        reading = with_engines(reading, decoded.uids, made)
        return with_masks(reading, kept, places, decoded.pixel_ml)

    def _keep(self, passes: KeptPasses, batch: Batch) -> None:
        """Keep what the network just gave for a batch, if a picture can use it."""
        wanted, outputs = wanted_of(self.bundle), None
        if wanted is not None and wanted.method in (None, Method.CLASS_ACTIVATION):
            outputs = self.network.outputs_of(batch.tensor)
        rows, columns = batch.tensor.shape[-2:]
        passes.add(outputs, (int(rows), int(columns)), batch.placements)

    def _said(
        self, batch: Batch, places: Sequence[tuple[str, int]]
    ) -> tuple[Probabilities, list[Mask]]:
        """Return the probabilities of the rows of a batch, and all masks that its maps give."""
        if self.bundle.masks:
            found = of_labels(self.network.maps(batch.tensor), self.bundle)
            masks = label_masks(found, batch.placements, places, self.bundle)
            return highest(found.probability, batch.placements), list(masks)
        if self.bundle.mapped:
            told, maps = self.network.both(batch.tensor)
            return told, list(masks_of(maps, batch.placements, places, self._mapped(), MASK_CUTOFF))
        return self.predict(batch.tensor), []

    @abstractmethod
    def views(self, decoded: Decoded, probabilities: Probabilities) -> tuple[View, ...]:
        """Choose the rows that a person is shown, best first."""

    @abstractmethod
    def candidates(self, decoded: Decoded, probabilities: Probabilities) -> Collection[int]:
        """Return the rows, of those read until now, that `views` may choose for a finding."""

    @property
    def shown_spec(self) -> InputSpec:
        """How the values are decoded that a person is shown."""
        return self.bundle.spec

    @abstractmethod
    def show(
        self, image: ModalityImage, dataset: Dataset, frame: int, columns: Sequence[int]
    ) -> Shown:
        """Return a frame, decoded by `shown_spec`, for a person who looks for these labels."""

    @abstractmethod
    def seen(self, image: ModalityImage) -> tuple[Rows, Placement]:
        """Return a frame, decoded by the bundle's specification, as the network sees it."""

    def picture(self, dataset: Dataset, frame: int, columns: Sequence[int]) -> Picture:
        """Decode a frame, here, for a person who looks for the labels of these columns."""
        spec, shown_spec = self.bundle.spec, self.shown_spec
        image = model_values(dataset, frame, shown_spec)
        shown = self.show(image, dataset, frame, columns)
        seen = image if spec == shown_spec else model_values(dataset, frame, spec)
        tensor, place = self.seen(seen)
        return Picture(shown.pixels, shown.window, shown.pixel_aspect, tensor, place)

    def _facts(self, decoded: Decoded, notes: Sequence[tuple[str, ...]]) -> dict[str, object]:
        facts = dict(decoded.facts)
        if counted := common_notes(notes):
            facts["pixel_notes"] = counted
        return facts
