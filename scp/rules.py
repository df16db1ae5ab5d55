"""Routing: which model reads a series. Pure functions from the facts of a header to a decision.

What must never start an analysis is sorted out first and cannot be overruled by a rule: results of
our own, objects that are no images (reports, segmentations, presentation states ...) and images
that a quality assurance phantom was declared in. Then every rule whose conditions hold gives one
route; the first rule for a model wins. A rule without a model says how urgent it is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from db.completeness import Sender

from .conditions import Condition, Facts, Mismatch, keywords_of, unmet
from .rule_settings import RuleSettings
from .sender_match import unmatched

Priority: TypeAlias = Literal["stat", "routine"]

MANUFACTURER = "Preread"
_PRIORITY_KEYWORDS = (
    "RequestedProcedurePriority",
    "RequestAttributesSequence.RequestedProcedurePriority",
    "StudyPriorityID",
)
_PHANTOM_KEYWORDS = ("QualityControlImage", "QualityControlSubject")
# Where the Device UID of a model stands in its results.
_DEVICE_KEYWORDS = ("DeviceUID", "ContributingEquipmentSequence.DeviceUID", "InstanceCreatorUID")
_URGENT = {"STAT", "HIGH"}
# Characters of a value, and of what was asked for, in an explanation.
_LONGEST = 64
# Modalities of objects that hold no image to read (PS3.3 C.7.3.1.1.1).
_NO_IMAGE = frozenset(
    ("SR", "SEG", "KO", "PR", "DOC", "OT", "AU", "REG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTRECORD",
     "PLAN", "FID", "RWV", "M3D", "STAIN", "SMR", "ECG", "HD", "EPS", "ANN", "ASMT", "TEXTUREMAP")
)  # fmt: skip
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CAPTURE = _STORAGE + "7"
# SOP classes that hold no image, by what follows the root of the storage classes: waveforms,
# presentation states, reports and key objects, encapsulated documents, raw data, registrations,
# segmentations, surfaces, tracts, radiotherapy other than images.
_NO_IMAGE_CLASSES = tuple(
    _STORAGE + part
    for part in ("9.", "11.", "88.", "104.", "66", "67", "68.", "481.2", "481.3", "481.4",
                 "481.5", "481.6", "481.7", "481.8", "481.9")
)  # fmt: skip

_CHEST_X_RAY: dict[str, Condition] = {
    "Modality": ["CR", "DX"],
    "ViewPosition": ["AP*", "PA*", ""],
    "ViewCodeSequence.CodeMeaning": {"not": ["*lateral*", "*oblique*"]},
    # A lateral view has the patient's front or back at one side of the image.
    "PatientOrientation": {"not": ["A", "P"]},
    "SeriesDescription": {"not": ["lat", "*lateral*", "* lat", "* lat *", "*oblique*"]},
    "PresentationIntentType": {"not": "FOR PROCESSING"},
}
_DESCRIBED = "StudyDescription|SeriesDescription|ProtocolName|RequestedProcedureDescription"
_HEAD_CT: dict[str, Condition] = {
    "Modality": "CT",
    # Of secondary captures with modality CT (dose reports, screen shots) none is read.
    "SOPClassUID": [_STORAGE + "2", _STORAGE + "2.1", _STORAGE + "2.2"],
    "ImageType": {"not": ["LOCALIZER", "MIP", "MPR", "CSA MPR", "VOLUME", "DOSE_INFO"]},
}


_CHESTS: dict[str, Condition] = {"BodyPartExamined": ["CHEST", "THORAX", "LUNG"]}
_CHESTS_DESCRIBED: dict[str, Condition] = {
    "BodyPartExamined": "",
    _DESCRIBED: {"words": ["chest", "thorax", "cxr"]},
}
_HEADS: dict[str, Condition] = {"BodyPartExamined": ["HEAD", "BRAIN", "SKULL"]}
_HEADS_DESCRIBED: dict[str, Condition] = {
    "BodyPartExamined": "",
    _DESCRIBED: {"words": ["head", "brain", "skull", "cranial", "cerebral"]},
}


def _frontal_chests(name: str, model: str) -> Iterator[RuleSettings]:
    stated, described = ({**_CHEST_X_RAY, **one} for one in (_CHESTS, _CHESTS_DESCRIBED))
    yield RuleSettings(name=name, model=model, when=stated)
    yield RuleSettings(name=f"{name}-described", model=model, when=described)


def _heads(name: str, model: str) -> Iterator[RuleSettings]:
    stated, described = ({**_HEAD_CT, **one} for one in (_HEADS, _HEADS_DESCRIBED))
    yield RuleSettings(name=name, model=model, when=stated)
    yield RuleSettings(name=f"{name}-described", model=model, when=described)


# A rule whose model is not installed gives nothing to anybody.
BUILTIN_RULES: tuple[RuleSettings, ...] = (
    *_frontal_chests("chest-frontal", "pneumothorax"),
    *_frontal_chests("chest-findings", "chest-findings"),
    *_heads("head-ct", "hemorrhage"),
    # As `preread train` names what a site trains itself.
    *_frontal_chests("chest-frontal-own", "pneumothorax-own"),
    *_heads("head-ct-own", "hemorrhage-own"),
)


@dataclass(frozen=True, slots=True)
class Route:
    """A model that is to read the series, and how urgently; `shadow` delivers nothing."""

    model: str
    priority: Priority
    shadow: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a series goes; without a route it is parked. `reasons` has a sentence for each rule."""

    routes: tuple[Route, ...]
    reasons: tuple[str, ...]

    def to_json(self) -> str:
        """Return the decision as it is stored with the series."""
        routes = [
            {"model": r.model, "priority": r.priority, "shadow": r.shadow, "rule": r.rule}
            for r in self.routes
        ]
        return json.dumps({"routes": routes, "reasons": list(self.reasons)}, sort_keys=True)


