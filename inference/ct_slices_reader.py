"""The reader of CT series, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

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
from .engines.engine import joined_rows
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
from .preprocess import on_cpu, place_ct, prepare_ct
from .reader import Reader
from .reading import NotAnalysed, Reading, SourceImage
from .sequence import Sequencer
from .stored_plane import ends_of
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
        hu = [image.plane]
        (place,) = places = place_ct(hu, self.bundle.spec, self._device)
        return prepare_ct(hu, self.bundle.spec, self._device, places), place

    def _batches(
        self, stack: Stack, sources: Mapping[str, SourceImage], facts: dict[str, object]
    ) -> Iterator[Batch]:
        """Make batch after batch.

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
        """Make the rows of a slice while the processor has it at hand, before the next one."""
        contrast = False
        rows: _Rows | None = None
        for image in slices:
            if not contrast:
                lowest, highest = ends_of(image.plane)
                contrast = lowest < highest
            if seen is not None:
                seen.look([image.plane])
            if rows is None:
                rows = _Rows(self._batch_size, self.bundle.spec, self._device)
            rows.add(image)
            # The next one takes its memory, which the processor has at hand.
            del image
            if len(rows) == self._batch_size:
                yield rows.batch()
                rows = None
        if rows is not None:
            yield rows.batch()
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


class _Rows:
    """A batch while it is made, of up to `most` slices."""

    def __init__(self, most: int, spec: InputSpec, device: str) -> None:
        self._spec, self._device = spec, device
        shape = (most, spec.channels, spec.size, spec.size)
        self._room = np.empty(shape, dtype=np.float32) if on_cpu(device) else None
        self._made: list[Rows] = []
        self._notes: list[tuple[str, ...]] = []
        self._places: list[Placement] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._made)

    def add(self, image: ModalityImage) -> None:
        """Make the row of the next slice."""
        hu, at = [image.plane], len(self._made)
        places = place_ct(hu, self._spec, self._device)
        room = None if self._room is None else self._room[at : at + 1]
        self._made.append(prepare_ct(hu, self._spec, self._device, places, room))
        self._notes.append(image.notes)
        self._places += places

    def batch(self) -> Batch:
        """Return what was made."""
        room = self._room
        rows = joined_rows(self._made) if room is None else room[: len(self._made)]
        return Batch(rows, tuple(self._notes), tuple(self._places))


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
    # Closed however it ends: what is still decoded for it is let go, and its room with it.
    with closing(decoding.decode(tasks)) as coming:
        for one in stack.slices:
            decoded = next(coming, None)
            assert decoded is not None, "a result of each task"
            if isinstance(decoded, NotAnalysableError):
                raise decoded
            count_fallback(facts, one.image.transfer_syntax_uid, decoded.notes)
            yield decoded
            del decoded  # before the next one is decoded, and not after, as a loop over both would
