"""The reader of CT series, slice by slice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .display import pixel_aspect, show_slice, window_text
from .engines.choose import EngineSettings
from .errors import NotAnalysableError
from .functional_groups import damaged
from .head_seen import HeadSeen
from .illustrate import View, slice_views, window_of
from .measure import pixel_ml
from .pixels import ModalityImage, hounsfield_values, open_image
from .postprocess import Probabilities, series_findings
from .preprocess import place_ct, prepare_ct
from .reader import Batch, Decoded, Picture, Reader, admitted
from .reading import NotAnalysed, Reading, SourceImage
from .sequence import Sequencer
from .suitability import check_stack
from .volume import Stack, arrange, slices_of

# What is used if it is there: the functional group that may hold it, and how many values it has.
_OPTIONAL = {
    "InstanceNumber": ("", 1),
    "ImagePositionPatient": ("PlanePositionSequence", 3),
    "ImageOrientationPatient": ("PlaneOrientationSequence", 6),
    "SliceLocation": ("", 1),
    "SliceThickness": ("PixelMeasuresSequence", 1),
    "PixelSpacing": ("PixelMeasuresSequence", 2),
    "GantryDetectorTilt": ("CTGeometrySequence", 1),
}


class CtSlicesReader(Reader):
    """Reads each slice of a CT series, and the series as a whole."""

    _sequencer: Sequencer | None = None

    def setup(self, device: str, engines: EngineSettings | None = None) -> None:
        """Load the network, and the head over the slices if the bundle has one; see `Reader`."""
        super().setup(device, engines)
        self._sequencer = Sequencer(self.bundle) if self.bundle.sequence else None

    def decode(self, images: Sequence[SourceImage]) -> Decoded:
        """Put the slices that pass the gate in order; see `Reader`."""
        opened, refused = admitted(images, self.bundle)
        stack = arrange([s for one in opened.values() for s in slices_of(one.image, one.dataset)])
        set_aside = {**refused, **stack.set_aside}
        facts = {**stack.facts, **({"set_aside": set_aside} if set_aside else {})}
        try:
            check_stack(stack, self.bundle.suitability)
        except NotAnalysableError as error:
            raise NotAnalysableError(error.code, error.reason, facts) from error
        datasets = {uid: one.dataset for uid, one in opened.items()}
        if found := damaged(list(datasets.values()), _OPTIONAL):
            facts["damaged_attributes"] = found
        uids = tuple(one.image.sop_instance_uid for one in stack.slices)
        return Decoded(
            uids=uids,
            frames=tuple(one.frame for one in stack.slices),
            batches=self._batches(stack, datasets),
            positions_mm=stack.positions_mm,
            headers=tuple(opened[uid].header for uid in dict.fromkeys(uids)),
            facts=facts,
            pixel_ml=pixel_ml(stack),
        )

    def encode(
        self,
        decoded: Decoded,
        probabilities: Probabilities,
        notes: Sequence[tuple[str, ...]] = (),
    ) -> Reading:
        """Return the findings of the series, then of its slices; see `Reader`."""
        return Reading(
            findings=series_findings(
                self.bundle,
                decoded.uids,
                decoded.positions_mm,
                probabilities,
                self._series(decoded, probabilities),
            ),
            used_sop_instance_uids=tuple(dict.fromkeys(decoded.uids)),
            facts=self._facts(decoded, notes),
        )

    def views(self, decoded: Decoded, probabilities: Probabilities) -> tuple[View, ...]:
        """Choose the key slices of the findings; see `Reader`."""
        return slice_views(
            self.bundle, decoded.positions_mm, probabilities, self._series(decoded, probabilities)
        )

    def _series(self, decoded: Decoded, probabilities: Probabilities) -> NDArray[np.float64] | None:
        """Return what the head over the slices says of the series, if there is one."""
        if self._sequencer is None:
            return None
        return self._sequencer.series(probabilities, decoded.positions_mm)

    def picture(self, dataset: Dataset, frame: int, columns: Sequence[int]) -> Picture:
        """Decode a slice and window it for its findings; see `Reader`."""
        hu = hounsfield_values(dataset, frame).values
        window = window_of(self.bundle, columns)
        places = place_ct(hu[None], self.bundle.spec, self._device)
        return Picture(
            pixels=show_slice(hu, window),
            window=window_text(window),
            pixel_aspect=pixel_aspect(dataset, frame),
            tensor=prepare_ct(hu[None], self.bundle.spec, self._device, places),
            placement=places[0],
        )

    def _batches(self, stack: Stack, datasets: dict[str, Dataset]) -> Iterator[Batch]:
        slices = hounsfield_slices(stack, datasets)
        contrast = False
        seen = HeadSeen(len(stack.slices)) if self.bundle.suitability.anatomy == "head" else None
        while batch := list(itertools.islice(slices, self._batch_size)):
            hu = np.stack([image.values for image in batch])
            contrast = contrast or any(bool(np.ptp(image)) for image in hu)
            if seen is not None:
                seen.look(hu)
            places = place_ct(hu, self.bundle.spec, self._device)
            tensor = prepare_ct(hu, self.bundle.spec, self._device, places)
            yield Batch(tensor, tuple(image.notes for image in batch), places)
        # One slice may be nothing but air; a series may not.
        if not contrast:
            raise NotAnalysableError(
                NotAnalysed.UNSUPPORTED_PIXELS,
                "no slice has contrast: all pixels of each have one value",
            )
        if seen is not None:
            seen.check()


def hounsfield_slices(stack: Stack, datasets: dict[str, Dataset]) -> Iterator[ModalityImage]:
    """Decode slice by slice; the pixels of an instance leave memory with its last frame."""
    for image, run in itertools.groupby(stack.slices, key=lambda one: one.image):
        dataset = datasets.pop(image.sop_instance_uid, None) or open_image(image.path)
        for one in run:
            yield hounsfield_values(dataset, one.frame)
