"""A series as a whole: which of its instances are read, and by which models.

What is never read does not belong to the set of images that an analysis is of. Otherwise a PACS
that puts our results into the series of the images, and sends all back, would make a new set each
time: an analysis, and a result, for each result.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from db.completeness import Sender, SeriesInstance
from db.files import FileStore

from .conditions import Facts
from .errors import Part10Error
from .facts import FactsReader
from .rule_settings import RuleSettings
from .rules import (
    Decision,
    asks_sender,
    decide,
    is_capture,
    is_no_image,
    keywords_needed,
    merge,
    own_result,
)

# Headers that are asked where a series goes: enough to find the frontal view of a radiographic
# examination and to look past the localizer of a CT, few enough for series of a thousand slices.
_MAX_HEADERS = 16
_UNREADABLE = Decision((), ("a header that cannot be read",))
_MIXED = "images of several studies or patients bear this Series Instance UID: read by no model"
_OWN = "never read: results of Preread's own (SOP or Series Instance UID)"


@dataclass(frozen=True, slots=True)
class Own:
    """By what results of our own are known.

    Attributes
    ----------
    sop_instance_uids : frozenset of str
        Instances of the series that this node made.
    device_uids : frozenset of str
        Device UIDs that this node's models have, and had.
    """

    sop_instance_uids: frozenset[str] = frozenset()
    device_uids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Routed:
    """Where a series goes, and the instances that are read."""

    decision: Decision
    instances: tuple[SeriesInstance, ...]


class SeriesRouter:
    """Decides about whole series.

    Parameters
    ----------
    files : FileStore
    rules : sequence of RuleSettings
        From `rules_in_force`.

    Attributes
    ----------
    asks_sender : bool
        Whether a rule depends on who sent the images.
    """

    def __init__(self, files: FileStore, rules: Sequence[RuleSettings]) -> None:
        self._files = files
        self._rules = tuple(rules)
        self.asks_sender = asks_sender(self._rules)
        self._facts = FactsReader(keywords_needed(self._rules))

    def route(
        self,
        instances: Sequence[SeriesInstance],
        own: Own,
        same_patient: frozenset[str] = frozenset(),
        senders: Collection[Sender] = (),
    ) -> Routed:
        """Return which models read which of the instances.

        Parameters
        ----------
        instances : sequence of SeriesInstance
            The newest revision of all of a series.
        own : Own
        same_patient : frozenset of str
            Patient IDs that are of one patient, after a correction of the study.
        senders : collection of Sender
            Who sent images of the series, as far as it is known.
        """
        foreign = [one for one in instances if one.sop_instance_uid not in own.sop_instance_uids]
        if not foreign:
            return Routed(Decision((), (_OWN,)), ())
        images = [one for one in foreign if not is_no_image(one.sop_class_uid)] or foreign
        if len({(one.study_instance_uid, _patient(one, same_patient)) for one in images}) > 1:
            # Read as one series, the images of one patient would speak for another.
            return Routed(Decision((), (_MIXED,)), tuple(images))
        asked = self._headers(_sample(images))
        left_out = _own_among(asked, own)
        if left_out:
            # Where one of our own is, there may be others.
            left_out = _own_among(self._headers(images), own)
        read = tuple(one for one in images if one.sop_instance_uid not in left_out)
        # Most of them say the same, and are the same object.
        different = {id(facts): facts for facts in asked.values()}.values()
        decision = merge(
            _UNREADABLE if facts is None else decide(facts, self._rules, own.device_uids, senders)
            for facts in different
        )
        if read and (aside := len(instances) - len(read)):
            note = f"note: {aside} of {len(instances)} instances left out: no image, or our own"
            decision = Decision(decision.routes, (*decision.reasons, note))
        return Routed(decision, read)

    def _headers(self, instances: Sequence[SeriesInstance]) -> dict[str, Facts | None]:
        return {one.sop_instance_uid: self._read(one) for one in instances}

    def _read(self, instance: SeriesInstance) -> Facts | None:
        try:
            return self._facts.read(self._files.absolute(instance.path))
        except Part10Error:
            # Kept as received, but pydicom cannot read it: trying again would change nothing.
            return None


def _patient(instance: SeriesInstance, same: frozenset[str]) -> str | None:
    """Return the Patient ID, one for all of `same`."""
    return min(same) if (instance.patient_id or "") in same else instance.patient_id


def _sample(images: Sequence[SeriesInstance]) -> list[SeriesInstance]:
    """Return the images whose headers are asked, in their order.

    Of our results only captures have pixels, so that every capture is asked whether it is one.
    """
    step = max(1, -(-len(images) // _MAX_HEADERS))
    return [
        one
        for index, one in enumerate(images)
        if index % step == 0 or is_capture(one.sop_class_uid)
    ]


def _own_among(headers: dict[str, Facts | None], own: Own) -> frozenset[str]:
    return frozenset(
        uid
        for uid, facts in headers.items()
        if facts is not None and own_result(facts, own.device_uids)
    )
