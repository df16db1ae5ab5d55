"""From slices to the volume that a network sees, and from its maps back to slices.

Everything is computed where it is told to: values go to the device slice by slice, each into its
place in the grid. Two volumes are in memory at most, three where intensities are scaled first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from . import intensity
from .errors import NotAnalysableError
from .reading import NotAnalysed
from .volume_grid import Axes, Axis, Geometry, Matrix, axes_of, weights, weights_within
from .volume_spec import VolumeSpec

Slices = Iterable[NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """What a network sees of a stack.

    Attributes
    ----------
    tensor : Tensor of float32, (1, channels, x, y, z)
    axes : (Axis, Axis, Axis)
        Where x, y and z lie.
    """

    tensor: torch.Tensor
    axes: Axes

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(np.prod([abs(axis.step) for axis in self.axes])) / 1000.0


def prepare_volume(
    slices: Slices, geometry: Geometry, spec: VolumeSpec, device: torch.device
) -> Volume:
    """Make the input of a network of volumes.

    Parameters
    ----------
    slices : iterable of ndarray of float32, (rows, columns)
        HU of the first slice of each place, in their order.
    geometry : Geometry
    spec : VolumeSpec
    device : torch.device
        Where to compute and leave the result.

    Raises
    ------
    NotAnalysableError
        UNSUPPORTED_PIXELS if all values are one.
    """
    planes: Iterable[torch.Tensor] = (_moved(one, device) for one in slices)
    if spec.intensity_at == "first":
        planes = intensity.apply(_together(planes, len(geometry.opening)), spec.intensity)
    axes = axes_of(geometry, spec)
    values = _resampled(planes, geometry, axes, spec)
    if not bool(values.amax() > values.amin()):
        raise NotAnalysableError(
            NotAnalysed.UNSUPPORTED_PIXELS, "the volume has no contrast: all values are one"
        )
    if spec.intensity_at == "spaced":
        values = intensity.apply(values, spec.intensity)
    values, axes = _sized(values, axes, spec)
    if spec.intensity_at == "last":
        values = intensity.apply(values, spec.intensity)
    if spec.crop_foreground:
        values, axes = _foreground(values, axes)
    return Volume(values.expand(1, spec.channels, *values.shape).contiguous(), axes)


def slice_of(
    maps: torch.Tensor, volume_axes: Axes, geometry: Geometry, number: int
) -> NDArray[np.float32]:
    """Return maps over a volume as they lie in one slice: linear between voxels, zero outside.

    Parameters
    ----------
    maps : Tensor of float32, (labels, x, y, z)
    volume_axes : (Axis, Axis, Axis)
        Where x, y and z lie.
    geometry : Geometry
    number : int
        Which slice.

    Returns
    -------
    ndarray of float32, (labels, rows, columns)
    """
    along, down, right = _by_source(volume_axes)
    stack = maps.permute(0, *(1 + n for n in _order(volume_axes)))
    across = weights_within(geometry.along[number : number + 1], along)[0]
    used = np.flatnonzero(across)
    rows, columns = geometry.shape
    if used.size == 0:
        return np.zeros((maps.shape[0], rows, columns), dtype=np.float32)
    part = stack[:, int(used[0]) : int(used[-1]) + 1]
    share = torch.from_numpy(across[used[0] : used[-1] + 1]).to(part)
    plane = torch.tensordot(part, share, dims=([1], [0]))
    to_rows = torch.from_numpy(weights_within(geometry.pixels(1, number), down)).to(plane)
    to_columns = torch.from_numpy(weights_within(geometry.pixels(2, number), right)).to(plane)
    found: NDArray[np.float32] = (to_rows @ plane @ to_columns.T).cpu().numpy()
    return found


def seen(axes: Axes, geometry: Geometry) -> torch.Tensor | None:
    """Return which voxels lie in the picture of a slice; None if all of them do.

    Parameters
    ----------
    axes : (Axis, Axis, Axis)
        Of a volume.

    Returns
    -------
    Tensor of bool, (x, y, z), or None
    """
    if not geometry.shifted:
        return None
    along, down, right = _by_source(axes)
    opening = geometry.opening
    covers = []
    for axis, first, number in ((down, geometry.down, 0), (right, geometry.right, 1)):
        start = np.interp(along.positions, geometry.along[opening], first[opening])[:, None]
        step, count = geometry.spacing[number], geometry.shape[number]
        at = axis.positions[None, :]
        covers.append((at >= start - step / 2) & (at <= start + step * (count - 0.5)))
    inside = covers[0][:, :, None] & covers[1][:, None, :]
    return torch.from_numpy(inside).permute(*(axis.source for axis in axes))


def _moved(values: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


def _resampled(
    planes: Iterable[torch.Tensor], geometry: Geometry, axes: Axes, spec: VolumeSpec
) -> torch.Tensor:
    """Resample first in each plane, then across them, and put the axes into their order."""
    along, down, right = _by_source(axes)
    smooth = spec.antialias
    fitted = (
        to_rows.to(plane) @ plane @ to_columns.to(plane).T
        for plane, to_rows, to_columns in zip(
            planes,
            _of_slices(geometry, 1, down, smooth),
            _of_slices(geometry, 2, right, smooth),
            strict=True,
        )
    )
    stack = _together(fitted, len(geometry.opening))
    places = geometry.along[geometry.opening]
    across = _weights(along, places, smooth)
    values: torch.Tensor = torch.tensordot(
        torch.from_numpy(across).to(stack), stack, dims=([1], [0])
    )
    return values.permute(*(axis.source for axis in axes))


def _together(planes: Iterable[torch.Tensor], count: int) -> torch.Tensor:
    """Put planes into one tensor as they come: neither slices nor a second copy pile up."""
    stack: torch.Tensor | None = None
    for number, plane in enumerate(planes):
        if stack is None:
            stack = plane.new_empty((count, *plane.shape))
        stack[number] = plane
    assert stack is not None, "a stack has slices"
    return stack


def _of_slices(geometry: Geometry, source: int, axis: Axis, smooth: bool) -> Iterator[torch.Tensor]:
    """Yield the matrix of each place along one axis of its plane; one and the same if it can be."""
    matrix: torch.Tensor | None = None
    for number in geometry.opening:
        if matrix is None or geometry.shifted:
            pixels = geometry.pixels(source, int(number))
            matrix = torch.from_numpy(_weights(axis, pixels, smooth))
        yield matrix


def _weights(axis: Axis, samples: NDArray[np.float64], smooth: bool) -> Matrix:
    return weights(axis.positions, samples, abs(axis.step) if smooth else None)


def _by_source(axes: Axes) -> Axes:
    """Return the axes in the order of the stack: along the normal, down, right."""
    along, down, right = sorted(axes, key=lambda axis: axis.source)
    return along, down, right


def _order(axes: Axes) -> list[int]:
    """Return which axis of the volume each axis of the stack is."""
    return [int(n) for n in np.argsort([axis.source for axis in axes])]


def _sized(values: torch.Tensor, axes: Axes, spec: VolumeSpec) -> tuple[torch.Tensor, Axes]:
    """Bring a volume, (x, y, z), to the size asked for."""
    if spec.size is None:
        return values, axes
    if spec.fit == "stretch":
        if spec.resize == "area":
            fitted = F.interpolate(values[None, None], size=spec.size, mode="area")
        else:
            fitted = F.interpolate(
                values[None, None], size=spec.size, mode="trilinear", align_corners=False
            )
        a, b, c = (axis.stretched(n) for axis, n in zip(axes, spec.size, strict=True))
        return fitted[0, 0], (a, b, c)
    firsts = [
        -((n - axis.count) // 2) if n > axis.count else axis.count // 2 - n // 2
        for axis, n in zip(axes, spec.size, strict=True)
    ]
    pads: list[int] = []
    for axis, first, n in zip(reversed(axes), reversed(firsts), reversed(spec.size), strict=True):
        pads += [-first, n - axis.count + first]
    a, b, c = (axis.part(f, n) for axis, f, n in zip(axes, firsts, spec.size, strict=True))
    return F.pad(values, pads), (a, b, c)


def _foreground(values: torch.Tensor, axes: Axes) -> tuple[torch.Tensor, Axes]:
    """Cut to the box around what is above zero; all of it where nothing is."""
    kept: Sequence[slice] = [
        _bounds((values > 0).amax(dim=[other for other in range(3) if other != number]))
        for number in range(3)
    ]
    a, b, c = (
        axis.part(one.start, one.stop - one.start) for axis, one in zip(axes, kept, strict=True)
    )
    return values[tuple(kept)], (a, b, c)


def _bounds(line: torch.Tensor) -> slice:
    where = line.nonzero()
    if where.numel() == 0:
        return slice(0, line.numel())
    return slice(int(where[0]), int(where[-1]) + 1)
