"""The content tree of a report: TID 1500 Measurement Report (PS3.16)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset

from .. import codes
from ..errors import ObjectError
from ..reading import Code, Finding, Label, ModelIdentity, NotAnalysed, Presence
from . import uids
from .concepts import concept
from .content import DeviceIdentity, shown
from .library import image_library
from .report import CAPTURE, ReportContent, percent

COMMENT = (
    "Not for primary diagnosis. Result of artificial intelligence, unverified: "
    "no physician has confirmed it."
)

_CONTAINS = RelationshipTypeValues.CONTAINS
_HAS_CONCEPT_MOD = RelationshipTypeValues.HAS_CONCEPT_MOD


def content_tree(content: ReportContent) -> ContainerContentItem:
    """Return the root container of the report, TID 1500.

    A reading gives one measurement group per reported finding and a sentence for each; images
    that were not analysed give a coded status and reason, and no probability.
    """
    root = ContainerContentItem(concept(codes.REPORT), template_id="1500")
    items = ContentSequence(is_root=False)
    items.extend(LanguageOfContentItemAndDescendants(concept(codes.ENGLISH)))
    items.extend(_observer(content.device, content.model))
    items.append(_code(codes.PROCEDURE_REPORTED, _procedure(content), _HAS_CONCEPT_MOD))
    items.append(image_library(_key_images(content)))
    if content.reported:
        items.append(_measurements(content))
    items.append(_evaluations(content))
    root.ContentSequence = items
    return root


def _observer(device: DeviceIdentity, model: ModelIdentity) -> ObservationContext:
    """TID 1001, 1002, 1004: the node running this very model is the device that observed."""
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=concept(codes.DEVICE),
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=uids.device_uid(model),
                name=device.name,
                manufacturer_name=device.manufacturer,
                model_name=device.model_name,
                serial_number=device.serial_number,
            ),
        )
    )


def _procedure(content: ReportContent) -> Code:
    is_ct = content.sources[0].get("Modality") == "CT"
    return codes.CT_PROCEDURE if is_ct else codes.IMAGING_PROCEDURE


def _key_images(content: ReportContent) -> list[Dataset]:
    """Return the images that findings point at, in the order of the sources; never none."""
    wanted = {uid for finding in content.reported for uid in shown(finding)}
    key = [source for source in content.sources if source.SOPInstanceUID in wanted]
    return key or [content.sources[0]]


def _measurements(content: ReportContent) -> ContainerContentItem:
    container = _container(codes.IMAGING_MEASUREMENTS)
    inputs = content.inputs
    classes = {str(s.SOPInstanceUID): str(s.SOPClassUID) for s in content.sources}
    for finding in content.reported:
        container.ContentSequence.extend(_group(finding, content, inputs, classes))
    return container


def _group(
    finding: Finding, content: ReportContent, inputs: str, classes: dict[str, str]
) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501: what one label is, and how probable.

    Finding (121071) stands in the group only when present: viewers list it as a finding.
    """
    label, presence, model = finding.label, finding.presence, content.model
    sites = None if label.site is None else [FindingSite(concept(label.site))]
    identifier, uid = content.tracking(finding, inputs)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid, identifier=identifier),
        finding_type=concept(label.code) if presence is Presence.PRESENT else None,
        finding_sites=sites,
        algorithm_id=_algorithm(finding, model),
        measurements=[
            _number(codes.PROBABILITY, _percent(finding), codes.PERCENT, label),
            *(_number(m.quantity, m.value, m.unit, label) for m in content.measured(finding)),
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(concept(label.code), concept(codes.PRESENCE[presence]))
        ],
    )
    items = group[0].ContentSequence
    for image in shown(finding):
        items.append(SourceImageForMeasurementGroup(classes[image], image))
    for companion in content.companions:
        items.extend(_illustrations(companion, uid))
    return group


def _illustrations(companion: Dataset, tracking: str) -> Iterator[ContentItem]:
    """Yield references of a group to what shows it: captures, its segment of a segmentation.

    The group stays TID 1501, whose images may have any purpose. Naming the segment (121191) would
    make it TID 1411, and PixelMed's validator then holds every group of the report to be one, those
    of absent findings without a segment included.
    """
    if companion.SOPClassUID == CAPTURE:
        if is_shown_by(companion, tracking):
            yield _image(companion)
        return
    for segment in companion.get("SegmentSequence") or ():
        if segment.get("TrackingUID") == tracking:
            yield _image(companion, int(segment.SegmentNumber))


def is_shown_by(capture: Dataset, tracking: str) -> bool:
    """Tell whether a capture shows an observation: Image Comments has its tracking UID."""
    return tracking in str(capture.get("ImageComments") or "").split()


