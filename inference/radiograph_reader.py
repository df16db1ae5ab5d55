"""The reader of projection images, such as a chest radiograph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset

from .functional_groups import element
from .pixels import frame_count, radiograph_values
from .polarity import looks_negative
from .postprocess import Probabilities, image_findings
from .preprocess import prepare_radiograph
from .reader import Batch, Decoded, Reader, admitted
from .reading import Reading, SourceImage


class RadiographReader(Reader):
    """Reads each projection image by itself."""

    def decode(self, images: Sequence[SourceImage]) -> Decoded:
        """Prepare the images that pass the gate, in the order of their number; see `Reader`."""
        headers, set_aside = admitted(images, self.bundle)
        order = sorted(headers, key=lambda uid: (_instance_number(headers[uid][1]), uid))
        rows = tuple(uid for uid in order for _ in range(frame_count(headers[uid][1])))
        return Decoded(
            uids=rows,
            batches=self._batches([headers.pop(uid)[1] for uid in order]),
            positions_mm=np.zeros(len(rows)),
            facts={"set_aside": set_aside} if set_aside else {},
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

    def _batches(self, datasets: list[Dataset]) -> Iterator[Batch]:
        spec = self.bundle.spec
        while datasets:
            dataset = datasets.pop(0)
            for frame in range(frame_count(dataset)):
                image = radiograph_values(dataset, frame)
                notes = image.notes
                if spec.polarity == "chest" and looks_negative(image.values):
                    notes = (*notes, "polarity_corrected")
                yield Batch(prepare_radiograph(image.values, spec, self._device), (notes,))


def _instance_number(header: Dataset) -> int:
    return int(element(header, "InstanceNumber") or 0)