def rules_in_force(
    configured: Sequence[RuleSettings], *, builtin: bool = True
) -> tuple[RuleSettings, ...]:
    """Return the configured rules, then the built-in ones that none of them replaces by name."""
    names = {rule.name for rule in configured}
    kept = [rule for rule in BUILTIN_RULES if builtin and rule.name not in names]
    return tuple(rule for rule in (*configured, *kept) if rule.enabled)


def keywords_needed(rules: Iterable[RuleSettings]) -> frozenset[str]:
    """Return the keywords and paths that `decide` looks at under these rules."""
    named = {path for rule in rules for key in rule.when for path in keywords_of(key)}
    fixed = {"Modality", "SOPClassUID", "Manufacturer", "ContrastBolusAgent"}
    return frozenset(named | fixed | {*_PRIORITY_KEYWORDS, *_PHANTOM_KEYWORDS, *_DEVICE_KEYWORDS})


def asks_sender(rules: Iterable[RuleSettings]) -> bool:
    """Tell whether a rule depends on who sent the images."""
    return any(rule.calling_ae or rule.called_ae for rule in rules)


def decide(
    facts: Facts,
    rules: Sequence[RuleSettings],
    own_devices: Collection[str] = (),
    senders: Collection[Sender] = (),
) -> Decision:
    """Decide which models read a series, from the facts of one of its headers.

    Parameters
    ----------
    facts : mapping
        Of the `keywords_needed`.
    rules : sequence of RuleSettings
        In force.
    own_devices : collection of str
        Device UIDs of our models: what bears one is a result.
    senders : collection of Sender
        Who sent images of the series, as far as it is known.
    """
    never = _never_read(facts, own_devices)
    if never:
        return Decision((), (never,))
    asked = [(rule, _why_not(facts, senders, rule)) for rule in rules]
    urgency = next((rule for rule, why in asked if rule.model is None and why is None), None)
    said = urgency.priority if urgency is not None else None
    priority = said or _requested_priority(facts)
    routes: dict[str, Route] = {}
    reasons = []
    for rule, why_not in asked:
        if why_not is not None:
            reasons.append(f"{rule.name}: no, {why_not}")
        elif rule.model is None:
            by = f", by {urgency.name}" if urgency is not None and urgency is not rule else ""
            reasons.append(f"{rule.name}: what other rules route is {priority}{by}")
        elif rule.model in routes:
            reasons.append(f"{rule.name}: {rule.model} is routed by {routes[rule.model].rule}")
        else:
            routes[rule.model] = Route(
                rule.model, rule.priority or priority, rule.shadow, rule.name
            )
            reasons.append(f"{rule.name}: read by {rule.model}, {routes[rule.model].priority}")
    if routes and _text(facts, "ContrastBolusAgent"):
        reasons.append("note: a contrast agent was given (ContrastBolusAgent)")
    return Decision(tuple(routes.values()), tuple(reasons))


