"""What every result object is made of: one analysis, seen from the headers of its images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from math import isfinite

from pydicom.dataset import Dataset
from pydicom.uid import UID

from ..errors import ObjectError
from ..long_string import ASKED, is_long_string
from ..reading import Finding, Measurement, ModelIdentity, Presence, Reading, Scope
from . import uids
from .headers import Headers

_WIDTH = {Scope.STUDY: 0, Scope.SERIES: 1, Scope.IMAGE: 2}


class Qualification(StrEnum):
    """Content Qualification (0018,9004), PS3.3 C.8.13.2.1.1."""

    PRODUCT = "PRODUCT"
    RESEARCH = "RESEARCH"
    SERVICE = "SERVICE"


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """The node that speaks: written in the tree, the header and Contributing Equipment alike.

    Attributes
    ----------
    name : str
        AE title of the node.
    manufacturer, model_name, software_version, serial_number : str
        Of the node; printable ASCII without backslash, at most 64 characters (LO), not empty.
    """

    name: str
    manufacturer: str
    model_name: str
    software_version: str
    serial_number: str

    def __post_init__(self) -> None:
        _require_long_string("device name", self.name)
        _require_long_string("device manufacturer", self.manufacturer)
        _require_long_string("device model name", self.model_name)
        _require_long_string("device software version", self.software_version)
        _require_long_string("device serial number", self.serial_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisContent:
    """What all objects of one analysis share; equal contents make equal bytes.

    Attributes
    ----------
    sources : tuple of Dataset
        The headers (no pixel data needed) of ALL images read, in their order. Never changed.
    model, device : ModelIdentity, DeviceIdentity
        What read them, and where.
    created_at : datetime
        Aware. Written in the source's zone where the source carries one; else as the wall clock
        of its own zone (give local time: a source without a zone has local time too). No part of
        any UID.
    reading : Reading or None
        The findings; None where the images were not analysed.
    not_analysed : tuple of (code, reason) or None
        A code of `NotAnalysed` and one sentence; None where there is a reading.
    qualification : Qualification
        What the content may be used for.
    analysis : str
        What tells this analysis from others of images with the same SOP Instance UIDs: their pixels
        may have been revised, and a picture of them still be the same. Part of the UIDs of
        companions; a report is told apart by the one that it replaces.
    """

    sources: tuple[Dataset, ...]
    model: ModelIdentity
    device: DeviceIdentity
    created_at: datetime
    reading: Reading | None = None
    not_analysed: tuple[str, str] | None = None
    qualification: Qualification = Qualification.RESEARCH
    analysis: str = ""

    def __post_init__(self) -> None:
        if (self.reading is None) == (self.not_analysed is None):
            raise ObjectError("a result has either a reading or a reason why there is none")
        if self.created_at.utcoffset() is None:
            raise ObjectError("created_at has no time zone; use an aware datetime")
        _require_long_string("model name", self.model.name)
        _require_long_string("model version", self.model.version)
        _require_long_string("model manufacturer", self.model.manufacturer)
        object.__setattr__(self, "sources", Headers(self.sources))
        if self.reading is not None:
            _require_known_images(self.reading, frozenset(self.source_uids))
            _require_measurements(self.reading)

    @property
    def headers(self) -> Headers:
        """The sources, with what every object asks of them."""
        assert isinstance(self.sources, Headers)
        return self.sources

    @property
    def source_uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs of all images read, in their order."""
        return self.headers.uids

    @property
    def inputs(self) -> str:
        """Digest of the images read, as `uids` wants it."""
        return self.headers.digest

    @property
    def companion_inputs(self) -> str:
        """The same, of this analysis alone."""
        return f"{self.inputs} {self.analysis}" if self.analysis else self.inputs

    @property
    def reported(self) -> tuple[Finding, ...]:
        """The findings that are written: each label at its widest scope only."""
        return reported_findings(self.reading.findings) if self.reading else ()

    @property
    def versions(self) -> list[str]:
        """Software Versions (0018,1020): of the node, and of the model."""
        return [self.device.software_version, f"{self.model.name} {self.model.version}"[:64]]

    @property
    def series_description(self) -> str:
        """Series Description (0008,103E), one for all objects of the analysis."""
        if self.not_analysed is not None:
            return f"AI unverified: not analyzed by {self.model.name}"[:64].rstrip()
        first = self.reported[0]
        # The first label of a series of slices stands for the others; those of a film stand for
        # themselves, and one of eighteen is no name for all.
        independent = first.scope is Scope.IMAGE and any(
            finding.label.name != first.label.name for finding in self.reported
        )
        topic = self.model.name if independent else first.label.code.meaning
        return f"AI unverified: {topic}"[:64].rstrip()

    def title(self, finding: Finding) -> str:
        """Return what a finding is of, in words; with its site where two labels share a code."""
        label = finding.label
        is_shared = any(
            f.label.name != label.name and f.label.code == label.code for f in self.reported
        )
        site = f" (site: {label.site.meaning})" if label.site is not None and is_shared else ""
        return label.code.meaning + site

    def is_one_of_many(self, finding: Finding) -> bool:
        """Tell whether a finding speaks of one image among several that were read."""
        return finding.scope is Scope.IMAGE and len(self.sources) > 1

    def measured(self, finding: Finding) -> tuple[Measurement, ...]:
        """Return what was measured of a finding, rounded as it is written.

        What is not present has no size: a report that gave one would contradict itself.
        """
        if self.reading is None or finding.presence is not Presence.PRESENT:
            return ()
        own = (m for m in self.reading.measurements if m.label == finding.label.name)
        return tuple(replace(m, value=significant(m.value)) for m in own)

    def tracking(self, finding: Finding, inputs: str) -> tuple[str, UID]:
        """Return Tracking ID and Tracking UID (0062,0020-0021), shared by SR, SEG and captures.

        Parameters
        ----------
        finding : Finding
        inputs : str
            `self.inputs`.
        """
        image = finding.sop_instance_uid if self.is_one_of_many(finding) else None
        name = finding.label.name
        return f"{self.model.name}/{name}", uids.tracking_uid(self.model, inputs, name, image or "")


