"""What was found, as the database keeps it."""

from __future__ import annotations

from db.outcomes import FindingRecord, MeasurementRecord

from .reading import Finding, Measurement


def finding_record(finding: Finding) -> FindingRecord:
    """Return a finding as it is stored."""
    label, made = finding.label, finding.made_with
    return FindingRecord(
        label=label.name,
        code_value=label.code.value,
        code_scheme=label.code.scheme,
        code_meaning=label.code.meaning,
        scope=finding.scope,
        sop_instance_uid=finding.sop_instance_uid,
        probability=finding.probability,
        threshold_low=label.thresholds.low,
        threshold_high=label.thresholds.high,
        presence=finding.presence,
        key_sop_instance_uid=next(iter(finding.key_sop_instance_uids), finding.sop_instance_uid),
        engine=None if made is None else made.engine,
        engine_version=None if made is None else made.version,
        engine_device=None if made is None else made.device,
        engine_precision=None if made is None else made.precision,
        engine_batch=None if made is None else made.batch,
    )


def measurement_record(measurement: Measurement) -> MeasurementRecord:
    """Return a measurement as it is stored."""
    quantity = measurement.quantity
    return MeasurementRecord(
        label=measurement.label,
        code_value=quantity.value,
        code_scheme=quantity.scheme,
        code_meaning=quantity.meaning,
        value=measurement.value,
        unit=measurement.unit.value,
    )
