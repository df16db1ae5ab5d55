"""The key images of a reading: decoded once more, and shown with where the model looked.

They are decoded where all images are: a decoder that crashes costs a picture, not the worker. What
the network looked at is told by the pass in which the images were read, where it tells that at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pydicom import Dataset

from .bundle import Bundle
from .decode_pool import DecodePool
from .decode_task import DecodeTask
from .decoded import Decoded, RecentImages, Shown
from .engines import Rows
from .errors import ODD_DATA, InferenceError, NotAnalysableError
from .explaining import Wanted, wanted_of
from .explanation import Explanation
from .illustrate import View
from .image_file import open_image
from .input_spec import InputSpec
from .kept_passes import KeptPasses, RowPass
from .masks import marked
from .pixel_spacing import pixel_spacing_mm
from .pixels import ModalityImage
from .placement import Placement
from .reading import Illustration, Mask, SourceImage
from .scheduling import yield_to_stat
from .test_time import Answers

Spacing = tuple[float, float] | None


class Shows(Protocol):
    """What is asked of a reader."""

    bundle: Bundle
    decoding: DecodePool

    @property
    def network(self) -> Answers:
        """The loaded network."""
        ...

    @property
    def shown_spec(self) -> InputSpec:
        """How the values are decoded that a person is shown."""
        ...

    def show(
        self, image: ModalityImage, dataset: Dataset, frame: int, columns: Sequence[int]
    ) -> Shown:
        """Return a frame as a person sees it who looks for these labels."""
        ...

    def seen(self, image: ModalityImage) -> tuple[Rows, Placement]:
        """Return a frame, decoded by the bundle's own specification, as the network sees it."""
        ...


def key_images(
    reader: Shows,
    sources: Mapping[str, SourceImage],
    decoded: Decoded,
    views: Sequence[View],
    masks: Sequence[Mask],
    passes: KeptPasses,
) -> tuple[tuple[Illustration, ...], dict[str, str]]:
    """Show what was found.

    Where a label has a mask the mask is shown, elsewhere where the model looked.

    Parameters
    ----------
    reader : Shows
    sources : mapping of str to SourceImage
        By SOP Instance UID.
    decoded : Decoded
        What was made of them; its batches are not needed any more.
    views : sequence of View
        Of its rows.
    masks : sequence of Mask
        Of what is present.
    passes : KeptPasses
        Of its rows.

    Returns
    -------
    tuple of Illustration
        In the order of the views.
    dict of str to str
        SOP Instance UIDs of images that cannot be shown, or not with where the model looked,
        and the kind of error: a picture that fails must not lose the findings.
    """
    places = [(decoded.uids[view.row], decoded.frames[view.row]) for view in views]
    tasks = [DecodeTask(sources[uid], frame, reader.shown_spec) for uid, frame in places]
    looked = _Looked(reader, passes, decoded.recent)
    shown: list[Illustration] = []
    failed: dict[str, str] = {}
    images = decoded_again(reader.decoding, tasks, decoded.recent)
    for view, task, image in zip(views, tasks, images, strict=True):
        yield_to_stat()
        uid = task.image.sop_instance_uid
        if isinstance(image, Exception):
            failed[uid] = type(image).__name__
            continue
        try:
            dataset = open_image(task.image.path)
            picture = reader.show(image, dataset, task.frame, view.columns)
        except (NotAnalysableError, *ODD_DATA) as error:
            failed[uid] = type(error).__name__
            continue
        made = _illustration(reader.bundle, view, task, picture, decoded)
        made = replace(made, marked=marked(masks, uid, task.frame, made.labels))
        explanation = None
        try:
            if made.marked is None:
                explanation = looked.of(view, task, image, dataset)
        except (InferenceError, *ODD_DATA) as error:
            failed[uid] = type(error).__name__
        shown.append(_explained(made, explanation))
    return tuple(shown), failed


