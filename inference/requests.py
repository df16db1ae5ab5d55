"""From a complete series and a model to the analysis that is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime

from db.results import AnalysisRequest, RequestedAnalysis

from .bundle import Bundle


def analysis_id(series_instance_uid: str, instance_digest: str, bundle: Bundle) -> str:
    """Return the digest of everything that makes two analyses the same one."""
    identity = bundle.identity
    parts = (
        series_instance_uid,
        instance_digest,
        identity.name,
        identity.version,
        identity.weights_sha256,
        bundle.configuration_digest,
    )
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def request_analysis_of(
    bundle: Bundle,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    instance_ids: tuple[int, ...],
    instance_digest: str,
    priority: str,
    shadow: bool,
    trace_id: str,
    received_at: datetime,
) -> AnalysisRequest:
    """Return the request for `bundle` to read these instances."""
    identity = bundle.identity
    return AnalysisRequest(
        id=analysis_id(series_instance_uid, instance_digest, bundle),
        study_instance_uid=study_instance_uid,
        series_instance_uid=series_instance_uid,
        instance_ids=instance_ids,
        instance_digest=instance_digest,
        model_name=identity.name,
        model_version=identity.version,
        weights_sha256=identity.weights_sha256,
        configuration_digest=bundle.configuration_digest,
        priority=priority,
        shadow=shadow,
        trace_id=trace_id,
        received_at=received_at,
    )


def request_of_installed(bundle: Bundle, earlier: AnalysisRequest) -> AnalysisRequest:
    """Return the request for the same images to be read by a model as it is installed now.

    It has the id of the earlier one if the model is the same still.
    """
    identity = bundle.identity
    return replace(
        earlier,
        id=analysis_id(earlier.series_instance_uid, earlier.instance_digest, bundle),
        model_version=identity.version,
        weights_sha256=identity.weights_sha256,
        configuration_digest=bundle.configuration_digest,
    )


def is_same_model(asked: RequestedAnalysis, bundle: Bundle) -> bool:
    """Tell whether a model is installed as it was when an analysis was asked for."""
    identity = bundle.identity
    return (identity.version, identity.weights_sha256, bundle.configuration_digest) == (
        asked.model_version,
        asked.weights_sha256,
        asked.configuration_digest,
    )
