"""Slices in space: which belong together, in which order, how far apart (PS3.3 C.7.6.2).

The result depends on the images alone, never on the order in which they came. What is unusual is
recorded; whether it is acceptable is for the model's criteria to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from .functional_groups import element, frame_element, number, numbers, whole_number
from .image_file import frame_count
from .reading import SourceImage
from .spacing import gaps, uneven, unique

# Slices are parallel when their normals differ by less than a degree, as scanners round them.
_PARALLEL = float(np.cos(np.radians(1.0)))
# Distance that is assumed where neither positions nor a thickness are known.
_ASSUMED_SPACING_MM = 5.0
# Share of the median by which distances may differ and still be called even.
_EVEN = 0.05

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame of one CT instance, by its header.

    Attributes
    ----------
    frame : int
        From 0; 0 for an image of a single frame.
    position, orientation : tuple of float or None
        Image Position and Image Orientation (Patient): three and six numbers.
    location : float or None
        Slice Location.
    coloured : bool
        More than one sample for a pixel, or a palette: a capture of a screen.
    pixel_spacing : tuple of float or None
        Distance of rows, then of columns, in mm; both above 0.
    """

    image: SourceImage
    frame: int
    rows: int
    columns: int
    instance_number: int
    position: Vector | None
    orientation: Vector | None
    location: float | None
    thickness: float | None
    gantry_tilt: float | None
    localizer: bool
    coloured: bool = False
    pixel_spacing: Vector | None = None

    @property
    def normal(self) -> NDArray[np.float64] | None:
        """Unit normal of the plane, pointing to its patient axis' positive end, or None."""
        return None if self.orientation is None else _normal(self.orientation)


# The slices of a series have the same orientation, and each is asked for its normal several times.
@lru_cache(maxsize=256)
def _normal(orientation: Vector) -> NDArray[np.float64] | None:
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    length = float(np.linalg.norm(normal))
    if not length >= 0.5:  # the row and column directions are not two directions
        return None
    normal = normal / length
    sign = 1.0 if normal[np.argmax(np.abs(normal))] > 0 else -1.0
    made = np.asarray(sign * normal, dtype=np.float64)
    made.setflags(write=False)
    return made


@dataclass(frozen=True, slots=True)
class Stack:
    """Parallel slices in the order of their position.

    Attributes
    ----------
    slices : tuple of Slice
        Ascending along the normal: from the feet to the head for axial slices.
    positions_mm : ndarray of float64, (slices,)
        Position along the normal.
    set_aside : mapping of str to str
        SOP Instance UIDs that do not belong to the stack, and why.
    normal : ndarray of float64, (3,), or None
        Of the planes, where known.
    facts : mapping
        What was observed; JSON-serialisable.
    """

    slices: tuple[Slice, ...]
    positions_mm: NDArray[np.float64]
    set_aside: Mapping[str, str]
    normal: NDArray[np.float64] | None
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def coverage_mm(self) -> float:
        """Extent along the normal, the thickness of the last slice included."""
        if not self.slices:
            return 0.0
        thickness = self.slices[-1].thickness or 0.0
        return float(self.positions_mm[-1] - self.positions_mm[0]) + thickness

    @property
    def duplicate_share(self) -> float:
        """Share (0 to 1) of the slices that lie where another slice lies already."""
        count = len(self.slices)
        return (count - len(unique(self.positions_mm))) / count if count else 0.0

    def uneven(self, share: float) -> list[tuple[float, float]]:
        """Return pairs of positions whose distance differs; see `spacing.uneven`."""
        return uneven(self.positions_mm, share)

    def gaps(self, factor: float) -> list[tuple[float, float]]:
        """Return pairs of positions between which slices are missing; see `spacing.gaps`."""
        return gaps(self.positions_mm, factor)


def slices_of(image: SourceImage, dataset: Dataset) -> list[Slice]:
    """Return the frames of an instance as slices; enhanced images are expanded.

    Raises
    ------
    NotAnalysableError
        UNDECODABLE if the pixel data hold fewer frames than the header says.
    """
    return [_slice(image, dataset, frame) for frame in range(frame_count(dataset))]


def arrange(slices: Sequence[Slice]) -> Stack:
    """Put slices in order.

    Localizers are set aside; of slices in several orientations or matrix sizes, or with captures of
    a screen among them, the largest group is kept. Slices at one position are all kept: a repeated
    acquisition may show what the first missed. Where a slice has no position all are ordered by
    Slice Location, or else by Instance Number, and that is recorded.

    Parameters
    ----------
    slices : sequence of Slice
        In any order.

    Returns
    -------
    Stack
        Without slices if there were none but localizers.
    """
    ordered = sorted(slices, key=_identity)
    set_aside = {s.image.sop_instance_uid: "localizer" for s in ordered if s.localizer}
    images = [s for s in ordered if not s.localizer]
    # Known planes open the groups, unknown ones join: else an unknown one would join all planes.
    groups = _groups(sorted(images, key=lambda s: s.normal is None))
    kept = max(groups, key=len, default=[])
    for group in groups:
        if group is not kept:
            reason = "colour" if group[0].coloured else "other_geometry"
            set_aside |= {s.image.sop_instance_uid: reason for s in group}
    method, positions = _positions(kept)
    order = sorted(range(len(kept)), key=lambda i: (round(positions[i], 3), _identity(kept[i])))
    stacked = tuple(kept[i] for i in order)
    positions_mm = np.array([positions[i] for i in order], dtype=np.float64)
    return Stack(
        slices=stacked,
        positions_mm=positions_mm,
        set_aside=set_aside,
        normal=stacked[0].normal if stacked and method == "position" else None,
        facts=_facts(stacked, positions_mm, method),
    )


