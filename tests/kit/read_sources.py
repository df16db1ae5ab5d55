"""Readings of varied sources: made-up findings over the real pixels, pictured as readers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from varied_sources import VariedSource

from inference import codes
from inference.display import pixel_aspect, show_radiograph, show_slice, window_text
from inference.functional_groups import frame_element, numbers
from inference.image_file import frame_count
from inference.input_spec import InputSpec
from inference.objects import DeviceIdentity, ReportClass, object_bytes
from inference.objects.fallback import as_class
from inference.pixels import hounsfield_values, radiograph_values
from inference.reading import (
    Code,
    Finding,
    Illustration,
    Label,
    Mask,
    ModelIdentity,
    Reading,
    Scope,
    Thresholds,
)
from inference.result_objects import ResultBasis, ResultObjects, make_objects
from inference.windows import BRAIN, SUBDURAL, Window

CREATED_AT: Final = datetime(2026, 3, 1, 22, 20, 30, tzinfo=UTC)
DEVICE: Final = DeviceIdentity("PREREAD", "Preread", "preread", "0.1.0", "SN-0001")
CHEST_MODEL: Final = ModelIdentity("pneumothorax", "1.0.0", "a" * 64)
HEAD_MODEL: Final = ModelIdentity("hemorrhage", "2.1.0", "b" * 64)
PNEUMOTHORAX: Final = Label(
    "pneumothorax", codes.PNEUMOTHORAX, Thresholds(0.152, 0.857), codes.PLEURA
)
_LIMITS: Final = Thresholds(0.2, 0.5)
_BLEEDS: Final[Mapping[str, tuple[Code, Code]]] = {
    "any": (codes.INTRACRANIAL_HEMORRHAGE, codes.INTRACRANIAL),
    "epidural": (codes.EPIDURAL_HEMORRHAGE, codes.INTRACRANIAL),
    "intraparenchymal": (codes.CEREBRAL_HEMORRHAGE, codes.BRAIN),
    "intraventricular": (codes.INTRACRANIAL_HEMORRHAGE, codes.BRAIN_VENTRICLE),
    "subarachnoid": (codes.SUBARACHNOID_HEMORRHAGE, codes.SUBARACHNOID_SPACE),
    "subdural": (codes.SUBDURAL_HEMORRHAGE, codes.INTRACRANIAL),
}
HEMORRHAGE: Final = tuple(
    Label(name, code, _LIMITS, site) for name, (code, site) in _BLEEDS.items()
)
# Of the labels above: Present, Absent, Present, Undetermined, Absent, Present.
_BLEEDING: Final = (0.97, 0.03, 0.94, 0.31, 0.02, 0.61)
PRESENT, UNDETERMINED, ABSENT = 0.93, 0.5, 0.02
REPORTS: Final = ("sr", "sr-comprehensive", "sr-enhanced")


def header_of(path: Path) -> Dataset:
    """Read a header as the analyst does."""
    return dcmread(path, stop_before_pixels=True, force=True)


def read(source: VariedSource, probability: float = PRESENT, **changes: Any) -> ResultBasis:
    """Return what the objects of a source are made of: bleeds in a CT, a pneumothorax elsewhere.

    Parameters
    ----------
    source : VariedSource
    probability : float
        Of the pneumothorax; of a CT a low one makes all labels absent.
    changes
        Other attributes of the basis.
    """
    reading = _bleeds(source, probability) if source.is_ct else _film(source, probability)
    return _basis(source, {"reading": reading} | changes)


def refused(source: VariedSource, code: str, reason: str, **changes: Any) -> ResultBasis:
    """Return what the objects of a source are made of that was not analysed."""
    return _basis(source, {"not_analysed": (code, reason)} | changes)


def files_of(result: ResultObjects) -> dict[str, bytes]:
    """Return the files of all objects by name, and of the report in its other SOP classes."""
    files: dict[str, bytes] = {}
    for made in result.made:
        assert made.fault is None, made.fault
        number = sum(name.startswith(made.kind) for name in files)
        files[f"{made.kind}{number + 1 if made.kind == 'sc' else ''}"] = object_bytes(made.dataset)
    stored = dcmread(BytesIO(files["sr"]))
    for name, sop_class in zip(REPORTS[1:], list(ReportClass)[1:], strict=True):
        files[name] = object_bytes(as_class(stored, sop_class))
    return files


@dataclass(frozen=True)
class Made:
    """One source, what was read of it and the files of all objects made of that."""

    source: VariedSource
    basis: ResultBasis

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Files by name."""
        return files_of(make_objects(self.basis))

    @cached_property
    def stored(self) -> dict[str, Dataset]:
        """The objects as they are read back."""
        return {name: dcmread(BytesIO(data)) for name, data in self.files.items()}

    @property
    def image(self) -> Dataset:
        """Header of the first image."""
        return self.basis.sources[0]


