"""The reader of projection images, such as a chest radiograph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from pydicom import Dataset

from . import lungs
from .admission import Opened, admitted, reason_of_most
from .decode_task import DecodeTask
from .decoded import Batch, Decoded, LastImage, Shown
from .device_input.choice import is_made_on
from .display import pixel_aspect, show_radiograph
from .engines import Rows
from .engines.choose import EngineSettings
from .errors import NotAnalysableError
from .film_contrast import check_contrast, without_contrast
from .functional_groups import damaged, whole_number
from .illustrate import View, film_views
from .input_spec import InputSpec
from .model_values import check_range
from .pixel_notes import PixelNote, count_fallback
from .pixels import ModalityImage, frame_count
from .placement import Placement
from .postprocess import Probabilities, image_findings
from .preprocess import place_radiograph, prepare_radiograph
from .reader import Reader
from .reading import Reading, SourceImage

# What is used if it is there: no functional group holds it, and it has one value.
_OPTIONAL = {"InstanceNumber": ("", 1)}


class RadiographReader(Reader):
    """Reads each projection image by itself."""

    def setup(self, device: str, engines: EngineSettings | None = None) -> None:
        """Load the network, and what the first film would wait for; see `Reader`."""
        super().setup(device, engines)
        if self.bundle.spec.crop == "lungs":
            lungs.make_ready()

    def decode(self, images: Sequence[SourceImage]) -> Decoded:
        """Prepare the images that pass the gate, in the order of their number; see `Reader`."""
        opened, set_aside = admitted(images, self.bundle)
        opened, set_aside = self._readable(opened, set_aside)
        order = sorted(opened, key=lambda uid: (_instance_number(opened[uid].dataset), uid))
        datasets = [opened[uid].dataset for uid in order]
        counts = [frame_count(dataset) for dataset in datasets]
        rows = tuple(uid for uid, count in zip(order, counts, strict=True) for _ in range(count))
        facts: dict[str, object] = {"set_aside": set_aside} if set_aside else {}
        last = LastImage()
        if found := damaged(datasets, _OPTIONAL):
            facts["damaged_attributes"] = found
        return Decoded(
            uids=rows,
            frames=tuple(frame for count in counts for frame in range(count)),
            batches=self._batches([opened[uid].source for uid in order], counts, facts, last),
            positions_mm=np.zeros(len(rows)),
            headers=tuple(opened[uid].header for uid in order),
            facts=facts,
            last=last,
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
        place = place_radiograph(image.values, self.bundle.spec)
        return self._tensor(image, place), place

    def _batches(
        self,
        sources: Sequence[SourceImage],
        counts: Sequence[int],
        facts: dict[str, object],
        last: LastImage,
    ) -> Iterator[Batch]:
        """Decode frame by frame.

        `facts` says which took another decoder than the first, and which way the films went to a
        GPU; `last` gets the frames that are decoded for the host.
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
            if isinstance(decoded, NotAnalysableError):
                raise decoded
            count_fallback(facts, task.image.transfer_syntax_uid, decoded.notes)
            last.note(task, decoded)
            yield self._batch(decoded)

    def _batch(self, image: ModalityImage) -> Batch:
        spec = self.bundle.spec
        place = place_radiograph(image.values, spec)
        notes = image.notes
        if spec.crop == "lungs" and place.whole_source:
            notes = (*notes, PixelNote.LUNGS_NOT_FOUND)
        tensor = self._tensor(image, place)
        check_contrast(image.values, tensor, place)
        return Batch(tensor, (notes,), (place,))

    def _readable(
        self, opened: dict[str, Opened], set_aside: dict[str, str]
    ) -> tuple[dict[str, Opened], dict[str, str]]:
        """Set aside the films whose pixels cannot be read: the others of a series are read.

        They are decoded once to see that, because the rows of a reading are fixed before the
        network sees the first; a film alone is what its reading is, and decoded only then.
        """
        if len(opened) == 1:
            return opened, set_aside
        refused: dict[str, NotAnalysableError] = {}
        for uid, one in opened.items():
            try:
                count = frame_count(one.dataset)
                for _ in self._batches([one.source], [count], {}, LastImage()):
                    pass
            except NotAnalysableError as error:
                refused[uid] = error
        codes = {**set_aside, **{uid: str(error.code) for uid, error in refused.items()}}
        if len(refused) == len(opened):
            raise reason_of_most(list(refused.values()), codes)
        return {uid: one for uid, one in opened.items() if uid not in refused}, codes

    def _tensor(self, image: ModalityImage, place: Placement) -> Rows:
        spec = self.bundle.spec
        check_range(image, spec)
        return prepare_radiograph(image.values, spec, self._device, place, image.full_range)


def _instance_number(header: Dataset) -> int:
    return whole_number(header, "InstanceNumber") or 0
