"""The same results by highdicom alone, as its documentation shows: no check, no picture drawn.

highdicom has no text for a picture, so the key image goes into its Secondary Capture as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import highdicom as hd
import numpy as np
from cases import Case
from clock import Clock
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom import Dataset, config, dcmread
from pydicom.filewriter import dcmwrite

from inference import codes
from inference.objects.content import reported_findings
from inference.reading import Code, Finding, Illustration

ALL = "all"
_MAKER = "Preread"


def run(case: Case, clock: Clock) -> list[str]:
    """Make and encode the objects of a case; return their kinds."""
    # Reading is no part of it, as it is none of ours.
    headers = [dcmread(path, stop_before_pixels=True, force=True) for path in case.files]
    with clock.step(ALL), config.disable_value_validation():
        by_uid = {str(header.SOPInstanceUID): header for header in headers}
        made = [_capture(by_uid[one.sop_instance_uid], one) for one in case.reading.illustrations]
        made.append(_report(case, headers, by_uid))
        keys = _keys(case, by_uid)
        if len(headers) > 1:
            made.append(_key_objects([*made, *keys], headers))
        for ds in made:
            dcmwrite(BytesIO(), ds, enforce_file_format=True)
    return [str(ds.Modality).lower() for ds in made]


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)


def _keys(case: Case, by_uid: dict[str, Dataset]) -> list[Dataset]:
    found = reported_findings(case.reading.findings)
    return [by_uid[uid] for uid in dict.fromkeys(k for f in found for k in f.key_sop_instance_uids)]


def _capture(header: Dataset, one: Illustration) -> Dataset:
    return hd.sc.SCImage.from_ref_dataset(
        header,
        pixel_array=np.repeat(one.pixels[..., None], 3, axis=2),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=hd.UID(),
        series_number=9002,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_MAKER,
        patient_orientation=("L", "P"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )


def _report(case: Case, headers: Sequence[Dataset], by_uid: dict[str, Dataset]) -> Dataset:
    observer = ObserverContext(
        _concept(codes.DEVICE), DeviceObserverIdentifyingAttributes(hd.UID(), name=_MAKER)
    )
    model = case.bundle.identity
    algorithm = AlgorithmIdentification(
        name=model.name, version=model.version, family=_concept(codes.ARTIFICIAL_INTELLIGENCE)
    )
    groups = [_group(f, algorithm, by_uid) for f in reported_findings(case.reading.findings)]
    tree = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=_concept(codes.IMAGING_PROCEDURE),
        imaging_measurements=groups,
        referenced_images=headers if len(headers) > 1 else None,
    )
    return hd.sr.Comprehensive3DSR(
        evidence=headers,
        content=tree,
        series_instance_uid=hd.UID(),
        series_number=9001,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_MAKER,
    )


def _group(
    finding: Finding, algorithm: AlgorithmIdentification, by_uid: dict[str, Dataset]
) -> MeasurementsAndQualitativeEvaluations:
    label = finding.label
    images = [by_uid[uid] for uid in finding.key_sop_instance_uids]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(hd.UID(), label.name),
        finding_type=_concept(label.code),
        finding_sites=[FindingSite(_concept(label.site))] if label.site else None,
        algorithm_id=algorithm,
        measurements=[
            Measurement(
                _concept(codes.PROBABILITY),
                100 * finding.probability,
                _concept(codes.PERCENT),
            )
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(_concept(label.code), _concept(codes.PRESENCE[finding.presence]))
        ],
        source_images=[SourceImageForMeasurementGroup.from_source_image(i) for i in images],
    )


def _key_objects(selected: Sequence[Dataset], headers: Sequence[Dataset]) -> Dataset:
    content = hd.ko.KeyObjectSelection(_concept(codes.OF_INTEREST), selected)
    return hd.ko.KeyObjectSelectionDocument(
        evidence=selected,
        content=content,
        series_instance_uid=hd.UID(),
        series_number=9003,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_MAKER,
    )