def shown(finding: Finding) -> tuple[str, ...]:
    """Return the SOP Instance UIDs of the images that a finding points at."""
    own = (finding.sop_instance_uid,) if finding.sop_instance_uid is not None else ()
    return tuple(dict.fromkeys((*own, *finding.key_sop_instance_uids)))


def significant(value: float) -> float:
    """Round a measurement to three significant digits: a mask tells no more."""
    return float(f"{value:.3g}")


def reported_findings(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return each label at its widest scope, in the order given.

    A CT series has hundreds of image-scope findings; they stay in the database, and the SR
    references key slices only.
    """
    widest: dict[str, int] = {}
    for finding in findings:
        name, width = finding.label.name, _WIDTH[finding.scope]
        widest[name] = min(width, widest.get(name, width))
    return tuple(f for f in findings if _WIDTH[f.scope] == widest[f.label.name])


def _require_long_string(what: str, value: str) -> None:
    if not is_long_string(value):
        raise ObjectError(f"the {what} must be {ASKED}: {value!r}")


def _require_known_images(reading: Reading, known: frozenset[str]) -> None:
    if not reading.findings:
        raise ObjectError("a reading without findings says nothing; silence is never a result")
    named = {uid for f in reading.findings for uid in f.key_sop_instance_uids}
    named |= {f.sop_instance_uid for f in reading.findings if f.sop_instance_uid is not None}
    named |= set(reading.used_sop_instance_uids)
    unknown = sorted(named - known)
    if unknown:
        raise ObjectError(f"findings name images that are no sources: {', '.join(unknown)}")


def _require_measurements(reading: Reading) -> None:
    series = {f.label.name for f in reading.findings if f.scope is not Scope.IMAGE}
    for one in reading.measurements:
        # A measurement speaks of all images together; of findings in single images none has one.
        if one.label not in series:
            raise ObjectError(f"a measurement is of {one.label!r}, no label of the whole series")
        if not (isfinite(one.value) and one.value >= 0.0):
            raise ObjectError(f"a measurement of {one.label} is {one.value}")
    names = [(one.label, one.quantity) for one in reading.measurements]
    if len(set(names)) != len(names):
        raise ObjectError("a quantity of one label is measured twice")