def raw_name(file: Path | BytesIO) -> bytes:
    """Return the bytes of Patient's Name as they stand in a file."""
    element = dcmread(file, stop_before_pixels=True).get_item("PatientName")
    return b"" if element is None else bytes(element.value or b"")


def terms(ds: Dataset) -> list[str]:
    """Return the character set; the legal empty first value is ISO 2022 IR 6 (PS3.3 C.12.1.1.2)."""
    value = ds.get("SpecificCharacterSet")
    listed = [value] if isinstance(value, str) else list(value or ())
    return [term or "ISO 2022 IR 6" for term in listed] if len(listed) > 1 else listed


def _basis(source: VariedSource, changes: Mapping[str, Any]) -> ResultBasis:
    basis = ResultBasis(
        sources=tuple(header_of(path) for path in source.files),
        model=HEAD_MODEL if source.is_ct else CHEST_MODEL,
        device=DEVICE,
        created_at=CREATED_AT,
        not_analysed=("not_an_image", "nobody asked"),
    )
    return replace(basis, **({"not_analysed": None} | dict(changes)))


def _film(source: VariedSource, probability: float) -> Reading:
    (path,) = source.files
    dataset = dcmread(path)
    uid = str(dataset.SOPInstanceUID)
    image = radiograph_values(dataset, 0)
    finding = Finding(PNEUMOTHORAX, Scope.IMAGE, probability, sop_instance_uid=uid)
    shown = Illustration(
        sop_instance_uid=uid,
        frame=0,
        pixels=show_radiograph(image, dataset, 0, InputSpec("radiograph", 64, polarity="chest")),
        pixel_aspect=pixel_aspect(dataset, 0),
        saliency=_saliency(),
        labels=() if finding.presence == "Absent" else (PNEUMOTHORAX.name,),
    )
    masks: tuple[Mask, ...] = ()
    if finding.presence == "Present":
        masks = (Mask(PNEUMOTHORAX.name, uid, 0, _spot(shown.pixels.shape, 0.25)),)
    return Reading((finding,), (uid,), illustrations=(shown,), masks=masks)


def _bleeds(source: VariedSource, probability: float) -> Reading:
    """Show findings in the middle: in slices of files, or in frames of one file."""
    scores = _BLEEDING if probability >= PRESENT else (0.02,) * len(HEMORRHAGE)
    places = [(path, frame) for path in source.files for frame in range(frame_count(dcmread(path)))]
    middle = places[len(places) // 2 - 1 :][:3]
    shown = tuple(
        _slice(path, frame, labels, window)
        for (path, frame), labels, window in zip(
            middle,
            (("any", "intraparenchymal"), ("subdural",), ("any", "intraventricular", "subdural")),
            (BRAIN, SUBDURAL, BRAIN),
            strict=False,
        )
    )
    keys = tuple(dict.fromkeys(one.sop_instance_uid for one in shown))
    series = [
        Finding(label, Scope.SERIES, p, None, keys if p >= _LIMITS.low else ())
        for label, p in zip(HEMORRHAGE, scores, strict=True)
    ]
    used = tuple(str(header_of(path).SOPInstanceUID) for path in source.files)
    slices = [
        Finding(label, Scope.IMAGE, 0.1, sop_instance_uid=uid)
        for uid in used
        for label in HEMORRHAGE
    ]
    if probability < PRESENT:
        shown = tuple(replace(one, labels=(), saliency=None) for one in shown[:1])
    masks = [
        Mask(label, one.sop_instance_uid, one.frame, _spot(one.pixels.shape, radius))
        for one in shown
        for label, radius in (("intraparenchymal", 0.1), ("subdural", 0.2))
        if label in one.labels
    ]
    return Reading((*series, *slices), used, illustrations=shown, masks=tuple(masks))


def _slice(path: Path, frame: int, labels: tuple[str, ...], window: Window) -> Illustration:
    dataset = dcmread(path)
    position = numbers(
        frame_element(dataset, frame, "PlanePositionSequence", "ImagePositionPatient"), 3
    )
    return Illustration(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        frame=frame,
        pixels=show_slice(hounsfield_values(dataset, frame).values, window),
        window=window_text(window),
        pixel_aspect=pixel_aspect(dataset, frame),
        saliency=_saliency(),
        labels=labels,
        position_mm=position[2] if position else None,
    )


def _saliency(size: int = 24) -> NDArray[np.float32]:
    down, across = np.mgrid[0:size, 0:size] / size
    hill = np.exp(-((down - 0.3) ** 2 + (across - 0.7) ** 2) / 0.02)
    return hill.astype(np.float32)


def _spot(shape: Sequence[int], radius: float) -> NDArray[np.bool_]:
    down, across = np.mgrid[0 : shape[0], 0 : shape[1]]
    inside = (down / shape[0] - 0.3) ** 2 + (across / shape[1] - 0.7) ** 2 < radius**2
    return np.asarray(inside, dtype=np.bool_)