def _image(companion: Dataset, segment: int | None = None) -> ImageContentItem:
    item = ImageContentItem(
        name=concept(codes.ILLUSTRATION),
        referenced_sop_class_uid=companion.SOPClassUID,
        referenced_sop_instance_uid=companion.SOPInstanceUID,
        referenced_segment_numbers=segment,
        relationship_type=_CONTAINS,
    )
    return item


def _algorithm(finding: Finding, model: ModelIdentity) -> AlgorithmIdentification:
    """TID 4019."""
    thresholds = finding.label.thresholds
    return AlgorithmIdentification(
        name=model.name,
        version=model.version,
        manufacturer=model.manufacturer,
        family=concept(codes.ARTIFICIAL_INTELLIGENCE),
        parameters=[
            f"present_from={thresholds.high!r}",
            f"absent_below={thresholds.low!r}",
            f"weights_sha256={model.weights_sha256}",
        ],
    )


def _percent(finding: Finding) -> float:
    return percent(finding.probability, finding.label.thresholds)


def _number(name: Code, value: float, unit: Code, label: Label) -> Measurement:
    """TID 300, with the label as its modifier: a viewer shows numbers without their group."""
    measurement = Measurement(name=concept(name), value=value, unit=concept(unit))
    measurement[0].ContentSequence = ContentSequence(
        [_code(codes.FINDING, label.code, _HAS_CONCEPT_MOD)]
    )
    return measurement


def _evaluations(content: ReportContent) -> ContainerContentItem:
    """TID 1500 rows 12 to 14: the result in words, or why there is none."""
    container = _container(codes.QUALITATIVE_EVALUATIONS)
    items = container.ContentSequence
    if content.not_analysed is not None:
        code, reason = content.not_analysed
        items.append(_code(codes.SUMMARY_OF_ANALYSES, codes.NOT_ATTEMPTED, _CONTAINS))
        items.append(_code(codes.REASON_NOT_ANALYSED, _reason(code), _CONTAINS))
        sentence = f"Not analyzed by {content.model.name} {content.model.version}: {reason}"
        items.append(_text(codes.CONCLUSION, sentence))
    for finding in content.reported:
        items.append(_text(codes.CONCLUSION, conclusion(finding, content)))
    items.append(_text(codes.COMMENT, COMMENT))
    inputs = content.inputs if content.companions else ""
    tracked = [content.tracking(finding, inputs)[1] for finding in content.reported]
    for companion in content.companions:
        # What shows no finding, such as a card that says why there is none, belongs to no group.
        if not any(list(_illustrations(companion, uid)) for uid in tracked):
            items.append(_image(companion))
            del items[-1].ConceptNameCodeSequence  # it illustrates no region of interest
    return container


def conclusion(finding: Finding, content: ReportContent) -> str:
    """Return one sentence that says it all: dsr2html and many viewers print nothing else.

    The image is named where one label has several.
    """
    label, limits = finding.label, finding.label.thresholds
    others = [f for f in content.reported if f is not finding]
    what = content.title(finding)
    if finding.sop_instance_uid and any(f.label.name == label.name for f in others):
        what += f" in image {finding.sop_instance_uid}"
    probability = _short(_percent(finding))
    high, low = _short(100 * limits.high), _short(100 * limits.low)
    measured = "".join(
        f", {m.quantity.meaning.lower()} {_short(m.value)} {m.unit.value}"
        for m in content.measured(finding)
    )
    return (
        f"{what}: {finding.presence}, AI probability {probability} %"
        f" (Present from {high} %, Absent below {low} %){measured}."
    )


def _short(value: float) -> str:
    return f"{round(value, 12):.12f}".rstrip("0").rstrip(".")


def _reason(code: str) -> Code:
    try:
        return codes.NOT_ANALYSED[NotAnalysed(code)]
    except (KeyError, ValueError):
        raise ObjectError(
            f"{code!r} is no code for images that were not analysed; see NotAnalysed"
        ) from None


def ascii_text(text: str) -> str:
    """Return text that reads the same in every character set: the node adds ASCII only.

    The backslash separates values and is a yen sign in ISO_IR 13; the tilde an overline.
    """
    plain = unicodedata.normalize("NFKD", text.replace("\\", "/").replace("~", "-"))
    plain = "".join(mark for mark in plain if not unicodedata.combining(mark))
    return " ".join(plain.encode("ascii", "replace").decode("ascii").split())


def _container(name: Code) -> ContainerContentItem:
    item = ContainerContentItem(concept(name), relationship_type=_CONTAINS)
    item.ContentSequence = ContentSequence()
    return item


def _code(name: Code, value: Code, relationship: RelationshipTypeValues) -> ContentItem:
    return CodeContentItem(concept(name), concept(value), relationship)


def _text(name: Code, value: str) -> TextContentItem:
    return TextContentItem(concept(name), ascii_text(value), _CONTAINS)
