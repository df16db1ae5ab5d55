"""The reader of CT series as volumes: 3-D classification, and segmentation by a sliding window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .admission import admitted_stack, telling
from .bundle import Bundle
from .ct_slices_reader import hounsfield_slices
from .decode_pool import DecodePool
from .decode_settings import PoolSettings
from .engines.choose import EngineSettings
from .engines.errors import DeviceLostError, EngineOutOfMemoryError
from .engines.torch_faults import typed
from .head_seen import HeadSeen
from .measure import pixel_ml, with_masks
from .pixels import ModalityImage, common_notes
from .provenance import with_engines
from .reader import DEFAULT_BATCH
from .reading import Finding, Mask, Presence, Reading, Scope, SourceImage
from .scheduling import yield_to_stat
from .sliding import VolumeMaps, VolumeNetwork
from .volume import Stack
from .volume_grid import Geometry, geometry_of
from .volume_input import Volume, prepare_volume, seen, slice_of
from .volume_pictures import AtHand, Found, volume_pictures


class CtVolumeReader:
    """Reads a CT series as one volume.

    Parameters
    ----------
    bundle : Bundle
        Of kind ``ct_volume``.
    batch_size : int
        As of other readers; windows that go through the network at once are its own matter.
    """

    def __init__(self, bundle: Bundle, batch_size: int = DEFAULT_BATCH) -> None:
        self.bundle = bundle
        self._device = torch.device("cpu")
        self._network: VolumeNetwork | None = None
        self.decoding = DecodePool(PoolSettings())

    def setup(self, device: str, engines: EngineSettings | None = None) -> None:
        """Load the network onto `device`, a device of torch, which runs volumes itself.

        Raises
        ------
        BundleError
            If definition and weights do not fit each other.
        """
        self._device = torch.device(device)
        self._network = VolumeNetwork(self.bundle, self._device, engines)

    def read(self, images: Sequence[SourceImage]) -> Reading:
        """Read a series from files to findings; see `Reader.read`."""
        assert self._network is not None, "setup was not called"
        series = admitted_stack(images, self.bundle)
        stack, facts = series.stack, series.facts
        with telling(facts):
            geometry = geometry_of(stack)
        series.datasets.clear()  # the pixels of an image leave memory once it is decoded
        with telling(facts):
            volume, notes = self._prepared(stack, geometry, series.sources, facts)
        facts |= {
            "volume_voxels": [axis.count for axis in volume.axes],
            "volume_spacing_mm": [round(abs(axis.step), 4) for axis in volume.axes],
        }
        if counted := common_notes(notes):
            facts["pixel_notes"] = counted
        maps: VolumeMaps | None = None
        if self.bundle.masks:
            maps = self._network.maps(volume.tensor)
            found = self._segmented(maps, volume, geometry, stack)
        else:
            found = self._classified(self._network.probabilities(volume.tensor), stack)
        at_hand = AtHand(self.bundle, maps, volume, geometry, stack)
        shown, failed = volume_pictures(found, at_hand, self.decoding, series.sources)
        if failed:
            facts["illustration_failed"] = failed
        reading = Reading(
            findings=tuple(one.finding for one in found),
            used_sop_instance_uids=tuple(dict.fromkeys(uid for uid, _ in series.places)),
            facts=facts,
            illustrations=shown,
            headers=series.headers,
        )
        reading = with_engines(reading, (), self._network.rows_made_with)
        masks = [mask for one in found for mask in one.masks]
        return with_masks(reading, masks, series.places, pixel_ml(stack))

    def _prepared(
        self,
        stack: Stack,
        geometry: Geometry,
        sources: Mapping[str, SourceImage],
        facts: dict[str, object],
    ) -> tuple[Volume, list[tuple[str, ...]]]:
        """Return the volume, and what was done to the pixels of each slice.

        Made on the device; where it has no memory for that or is lost, on the host.
        """
        assert self._network is not None, "setup was not called"
        place = self._network.place
        try:
            return self._prepared_on(place, stack, geometry, sources, facts)
        except (RuntimeError, MemoryError) as raised:
            error = typed(raised)
            if place.type == "cpu" or not isinstance(
                error, (DeviceLostError, EngineOutOfMemoryError)
            ):
                raise
            self._network.hear(error)
            return self._prepared_on(torch.device("cpu"), stack, geometry, sources, facts)

    def _prepared_on(
        self,
        place: torch.device,
        stack: Stack,
        geometry: Geometry,
        sources: Mapping[str, SourceImage],
        facts: dict[str, object],
    ) -> tuple[Volume, list[tuple[str, ...]]]:
        spec = self.bundle.spec.volume
        assert spec is not None, "a bundle of volumes"
        notes: list[tuple[str, ...]] = []
        facts.pop("decoder_fallbacks", None)  # counted anew, where this is done once more
        opening = set(geometry.opening.tolist())
        head = HeadSeen(len(opening)) if self.bundle.suitability.anatomy == "head" else None

        def noted(image: ModalityImage) -> NDArray[np.float32]:
            notes.append(image.notes)
            if head is not None:
                head.look(image.values[None])
            return image.values

        slices = (
            noted(image)
            for number, image in enumerate(
                hounsfield_slices(stack, sources, self.bundle.spec, self.decoding, facts)
            )
            if number in opening
        )
        volume = prepare_volume(slices, geometry, spec, place)
        if head is not None:
            head.check()
        return volume, notes

    def _classified(self, probabilities: NDArray[np.float64], stack: Stack) -> list[Found]:
        """Return each label; a number for the whole tells no slice, so the middle one is shown."""
        middle = (len(stack.slices) // 2,)
        return [
            Found(Finding(label, Scope.SERIES, float(probability)), shown=middle)
            for label, probability in zip(self.bundle.labels, probabilities, strict=True)
        ]

    def _segmented(
        self, maps: VolumeMaps, volume: Volume, geometry: Geometry, stack: Stack
    ) -> list[Found]:
        inside = seen(volume.axes, geometry)
        uids = [one.image.sop_instance_uid for one in stack.slices]
        found = []
        for column, output in enumerate(self.bundle.outputs):
            yield_to_stat()
            probability = maps.probability[column]
            if inside is not None:
                probability = torch.where(inside, probability, torch.zeros_like(probability))
            voxels = max(1, round(output.min_volume_ml / volume.voxel_ml))
            level = reached(probability, voxels)
            finding = Finding(output.label, Scope.SERIES, level)
            masks: tuple[Mask, ...] = ()
            shown = [_slice_of_peak(probability, volume, geometry)]
            if finding.presence is Presence.PRESENT:
                masks, sizes = self._masks(column, maps, volume, geometry, stack)
                shown = [int(n) for n in np.argsort(-sizes, kind="stable") if sizes[n]] or shown
            keys = tuple(dict.fromkeys(uids[n] for n in shown))[: self.bundle.pooling.key_slices]
            if finding.presence is not Presence.ABSENT:
                finding = Finding(output.label, Scope.SERIES, level, key_sop_instance_uids=keys)
            found.append(Found(finding, masks, tuple(shown[: self.bundle.pooling.key_slices])))
        return found

    def _masks(
        self, column: int, maps: VolumeMaps, volume: Volume, geometry: Geometry, stack: Stack
    ) -> tuple[tuple[Mask, ...], NDArray[np.int64]]:
        """Return the masks of one label, and how many pixels each slice has."""
        label, limit = self.bundle.labels[column], maps.limits[column]
        sizes = np.zeros(len(stack.slices), dtype=np.int64)
        masks = []
        for number, one in enumerate(stack.slices):
            found = slice_of(maps.belongs[column : column + 1], volume.axes, geometry, number)[0]
            pixels = (found >= limit) & (found > 0.0)
            sizes[number] = int(pixels.sum())
            if sizes[number]:
                masks.append(Mask(label.name, one.image.sop_instance_uid, one.frame, pixels))
        if not masks:
            # Interpolation flattens a peak: what made the label present stays in its mask.
            number = _slice_of_peak(maps.probability[column], volume, geometry)
            nearest = slice_of(maps.probability[column : column + 1], volume.axes, geometry, number)
            pixels = nearest[0] >= max(float(nearest.max()), 1e-9)
            one = stack.slices[number]
            sizes[number] = int(pixels.sum())
            masks.append(Mask(label.name, one.image.sop_instance_uid, one.frame, pixels))
        return tuple(masks), sizes


def reached(probability: torch.Tensor, voxels: int) -> float:
    """Return the probability that so many voxels reach: the highest one for 1.

    Parameters
    ----------
    probability : Tensor of float32
    voxels : int
        1 or more; of a volume that has fewer it is the lowest of all.
    """
    flat = probability.flatten()
    count = min(voxels, flat.numel())
    return float(flat.kthvalue(flat.numel() - count + 1).values)


def _slice_of_peak(probability: torch.Tensor, volume: Volume, geometry: Geometry) -> int:
    """Return the slice that lies nearest to the most probable voxel."""
    peak = np.unravel_index(int(probability.argmax()), probability.shape)
    (number, axis), *_ = [(n, a) for n, a in enumerate(volume.axes) if a.source == 0]
    return int(np.abs(geometry.along - axis.positions[peak[number]]).argmin())
