"""The gate: which stored images a model is shown, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pydicom import Dataset

from .bundle import Bundle
from .errors import NotAnalysableError
from .indexed_image import IndexedImage
from .open_source import open_source
from .reading import NotAnalysed, SourceImage
from .shared_headers import SharedHeaders
from .suitability import check_image, check_stack
from .volume import Stack, arrange, slices_of


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

    @property
    def source(self) -> SourceImage:
        """The image with the facts of its file, for whoever opens it once more."""
        known = self.dataset
        return (
            replace(self.image, facts=known.facts)
            if isinstance(known, IndexedImage)
            else self.image
        )


@dataclass(frozen=True, slots=True, eq=False)
class AdmittedStack:
    """A CT series that passed the gate.

    Attributes
    ----------
    stack : Stack
        Its slices in order.
    datasets : dict of str to Dataset
        Each image, by SOP Instance UID; who needs them no more clears them, so that the pixels of
        those that were read as a whole leave memory.
    sources : dict of str to SourceImage
        The same with the facts of their files, to be decoded one by one.
    headers : tuple of Dataset
        Of each image of the stack, in the order of the slices, without pixels and as they came.
    facts : dict
        What the headers said, and what was set aside.
    """

    stack: Stack
    datasets: dict[str, Dataset]
    sources: dict[str, SourceImage]
    headers: tuple[Dataset, ...]
    facts: dict[str, object]

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """SOP Instance UID and frame of each slice, in order."""
        return tuple((one.image.sop_instance_uid, one.frame) for one in self.stack.slices)


def admitted_stack(images: Sequence[SourceImage], bundle: Bundle) -> AdmittedStack:
    """Put the slices that pass the gate in order, and check the series as a whole.

    Raises
    ------
    NotAnalysableError
        If no image passes, or the series is not what the model reads.
    """
    opened, refused = admitted(images, bundle)
    stack = arrange([s for one in opened.values() for s in slices_of(one.image, one.dataset)])
    set_aside = {**refused, **stack.set_aside}
    facts = {**stack.facts, **({"set_aside": set_aside} if set_aside else {})}
    with telling(facts):
        check_stack(stack, bundle.suitability)
    uids = dict.fromkeys(one.image.sop_instance_uid for one in stack.slices)
    return AdmittedStack(
        stack=stack,
        datasets={uid: one.dataset for uid, one in opened.items()},
        sources={uid: one.source for uid, one in opened.items()},
        headers=tuple(opened[uid].header for uid in uids),
        facts=facts,
    )


@contextmanager
def telling(facts: Mapping[str, object]) -> Iterator[None]:
    """Give the facts of a series to what is said of it when it cannot be read."""
    try:
        yield
    except NotAnalysableError as error:
        raise NotAnalysableError(error.code, error.reason, facts) from error


def admitted(
    images: Sequence[SourceImage], bundle: Bundle
) -> tuple[dict[str, Opened], dict[str, str]]:
    """Return the images that pass the gate and the codes of those that do not.

    If none passes, the reason for the whole is that of most images; of two that are as frequent
    the one that stands first in `NotAnalysed`.
    """
    admitted: dict[str, Opened] = {}
    refused: dict[str, NotAnalysableError] = {}
    headers = SharedHeaders()
    for image in sorted(images, key=lambda image: (image.sop_instance_uid, image.instance_id)):
        if image.sop_instance_uid in admitted:
            continue
        opened = Opened(image, *open_source(image, headers))
        try:
            check_image(opened.dataset, bundle.suitability)
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