def decoded_again(
    pool: DecodePool, tasks: Sequence[DecodeTask], recent: RecentImages
) -> Iterator[ModalityImage | Exception]:
    """Decode images for pictures of them, ahead of whoever takes them.

    Parameters
    ----------
    pool : DecodePool
    tasks : sequence of DecodeTask
    recent : RecentImages
        Is not decoded once more.

    Yields
    ------
    ModalityImage or Exception
        Of each task, in their order: what it is shown by, or why it cannot be. One that fails
        leaves the others as they are.
    """
    left = deque(task for task in tasks if recent.of(task) is None)
    coming = pool.decode(tuple(left))
    for task in tasks:
        if (known := recent.of(task)) is not None:
            yield known
            continue
        left.popleft()
        found: ModalityImage | Exception
        try:
            found = next(coming)
        except (InferenceError, *ODD_DATA) as error:  # of an image that was decoded here
            found, coming = error, pool.decode(tuple(left))
        yield found


def _illustration(
    bundle: Bundle, view: View, task: DecodeTask, picture: Shown, decoded: Decoded
) -> Illustration:
    """Return a picture, without anything over it."""
    position = float(decoded.positions_mm[view.row])
    return Illustration(
        sop_instance_uid=task.image.sop_instance_uid,
        frame=task.frame,
        pixels=picture.pixels,
        window=picture.window,
        pixel_aspect=picture.pixel_aspect,
        labels=tuple(bundle.labels[column].name for column in view.columns),
        position_mm=position if bundle.spec.kind == "ct_slices" else None,
    )


def _explained(made: Illustration, explanation: Explanation | None) -> Illustration:
    if explanation is None:
        return made
    return replace(made, saliency=explanation.over_source(), explanation=explanation)


class _Looked:
    """Tells where a model looked, in the way that its bundle wants.

    Parameters
    ----------
    reader : Shows
    passes : KeptPasses
    recent : RecentImages
        Is not decoded once more.
    """

    def __init__(self, reader: Shows, passes: KeptPasses, recent: RecentImages) -> None:
        self._reader = reader
        self._passes = passes
        self._recent = recent
        self._wanted = wanted_of(reader.bundle)

    def of(
        self, view: View, task: DecodeTask, image: ModalityImage, dataset: Dataset
    ) -> Explanation | None:
        """Return where it looked in an image that a person sees so; None if that is not told."""
        if view.looked is None or self._wanted is None:
            return None
        made = self._passes.of(view.row)
        spacing = pixel_spacing_mm(dataset, task.frame)
        told = self._told(view.looked, self._wanted, made, spacing)
        if told is not None:
            return told
        seen = self._seen(replace(task, spec=self._reader.bundle.spec), image)
        return self._asked(view.looked, self._wanted, seen, spacing)

    def _told(
        self, looked: int, wanted: Wanted, made: RowPass | None, spacing: Spacing
    ) -> Explanation | None:
        """Return it by the pass that was made, if that tells it."""
        found = None if made is None else self._reader.network.evidence_of(made, looked, wanted)
        if made is None or found is None:
            return None
        return found.placed(self._reader.bundle.labels[looked].name, made.placement, spacing)

    def _seen(self, task: DecodeTask, shown: ModalityImage) -> ModalityImage:
        """Return the values that the network saw, where they are not those that a person sees."""
        if task.spec == self._reader.shown_spec:
            return shown
        (seen,) = decoded_again(self._reader.decoding, [task], self._recent)
        if isinstance(seen, Exception):
            raise seen
        return seen

    def _asked(
        self, looked: int, wanted: Wanted, seen: ModalityImage, spacing: Spacing
    ) -> Explanation | None:
        """Return it by asking the network again."""
        tensor, place = self._reader.seen(seen)
        found = self._reader.network.explained(tensor, looked, wanted)
        label = self._reader.bundle.labels[looked].name
        return None if found is None else found.placed(label, place, spacing)
