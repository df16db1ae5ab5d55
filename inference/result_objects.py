"""All objects that one analysis makes: which, in which order, and what they say of each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydicom.dataset import Dataset

from .errors import ODD_DATA, InvalidObjectError, ObjectError
from .objects import DeviceIdentity, Qualification, ReportContent, build_report
from .objects.content import AnalysisContent
from .objects.headers import Headers
from .objects.key_objects import KeyObjectsContent, build_key_objects
from .objects.picture import Caption, draw, draw_card
from .objects.secondary_capture import CaptureContent, build_capture
from .objects.segmentation import SegmentationContent, build_segmentation
from .reading import Finding, Illustration, ModelIdentity, Presence, Reading

KINDS = ("sr", "sc", "ko", "seg")


def _go_on() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultBasis:
    """What the objects of one analysis are made of.

    Attributes
    ----------
    sources : tuple of Dataset
        Headers of all images read, in their order.
    reading, not_analysed
        One of the two; see `objects.content.AnalysisContent`.
    predecessor : Dataset or None
        Header of the report that the new one replaces.
    together : mapping of str to collection of str
        By kind, the kinds that go wherever it goes: an object refers to no others, because an
        archive would look for them in vain.
    analysis : str
        See `objects.content.AnalysisContent`.
    """

    sources: tuple[Dataset, ...]
    model: ModelIdentity
    device: DeviceIdentity
    created_at: datetime
    reading: Reading | None = None
    not_analysed: tuple[str, str] | None = None
    predecessor: Dataset | None = None
    together: Mapping[str, Collection[str]] = field(
        default_factory=lambda: dict.fromkeys(KINDS, KINDS)
    )
    qualification: Qualification = Qualification.RESEARCH
    analysis: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", Headers(self.sources))

    @property
    def shared(self) -> dict[str, Any]:
        """What every writer is given."""
        names = ("sources", "model", "device", "created_at", "reading", "not_analysed")
        return {name: getattr(self, name) for name in (*names, "qualification", "analysis")}


@dataclass(frozen=True, slots=True)
class MadeObject:
    """An object, and why it must not be sent: None if it passed its check."""

    kind: str
    dataset: Dataset
    fault: str | None = None


@dataclass(slots=True)
class ResultObjects:
    """What was made, in the order in which it refers to each other, and what could not be made.

    Attributes
    ----------
    pause : callable
        Called before each.
    failures : dict of str to str
        Reason by kind of companion; a report that cannot be made raises.
    """

    pause: Callable[[], None] = _go_on
    made: list[MadeObject] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def good(self, *kinds: str) -> tuple[Dataset, ...]:
        """Return the objects of these kinds that passed their check."""
        return tuple(o.dataset for o in self.made if o.kind in kinds and o.fault is None)

    def add(self, kind: str, build: Callable[[], Dataset]) -> None:
        """Build an object; keep one that breaks our promises, with its fault."""
        self.pause()
        try:
            self.made.append(MadeObject(kind, build()))
        except InvalidObjectError as error:
            self.made.append(MadeObject(kind, error.dataset, str(error)))


def make_objects(basis: ResultBasis, pause: Callable[[], None] = _go_on) -> ResultObjects:
    """Make every object that the outcome gives reason for.

    Captures and a segmentation come first, then the report, which refers to them, and the key
    objects, which refer to the captures. A companion that cannot be made leaves the others as they
    are.

    Parameters
    ----------
    basis : ResultBasis
    pause : callable
        Called before each, which may take hundreds of milliseconds: it may wait for others there.

    Raises
    ------
    ObjectError
        If the report cannot be made at all.
    """
    result = ResultObjects(pause)
    reading = basis.reading
    if reading is not None and _has_segments(basis, reading):
        _attempt(result, "seg", lambda: build_segmentation(SegmentationContent(**basis.shared)))
    for number, picture in enumerate(_pictures(basis), 1):
        _attempt(result, "sc", lambda n=number, p=picture: _capture(basis, n, p))  # type: ignore[misc]
    companions = result.good(*(kind for kind in ("seg", "sc") if kind in basis.together["sr"]))
    result.add(
        "sr",
        lambda: build_report(
            ReportContent(**basis.shared, predecessor=basis.predecessor, companions=companions)
        ),
    )
    if reading is not None and _has_key_slices(basis, reading):
        # Not to the report: a destination may get it in another SOP class, so as another object.
        captures = result.good("sc") if "sc" in basis.together["ko"] else ()
        _attempt(
            result,
            "ko",
            lambda: build_key_objects(KeyObjectsContent(**basis.shared, companions=captures)),
        )
    return result


def _attempt(result: ResultObjects, kind: str, build: Callable[[], Dataset]) -> None:
    try:
        result.add(kind, build)
    except ObjectError as error:
        result.failures.setdefault(kind, str(error))
    except ODD_DATA as error:
        # Its words may quote a patient's value.
        result.failures.setdefault(kind, f"cannot be made ({type(error).__name__})")


def _pictures(basis: ResultBasis) -> tuple[Illustration | None, ...]:
    """Return what is pictured; None is a card of words, for images that were not analysed."""
    return (None,) if basis.reading is None else basis.reading.illustrations


def _has_segments(basis: ResultBasis, reading: Reading) -> bool:
    shown = {f.label.name for f in reading.findings if f.presence is not Presence.ABSENT}
    return any(mask.label in shown and mask.pixels.any() for mask in reading.masks)


def _has_key_slices(basis: ResultBasis, reading: Reading) -> bool:
    """Tell whether some of many slices are to be looked at; of a radiograph all are key."""
    return str(basis.sources[0].get("Modality")) == "CT" and any(
        finding.presence is not Presence.ABSENT and finding.key_sop_instance_uids
        for finding in AnalysisContent(**basis.shared).reported
    )


def _capture(basis: ResultBasis, number: int, picture: Illustration | None) -> Dataset:
    content = AnalysisContent(**basis.shared)
    title = f"{basis.model.name} {basis.model.version}"
    if picture is None:
        assert basis.not_analysed is not None, "without a reading there is a reason"
        code, reason = basis.not_analysed
        lines = (f"Not analyzed: {code.replace('_', ' ')}", f"Reason: {reason}.")
        pixels = draw_card(Caption(title, lines))
    else:
        pixels = draw(
            picture, Caption(title, _statements(content, picture), _place(basis, picture))
        )
    return build_capture(
        CaptureContent(**basis.shared, pixels=pixels, number=number, illustration=picture)
    )


def _statements(content: AnalysisContent, picture: Illustration) -> tuple[str, ...]:
    """Return what the picture is shown for; a picture without a finding states all of them."""
    uid, found = picture.sop_instance_uid, content.reported
    mine = [f for f in found if not content.is_one_of_many(f) or f.sop_instance_uid == uid]
    shown = [f for f in mine if f.label.name in picture.labels] or mine
    return tuple(_statement(finding, found) + _measured(content, finding) for finding in shown)


def _measured(content: AnalysisContent, finding: Finding) -> str:
    parts = content.measured(finding)
    return "".join(f", {p.quantity.meaning.lower()} {p.value:g} {p.unit.value}" for p in parts)


def _statement(finding: Finding, others: tuple[Finding, ...]) -> str:
    label = finding.label
    what = label.code.meaning
    if label.site is not None and any(
        f.label.name != label.name and f.label.code == label.code for f in others
    ):
        what += f" ({label.site.meaning})"
    return f"{what}: {finding.presence}, AI probability {_percent(finding)} %"


def _percent(finding: Finding) -> str:
    """Return a short percentage that contradicts neither the presence nor the doubt there is."""
    # In decimals: times 100, a float just below a threshold may print as one that reaches it.
    exact = 100 * Decimal(repr(float(finding.probability)))
    for digits in (0, 1, 2, 4):
        rounded = round(exact, digits)
        is_certain = rounded in (0, 100) and rounded != exact
        agrees = finding.label.thresholds.presence(float(rounded / 100)) is finding.presence
        if agrees and not is_certain:
            return f"{rounded:f}"
    return f"{exact:f}"


def _place(basis: ResultBasis, picture: Illustration) -> str:
    """Say which image of how many it is, where it lies and how it is windowed."""
    uids = [str(source.SOPInstanceUID) for source in basis.sources]
    index = uids.index(picture.sop_instance_uid)
    frames = int(basis.sources[index].get("NumberOfFrames") or 1)
    parts = []
    if len(uids) > 1:
        what = "Slice" if picture.position_mm is not None and frames == 1 else "Image"
        parts.append(f"{what} {index + 1} of {len(uids)}")
    if frames > 1:
        parts.append(f"frame {picture.frame + 1} of {frames}")
    if picture.position_mm is not None:
        parts.append(f"at {picture.position_mm:.1f} mm")
    if picture.window:
        parts.append(f"window {picture.window}")
    return ", ".join(parts)
