"""Which images of a data set the bundle will refuse when it is served, by its own criteria.

Whoever trains on small images or on short series should hear of it before the node says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ..criteria import Criteria
from ..errors import NotAnalysableError
from ..reading import NotAnalysed, SourceImage
from ..suitability import check_header, check_stack
from ..volume import Slice, Stack

# What `suitability.check_header` looks at, beside Rows and Columns.
ASKED = (
    "Modality", "BodyPartExamined", "ViewPosition", "ViewCodeSequence", "PatientOrientation",
    "QualityControlSubject", "QualityControlImage", "PatientName", "PatientID",
    "ContrastBolusAgent", "ContrastBolusAgentSequence", "ConvolutionKernel",
)  # fmt: skip
# An image that is not refused.
ACCEPTED = -1
_CODES = tuple(NotAnalysed)
# Which key of [model.suitability] lets in what was refused.
_KEYS = {
    NotAnalysed.NOT_AN_IMAGE: "min_rows",
    NotAnalysed.WRONG_MODALITY: "modalities",
    NotAnalysed.WRONG_BODY_PART: "body_parts",
    NotAnalysed.WRONG_VIEW: "refused_views",
    NotAnalysed.CONTRAST: "contrast",
    NotAnalysed.KERNEL: "kernels",
    NotAnalysed.TOO_FEW_SLICES: "min_slices and min_coverage_mm",
    NotAnalysed.MISSING_SLICES: "max_gap",
    NotAnalysed.DUPLICATE_SLICES: "max_duplicates",
    NotAnalysed.UNEVEN_SPACING: "max_spacing_deviation",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """How many images or series of a data set are refused for one reason.

    Attributes
    ----------
    code : NotAnalysed
    what : {"images", "series"}
    count, of : int
        So many of so many.
    reason : str
        What the model asks for, without a value of any header.
    """

    code: NotAnalysed
    what: str
    count: int
    of: int
    reason: str

    @property
    def text(self) -> str:
        """One sentence: how many, why, and what to do."""
        key = _KEYS.get(self.code)
        way = f"; to have such {self.what} read, set {key} under [model.suitability]" if key else ""
        return (
            f"{self.count:,} of {self.of:,} {self.what} of the data will be refused by the node "
            f"as {self.code}: {self.reason}{way}"
        )


def refusal(header: Dataset, criteria: Criteria) -> int:
    """Return the number of the reason for which an image is refused, or `ACCEPTED`."""
    try:
        check_header(header, criteria)
    except NotAnalysableError as error:
        return _CODES.index(NotAnalysed(error.code))
    return ACCEPTED


def refusals(
    refused: NDArray[np.int8],
    series: NDArray[np.int64],
    positions: NDArray[np.float64],
    thickness: NDArray[np.float64],
    criteria: Criteria,
    by_series: bool,
) -> tuple[Refused, ...]:
    """Count what is refused, images before series.

    Parameters
    ----------
    refused : ndarray of int8, (images,)
        Of each image what `refusal` returned.
    series : ndarray of int64, (images,)
    positions, thickness : ndarray of float64, (images,)
        Along the normal of the slice, and of the slice, in mm.
    criteria : Criteria
    by_series : bool
        Whether the model reads whole series. Every image of one counts as a slice of it.
    """
    found = []
    for code, count in zip(*np.unique(refused[refused >= 0], return_counts=True), strict=True):
        why = _CODES[int(code)]
        found.append(Refused(why, "images", int(count), len(refused), _asked(why, criteria)))
    if by_series:
        reasons = list(_series_refusals(series, positions, thickness, criteria))
        for why in dict.fromkeys(one for one in reasons if one is not None):
            count = reasons.count(why)
            found.append(Refused(why, "series", count, len(reasons), _asked(why, criteria)))
    return tuple(found)


def _series_refusals(
    series: NDArray[np.int64],
    positions: NDArray[np.float64],
    thickness: NDArray[np.float64],
    criteria: Criteria,
) -> Iterator[NotAnalysed | None]:
    order = np.lexsort((positions, series))
    for rows in np.split(order, np.flatnonzero(np.diff(series[order])) + 1):
        try:
            check_stack(_stack(positions[rows], float(thickness[rows[-1]])), criteria)
        except NotAnalysableError as error:
            yield NotAnalysed(error.code)
        else:
            yield None


def _stack(positions_mm: NDArray[np.float64], thickness: float) -> Stack:
    """Return slices of which only number, positions and thickness are known."""
    image = SourceImage(0, "", "", "", Path())
    one = Slice(image, 0, 0, 0, 0, None, None, None, thickness or None, None, localizer=False)
    return Stack((one,) * len(positions_mm), positions_mm, {}, None)


def _asked(code: NotAnalysed, criteria: Criteria) -> str:
    """Return what the model asks for where something is refused for `code`."""
    said = {
        NotAnalysed.NOT_AN_IMAGE: f"a side of fewer than {criteria.min_rows} pixels",
        NotAnalysed.NOT_A_PATIENT: "declared to be of a phantom",
        NotAnalysed.WRONG_MODALITY: "Modality (0008,0060) is none of "
        f"{', '.join(criteria.modalities)}",
        NotAnalysed.WRONG_BODY_PART: "Body Part Examined (0018,0015) is none of "
        f"{', '.join(criteria.body_parts)}",
        NotAnalysed.WRONG_VIEW: f"the view is one of {', '.join(criteria.refused_views)}",
        NotAnalysed.TOO_FEW_SLICES: f"fewer than {criteria.min_slices} slices, or less than "
        f"{criteria.min_coverage_mm:g} mm of the patient",
        NotAnalysed.MISSING_SLICES: "slices are missing between others (a distance of more than "
        f"{criteria.max_gap:g} times those beside it)",
    }
    return said.get(code, f"see {_KEYS.get(code, 'the criteria')} in the bundle")
