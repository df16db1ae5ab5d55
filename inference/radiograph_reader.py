"""The reader of projection images, such as a chest radiograph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydicom import Dataset

from . import lungs
from .admission import Opened, admitted, reason_of_most, telling, telling_batches
from .decode_task import DecodeTask
from .decoded import Batch, Decoded, RecentImages, Shown
from .device_input.choice import is_made_on
from .display import pixel_aspect, show_radiograph
from .engines import Rows
from .engines.choose import EngineSettings
from .errors import NotAnalysableError
from .film_contrast import check_contrast, without_contrast
from .functional_groups import damaged, whole_number
from .illustrate import View, film_views
from .image_file import frame_count
from .input_spec import InputSpec
from .model_values import check_range
from .pixel_notes import PixelNote, add_fallbacks, count_fallback
from .pixels import ModalityImage
from .placement import Placement
from .postprocess import Probabilities, image_findings
from .preprocess import place_radiograph, prepare_radiograph
from .reader import Reader
from .reading import Reading, SourceImage

# What is used if it is there: no functional group holds it, and it has one value.
_OPTIONAL = {"InstanceNumber": ("", 1)}
# Input of films that is kept from the look at whether they can be read: some hundred of them.
_KEPT_BYTES = 64 << 20


@dataclass(slots=True, eq=False)
class _Looked:
    """What was made of a film when its pixels were looked at.

    Attributes
    ----------
    batches : list of Batch or None
        None: they were not kept.
    """

    facts: dict[str, object] = field(default_factory=dict)
    batches: list[Batch] | None = field(default_factory=list)

    def keep(self, batch: Batch, room: int) -> int:
        """Keep a batch, if it takes no more than `room` bytes; return what it takes."""
        if self.batches is None:
            return 0
        if batch.tensor.nbytes > room:
            return -self.drop()
        self.batches.append(batch)
        return batch.tensor.nbytes

    def drop(self) -> int:
        """Keep nothing; return how many bytes are free by that."""
        freed = sum(kept.tensor.nbytes for kept in self.batches or ())
        self.batches = None
        return freed


class RadiographReader(Reader):
    """Reads each projection image by itself."""

    def setup(self, device: str, engines: EngineSettings | None = None) -> None:
        """Load the network, and what the first film would wait for; see `Reader`."""
        super().setup(device, engines)
        if self.bundle.spec.crop == "lungs":
            lungs.make_ready()

    def decode(self, images: Sequence[SourceImage]) -> Decoded:
        """Prepare the images that pass the gate, in the order of their number; see `Reader`."""
        found = admitted(images, self.bundle)
        recent = RecentImages()
        with telling(found.facts(found.refused)):
            opened, set_aside, looked = self._readable(found.opened, found.refused, recent)
        order = sorted(opened, key=lambda uid: (_instance_number(opened[uid].dataset), uid))
        datasets = [opened[uid].dataset for uid in order]
        counts = [frame_count(dataset) for dataset in datasets]
        rows = tuple(uid for uid, count in zip(order, counts, strict=True) for _ in range(count))
        facts = found.facts(set_aside)
        if broken := damaged(datasets, _OPTIONAL):
            facts["damaged_attributes"] = broken
        sources = [opened[uid].source for uid in order]
        batches = self._once(sources, counts, facts, recent, looked)
        return Decoded(
            uids=rows,
            frames=tuple(frame for count in counts for frame in range(count)),
            batches=telling_batches(batches, facts),
            positions_mm=np.zeros(len(rows)),
            headers=tuple(opened[uid].header for uid in order),
            facts=facts,
            recent=recent,
        )

    def encode(
        self,
        decoded: Decoded,
        probabilities: Probabilities,
        notes: Sequence[tuple[str, ...]] = (),
    ) -> Reading:
        """Return the findings of each image; see `Reader`."""
        return Reading(
            findings=image_findings(self.bundle, decoded.uids, probabilities),
            used_sop_instance_uids=tuple(dict.fromkeys(decoded.uids)),
            facts=self._facts(decoded, notes),
        )

    def views(self, decoded: Decoded, probabilities: Probabilities) -> tuple[View, ...]:
        """Choose the images with the most probable findings; see `Reader`."""
        return film_views(self.bundle, decoded.uids, probabilities)

    def candidates(self, decoded: Decoded, probabilities: Probabilities) -> set[int]:
        """Return the frames that would be shown if no other came; see `Reader`."""
        uids = decoded.uids[: len(probabilities)]
        return {view.row for view in film_views(self.bundle, uids, probabilities)}

    @property
    def shown_spec(self) -> InputSpec:
        """As the header's window has yet to be applied: a person sees it applied once."""
        spec = self.bundle.spec
        return replace(spec, voi=False) if spec.voi else spec

    def show(
        self, image: ModalityImage, dataset: Dataset, frame: int, columns: Sequence[int]
    ) -> Shown:
        """Return a frame as a radiologist sees it; see `Reader`."""
        pixels = show_radiograph(image, dataset, frame, self.bundle.spec)
        return Shown(pixels, "", pixel_aspect(dataset, frame))

    def seen(self, image: ModalityImage) -> tuple[Rows, Placement]:
        """Return a frame as the network sees it; see `Reader`."""
        place = place_radiograph(image.plane, self.bundle.spec)
        return self._tensor(image, place), place

    def _batches(
        self,
        sources: Sequence[SourceImage],
        counts: Sequence[int],
        facts: dict[str, object],
        recent: RecentImages,
    ) -> Iterator[Batch]:
        """Decode frame by frame.

        `facts` says which took another decoder than the first, and which way the films went to a
        GPU; `recent` gets the frames that are decoded for the host.
        """
        spec = self.bundle.spec
        each = zip(sources, counts, strict=True)
        frames = [(one, frame) for one, count in each for frame in range(count)]
        if is_made_on(self._device, spec):
            from .device_input.readings import DeviceReadings  # it takes torch

            fed = DeviceReadings(
                spec, self._device, self.decoding, self._batch_size, facts,
                gpu_decoding=self.gpu_decoding,
            )  # fmt: skip
            yield from fed.films(frames, without_contrast)
            return
        tasks = [DecodeTask(one, frame, spec) for one, frame in frames]
        for decoded, task in zip(self.decoding.decode(tasks), tasks, strict=True):
            yield self._noted(task, decoded, facts, recent)

    def _noted(
        self,
        task: DecodeTask,
        decoded: ModalityImage | NotAnalysableError,
        facts: dict[str, object],
        recent: RecentImages,
    ) -> Batch:
        if isinstance(decoded, NotAnalysableError):
            raise decoded
        count_fallback(facts, task.image.transfer_syntax_uid, decoded.notes)
        recent.note(task, decoded)
        return self._batch(decoded)

    def _batch(self, image: ModalityImage) -> Batch:
        spec = self.bundle.spec
        place = place_radiograph(image.plane, spec)
        notes = image.notes
        if spec.crop == "lungs" and place.whole_source:
            notes = (*notes, PixelNote.LUNGS_NOT_FOUND)
        tensor = self._tensor(image, place)
        check_contrast(image.plane, tensor, place)
        return Batch(tensor, (notes,), (place,))

    def _once(
        self,
        sources: Sequence[SourceImage],
        counts: Sequence[int],
        facts: dict[str, object],
        recent: RecentImages,
        looked: Mapping[str, _Looked],
    ) -> Iterator[Batch]:
        """Give what was made of films already, and decode the others; see `_batches`."""
        if not looked:
            yield from self._batches(sources, counts, facts, recent)
            return
        for source, count in zip(sources, counts, strict=True):
            known = looked[source.sop_instance_uid]
            if known.batches is None:
                yield from self._batches([source], [count], facts, recent)
                continue
            add_fallbacks(facts, known.facts)
            yield from known.batches
            known.batches = []

    def _readable(
        self, opened: dict[str, Opened], set_aside: dict[str, str], recent: RecentImages
    ) -> tuple[dict[str, Opened], dict[str, str], dict[str, _Looked]]:
        """Set aside the films whose pixels cannot be read: the others of a series are read.

        They are decoded to see that, because the rows of a reading are fixed before the network
        sees the first; what they became is kept within bounds. A film alone is what its reading is,
        and decoded only then; on a GPU films go in batches, and are decoded again.
        """
        if len(opened) == 1:
            return opened, set_aside, {}
        refused: dict[str, NotAnalysableError] = {}
        looked: dict[str, _Looked] = {}
        if is_made_on(self._device, self.bundle.spec):
            self._look_on_gpu(opened, refused)
        else:
            looked = self._look(opened, refused, recent)
        codes = {**set_aside, **{uid: str(error.code) for uid, error in refused.items()}}
        if len(refused) == len(opened):
            raise reason_of_most(list(refused.values()), codes)
        good = {uid: one for uid, one in opened.items() if uid not in refused}
        return good, codes, looked

    def _look(
        self,
        opened: dict[str, Opened],
        refused: dict[str, NotAnalysableError],
        recent: RecentImages,
    ) -> dict[str, _Looked]:
        """Decode films, all on their way at once; tell what they became, and add to `refused`."""
        tasks: list[DecodeTask] = []
        for uid, one in opened.items():
            try:
                count = frame_count(one.dataset)
            except NotAnalysableError as error:
                refused[uid] = error
                continue
            tasks += [DecodeTask(one.source, frame, self.bundle.spec) for frame in range(count)]
        looked: dict[str, _Looked] = {}
        room = _KEPT_BYTES
        for task, decoded in zip(tasks, self.decoding.decode(tasks), strict=True):
            uid = task.image.sop_instance_uid
            if uid in refused:
                continue
            film = looked.setdefault(uid, _Looked())
            try:
                batch = self._noted(task, decoded, film.facts, recent)
            except NotAnalysableError as error:
                refused[uid] = error
                room += film.drop()
                continue
            room -= film.keep(batch, room)
        return looked

    def _look_on_gpu(
        self, opened: dict[str, Opened], refused: dict[str, NotAnalysableError]
    ) -> None:
        for uid, one in opened.items():
            try:
                count = frame_count(one.dataset)
                for _ in self._batches([one.source], [count], {}, RecentImages()):
                    pass
            except NotAnalysableError as error:
                refused[uid] = error

    def _tensor(self, image: ModalityImage, place: Placement) -> Rows:
        spec = self.bundle.spec
        check_range(image, spec)
        return prepare_radiograph(image.plane, spec, self._device, place, image.full_range)


def _instance_number(header: Dataset) -> int:
    return whole_number(header, "InstanceNumber") or 0