def merge(decisions: Iterable[Decision]) -> Decision:
    """Join the decisions for several headers of one series: one route a model.

    A series of projection radiographs often holds a frontal and a lateral view; the frontal one
    decides. Of several routes of a model the result is delivered if one of them delivers, and is as
    urgent as the most urgent of them, whichever header came first.
    """
    routes: dict[str, Route] = {}
    reasons: dict[str, None] = {}
    for decision in decisions:
        for route in decision.routes:
            known = routes.get(route.model)
            routes[route.model] = route if known is None else _joined(known, route)
        reasons.update(dict.fromkeys(decision.reasons))
    return Decision(tuple(routes.values()), tuple(reasons))


def _joined(one: Route, other: Route) -> Route:
    """Return the route of one model for two headers, with the rule that says most of it."""
    first = min(one, other, key=lambda route: (route.shadow, route.priority != "stat"))
    priority: Priority = "stat" if "stat" in (one.priority, other.priority) else "routine"
    return replace(first, priority=priority)


def own_result(facts: Facts, own_devices: Collection[str]) -> str | None:
    """Return the keyword that shows a header to be that of our own result, or None.

    A PACS may replace or remove each of them; one that is left is enough.
    """
    if _text(facts, "Manufacturer").casefold() == MANUFACTURER.casefold():
        return "Manufacturer"
    for keyword in _DEVICE_KEYWORDS:
        if any(uid in own_devices for uid in facts.get(keyword, ())):
            return keyword
    return None


def is_no_image(sop_class_uid: str) -> bool:
    """Tell whether a SOP class holds no image."""
    return sop_class_uid.startswith(_NO_IMAGE_CLASSES)


def is_capture(sop_class_uid: str) -> bool:
    """Tell whether a SOP class is one of the Secondary Capture classes (PS3.3 A.8)."""
    return sop_class_uid == _CAPTURE or sop_class_uid.startswith(f"{_CAPTURE}.")


def _never_read(facts: Facts, own_devices: Collection[str]) -> str | None:
    modality, sop_class = _text(facts, "Modality").upper(), _text(facts, "SOPClassUID")
    if sign := own_result(facts, own_devices):
        return f"never read: a result of Preread's own ({sign})"
    if modality in _NO_IMAGE:
        return f"never read: Modality {modality} is no image to read"
    if is_no_image(sop_class):
        return f"never read: SOP class {sop_class} is no image"
    # The word PHANTOM in a name or description says nothing: only the declaration counts.
    for keyword in _PHANTOM_KEYWORDS:
        if _text(facts, keyword).upper() == "YES":
            return f"never read: a quality control image ({keyword} is YES)"
    return None


def _requested_priority(facts: Facts) -> Priority:
    found = {_text(facts, keyword).upper() for keyword in _PRIORITY_KEYWORDS}
    return "stat" if found & _URGENT else "routine"


def _why_not(facts: Facts, senders: Collection[Sender], rule: RuleSettings) -> str | None:
    """Return why a rule does not hold, None if it does."""
    why_not = unmatched(senders, rule.calling_ae, rule.called_ae)
    if why_not is not None:
        return why_not
    mismatch = unmet(facts, rule.when)
    return None if mismatch is None else _explain(mismatch)


def _explain(mismatch: Mismatch) -> str:
    # Explanations are stored and shown: who the patient is has no place in them.
    named = mismatch.keyword.replace("PatientOrientation", "")
    if "Patient" in named:
        return f"{mismatch.keyword} does not match"
    shown, asked = "\\".join(mismatch.found)[:_LONGEST], mismatch.asked
    if len(asked) > _LONGEST:
        asked = f"{asked[:_LONGEST]}..."
    found = f"is {shown!r}" if shown else "is absent"
    return f"{mismatch.keyword} {found}, asked for {asked}"


def _text(facts: Facts, keyword: str) -> str:
    values = facts.get(keyword, ())
    return values[0].strip() if values else ""