def _slice(image: SourceImage, dataset: Dataset, frame: int) -> Slice:
    def of_frame(group: str, keyword: str) -> Any:
        return frame_element(dataset, frame, group, keyword)

    position = numbers(of_frame("PlanePositionSequence", "ImagePositionPatient"), 3)
    orientation = numbers(of_frame("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    kind = of_frame("CTImageFrameTypeSequence", "FrameType") or element(dataset, "ImageType") or ()
    return Slice(
        image=image,
        frame=frame,
        rows=whole_number(dataset, "Rows") or 0,
        columns=whole_number(dataset, "Columns") or 0,
        instance_number=whole_number(dataset, "InstanceNumber") or 0,
        position=position,
        orientation=orientation,
        location=number(element(dataset, "SliceLocation")),
        thickness=number(of_frame("PixelMeasuresSequence", "SliceThickness")),
        pixel_spacing=_spacing(of_frame("PixelMeasuresSequence", "PixelSpacing")),
        gantry_tilt=number(of_frame("CTGeometrySequence", "GantryDetectorTilt")),
        localizer=_is_localizer(kind),
        coloured=_is_coloured(dataset),
    )


def _spacing(value: Any) -> Vector | None:
    spacing = numbers(value, 2)
    return spacing if spacing is not None and min(spacing) > 0.0 else None


def _is_localizer(kind: Any) -> bool:
    values = kind if isinstance(kind, Iterable) and not isinstance(kind, (str, bytes)) else [kind]
    return "LOCALIZER" in values


def _is_coloured(dataset: Dataset) -> bool:
    samples = whole_number(dataset, "SamplesPerPixel") or 1
    return samples > 1 or element(dataset, "PhotometricInterpretation") == "PALETTE COLOR"


def _identity(one: Slice) -> tuple[int, str, int]:
    return one.instance_number, one.image.sop_instance_uid, one.frame


def _groups(slices: Sequence[Slice]) -> list[list[Slice]]:
    groups: list[list[Slice]] = []
    for one in slices:
        for group in groups:
            if _same_geometry(one, group[0]):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _same_geometry(one: Slice, other: Slice) -> bool:
    if (one.rows, one.columns, one.coloured) != (other.rows, other.columns, other.coloured):
        return False
    first, second = one.normal, other.normal
    # A slice whose plane is unknown stays with the others: leaving it out could hide a finding.
    return first is None or second is None or abs(float(first @ second)) >= _PARALLEL


def _positions(slices: Sequence[Slice]) -> tuple[str, list[float]]:
    normal = next((s.normal for s in slices if s.normal is not None), None)
    if normal is not None and all(s.position is not None for s in slices):
        return "position", [float(normal @ np.array(s.position)) for s in slices]
    if slices and all(s.location is not None for s in slices):
        return "slice_location", [s.location for s in slices if s.location is not None]
    spacing = next((s.thickness for s in slices if s.thickness), _ASSUMED_SPACING_MM)
    return "instance_number", [index * spacing for index in range(len(slices))]


def _facts(
    slices: Sequence[Slice], positions_mm: NDArray[np.float64], method: str
) -> dict[str, object]:
    places = unique(positions_mm)
    facts: dict[str, object] = {
        "slices": len(slices),
        "ordered_by": method,
        "duplicate_positions": len(slices) - len(places),
    }
    if len(places) > 1:
        distances = np.diff(places)
        median = float(np.median(distances))
        facts |= {
            "spacing_mm": round(median, 3),
            "spacing_min_mm": round(float(distances.min()), 3),
            "spacing_max_mm": round(float(distances.max()), 3),
            "spacing_even": bool(np.ptp(distances) <= _EVEN * median),
        }
    if (tilt := _only([s.gantry_tilt for s in slices])) is not None:
        facts["gantry_tilt_degrees"] = tilt
    if method == "position" and len(places) > 1:
        facts |= _angles(slices[0], slices[-1])
    return facts


def _angles(first: Slice, last: Slice) -> dict[str, object]:
    """Tilt of the planes against the patient's axis, and shear of the stack against its normal.

    A gantry tilt shows as a tilt with a shear; a plane that was reconstructed oblique has none.
    """
    normal = first.normal
    if normal is None or first.position is None or last.position is None:
        return {}
    track = np.subtract(last.position, first.position)
    along = abs(float(normal @ track)) / float(np.linalg.norm(track))
    return {
        "plane_tilt_degrees": _degrees(float(np.abs(normal).max())),
        "shear_degrees": _degrees(along),
    }


def _degrees(cosine: float) -> float:
    return round(float(np.degrees(np.arccos(min(1.0, cosine)))), 2)


def _only(values: Sequence[float | None]) -> float | None:
    known = {value for value in values if value is not None}
    return known.pop() if len(known) == 1 else None
