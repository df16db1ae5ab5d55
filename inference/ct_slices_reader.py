"""The reader of CT series, slice by slice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .admission import admitted_stack, telling_batches
from .ahead import one_ahead
from .decode_pool import DecodePool
from .decode_task import DecodeTask
from .decoded import Batch, Decoded, Shown
from .device_input.choice import is_made_on
from .display import pixel_aspect, show_slice, window_text
from .engines import Rows
from .engines.choose import EngineSettings
from .errors import NotAnalysableError
from .functional_groups import damaged
from .head_seen import HeadSeen
from .illustrate import View, slice_candidates, slice_views, window_of
from .input_spec import InputSpec
from .measure import pixel_ml
from .pixel_notes import count_fallback
from .pixels import ModalityImage
from .placement import Placement
from .postprocess import Probabilities, series_findings
from .preprocess import place_ct, prepare_ct
from .reader import Reader
from .reading import NotAnalysed, Reading, SourceImage
from .sequence import Sequencer
from .volume import Stack

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
        series = admitted_stack(images, self.bundle)
        stack, facts = series.stack, series.facts
        if found := damaged(list(series.datasets.values()), _OPTIONAL):
            facts["damaged_attributes"] = found
        return Decoded(
            uids=tuple(one.image.sop_instance_uid for one in stack.slices),
            frames=tuple(one.frame for one in stack.slices),
            batches=telling_batches(self._batches(stack, series.sources, facts), facts),
            positions_mm=stack.positions_mm,
            headers=series.headers,
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

    def candidates(self, decoded: Decoded, probabilities: Probabilities) -> set[int]:
        """Return the key slices until now, and those that may become it; see `Reader`."""
        return slice_candidates(self.bundle, decoded.positions_mm, probabilities)

    def show(
        self, image: ModalityImage, dataset: Dataset, frame: int, columns: Sequence[int]
    ) -> Shown:
        """Return a slice under the window of its findings; see `Reader`."""
        window = window_of(self.bundle, columns)
        pixels = show_slice(image.values, window)
        return Shown(pixels, window_text(window), pixel_aspect(dataset, frame))

    def seen(self, image: ModalityImage) -> tuple[Rows, Placement]:
        """Return a slice as the network sees it; see `Reader`."""
        hu = image.values[None]
        (place,) = places = place_ct(hu, self.bundle.spec, self._device)
        return prepare_ct(hu, self.bundle.spec, self._device, places), place

    def _batches(
        self, stack: Stack, sources: Mapping[str, SourceImage], facts: dict[str, object]
    ) -> Iterator[Batch]:
        """Decode batch by batch.

        `facts` says which slices took another decoder than the first, and which way they went to a
        GPU.
        """
        spec = self.bundle.spec
        seen = HeadSeen(len(stack.slices)) if self.bundle.suitability.anatomy == "head" else None
        if is_made_on(self._device, spec):
            from .device_input.readings import DeviceReadings  # it takes torch

            fed = DeviceReadings(
                spec, self._device, self.decoding, self._batch_size, facts,
                gpu_decoding=self.gpu_decoding,
            )  # fmt: skip
            frames = ((sources[one.image.sop_instance_uid], one.frame) for one in stack.slices)
            return fed.slices(frames, seen, _judge)
        slices = hounsfield_slices(stack, sources, spec, self.decoding, facts)
        # Thin slices are many batches, and the network does not wait for the next one.
        return one_ahead(self._on_host(slices, seen))

    def _on_host(self, slices: Iterator[ModalityImage], seen: HeadSeen | None) -> Iterator[Batch]:
        contrast = False
        while (batch := _stacked(slices, self._batch_size)) is not None:
            hu, notes = batch
            contrast = contrast or any(bool(np.ptp(image)) for image in hu)
            if seen is not None:
                seen.look(hu)
            places = place_ct(hu, self.bundle.spec, self._device)
            tensor = prepare_ct(hu, self.bundle.spec, self._device, places)
            yield Batch(tensor, notes, places)
        _judge(contrast, seen)


def _judge(contrast: bool, seen: HeadSeen | None) -> None:
    """Refuse a series by its slices: one may be nothing but air, a series may not."""
    if not contrast:
        raise NotAnalysableError(
            NotAnalysed.UNSUPPORTED_PIXELS,
            "no slice has contrast: all pixels of each have one value",
        )
    if seen is not None:
        seen.check()


def _stacked(
    slices: Iterator[ModalityImage], most: int
) -> tuple[NDArray[np.float32], tuple[tuple[str, ...], ...]] | None:
    """Copy up to `most` slices into (slices, rows, columns), and their notes; None without any.

    One by one and straight to where it stays: a slice is a megabyte, and every copy of it costs a
    share of the network's time.
    """
    stacked: NDArray[np.float32] | None = None
    notes: list[tuple[str, ...]] = []
    for image in itertools.islice(slices, most):
        if stacked is None:
            stacked = np.empty((most, *image.values.shape), dtype=np.float32)
        stacked[len(notes)] = image.values
        notes.append(image.notes)
    return None if stacked is None else (stacked[: len(notes)], tuple(notes))


def hounsfield_slices(
    stack: Stack,
    sources: Mapping[str, SourceImage],
    spec: InputSpec,
    decoding: DecodePool,
    facts: dict[str, object],
) -> Iterator[ModalityImage]:
    """Decode slice by slice, in the order of the stack.

    Parameters
    ----------
    stack : Stack
    sources : mapping of str to SourceImage
        By SOP Instance UID, with the facts of their files if they are known.
    spec : InputSpec
        Of kind ``ct_slices``.
    decoding : DecodePool
    facts : dict
        Of the reading; says how many took another decoder than the first, and of which syntax.

    Yields
    ------
    ModalityImage

    Raises
    ------
    NotAnalysableError
        UNDECODABLE or UNSUPPORTED_PIXELS, when the turn of a slice has come.
    """
    tasks = (
        DecodeTask(sources[one.image.sop_instance_uid], one.frame, spec) for one in stack.slices
    )
    for decoded, one in zip(decoding.decode(tasks), stack.slices, strict=True):
        if isinstance(decoded, NotAnalysableError):
            raise decoded
        count_fallback(facts, one.image.transfer_syntax_uid, decoded.notes)
        yield decoded
