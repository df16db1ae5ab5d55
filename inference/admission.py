"""The gate: which stored images a model is shown, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import Dataset

from . import copies
from .bundle import Bundle
from .decoded import Batch
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
class Admitted:
    """Stored images that passed the gate, one for each SOP Instance UID.

    Attributes
    ----------
    opened : dict of str to Opened
        By SOP Instance UID.
    refused : dict of str to str
        The codes of those that did not pass.
    conflicting : dict of str to int
        How many files were not looked at because another one is read under their UID, which has
        other bytes; see `copies`.
    """

    opened: dict[str, Opened]
    refused: dict[str, str]
    conflicting: dict[str, int]

    def facts(self, set_aside: Mapping[str, str]) -> dict[str, object]:
        """Return what a reading says of the images that it is not of."""
        found: dict[str, object] = {}
        if set_aside:
            found["set_aside"] = dict(set_aside)
        if self.conflicting:
            found[copies.FACT] = dict(self.conflicting)
        return found


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
    found = admitted(images, bundle)
    opened = found.opened
    stack = arrange([s for one in opened.values() for s in slices_of(one.image, one.dataset)])
    facts = {**stack.facts, **found.facts({**found.refused, **stack.set_aside})}
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
        reason = error.reason
        if others := copies.told(facts):
            reason += (
                "; files that were not read, as another one with other bytes has their SOP "
                f"Instance UID (0008,0018): {others}"
            )
        raise NotAnalysableError(error.code, reason, {**facts, **(error.facts or {})}) from error


def telling_batches(batches: Iterator[Batch], facts: Mapping[str, object]) -> Iterator[Batch]:
    """Yield batches, and do the same for what is said while they are decoded."""
    with telling(facts):
        yield from batches


def admitted(images: Sequence[SourceImage], bundle: Bundle) -> Admitted:
    """Return the images that pass the gate, and why the others are not read.

    Of several files under one SOP Instance UID the first is read that can be opened and passes, in
    the order of their numbers. If none passes at all, the reason for the whole is that of most
    images; of two that are as frequent the one that stands first in `NotAnalysed`.

    Raises
    ------
    NotAnalysableError
        If none passes, or no file of one image can be opened.
    """
    opened: dict[str, Opened] = {}
    refused: dict[str, NotAnalysableError] = {}
    unopened: dict[str, NotAnalysableError] = {}
    several: dict[str, list[Path]] = {}
    headers = SharedHeaders()
    for image in sorted(images, key=lambda image: (image.sop_instance_uid, image.instance_id)):
        uid = image.sop_instance_uid
        several.setdefault(uid, []).append(image.path)
        if uid in opened:
            continue
        try:
            found = Opened(image, *open_source(image, headers))
        except NotAnalysableError as error:
            if uid not in refused:
                unopened.setdefault(uid, error)
            continue
        unopened.pop(uid, None)
        try:
            check_image(found.dataset, bundle.suitability)
        except NotAnalysableError as error:
            refused[uid] = error
        else:
            refused.pop(uid, None)
            opened[uid] = found
    if unopened:
        raise next(iter(unopened.values()))
    codes = {uid: str(error.code) for uid, error in refused.items()}
    if not opened:
        raise reason_of_most(list(refused.values()), codes)
    counted = {uid: _conflicting(one, several[uid]) for uid, one in opened.items()}
    return Admitted(opened, codes, {uid: count for uid, count in counted.items() if count})


def _conflicting(one: Opened, paths: Sequence[Path]) -> int:
    return copies.conflicting(one.image.path, [path for path in paths if path != one.image.path])


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
