"""Real head CT slices as a ground to paint on: where brain, fluid and ventricles are, and warps.

One real patient teaches a network what no drawn head does, the noise, the edges and the base of a
skull. The images are the user's own; they are taken to be free of hemorrhage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...errors import InferenceError, NotAnalysableError
from ...image_file import open_image
from ...pixels import hounsfield_values
from ...reading import SourceImage
from ...volume import Slice, arrange, slices_of
from .fields import FloatArray, SmoothField, between, blurred, chance, logistic
from .head import HeadSlice, Push
from .skull import Grid, Places

SIZE, SPACING_MM = 256, 0.95
_GRID = Grid.centred(SIZE, SPACING_MM)
# Soft tissue inside a skull, and what surely is bone, in HU.
_TISSUE, _BONE = (-15.0, 110.0), 150.0
# Less brain than this is the base, the face or the vertex: looked at, not painted on.
_LEAST_BRAIN_MM2 = 2200.0
# Heights between which the lateral ventricles lie, as a share of the slices that show brain; below
# them fluid in the middle is a cistern, or behind the middle the fourth ventricle.
_VENTRICLES = (0.35, 0.85)


@dataclass(frozen=True, slots=True, eq=False)
class RealSeries:
    """A head CT series as it came.

    Attributes
    ----------
    hu : tuple of ndarray of float32, (rows, columns)
        From the lowest up.
    spacings : tuple of (float, float)
        Row and column spacing of each in mm.
    positions_mm : ndarray of float64, (slices,)
    """

    name: str
    hu: tuple[FloatArray, ...]
    spacings: tuple[tuple[float, float], ...]
    positions_mm: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """One real slice on a grid of 256 x 256 pixels of 0.95 mm.

    Attributes
    ----------
    name : str
        Which slice of which series it is, such as ``0/12``: for leaving some out.
    hu, brain, fluid, ventricles : ndarray of float32, (256, 256)
        As of `HeadSlice`.
    half_width, half_length, vertex : float
        Of the brain, in mm.
    """

    name: str
    hu: FloatArray
    brain: FloatArray
    fluid: FloatArray
    ventricles: FloatArray
    centre: tuple[float, float]
    half_width: float
    half_length: float
    vertex: float = 80.0

    @property
    def paintable(self) -> bool:
        """Whether there is enough brain to paint on."""
        return float(self.brain.sum()) * SPACING_MM**2 >= _LEAST_BRAIN_MM2


def read_backgrounds(folders: Sequence[Path]) -> list[Background]:
    """Read the CT series below folders, one series in each.

    Raises
    ------
    InferenceError
        If a folder holds no CT slices that can be decoded; it is named.
    """
    if not folders:
        raise InferenceError("no backgrounds: name at least one folder with a head CT series")
    found: list[Background] = []
    for index, folder in enumerate(folders):
        series = read_series(folder, str(index))
        found += backgrounds_of(series.hu, series.spacings, series.name)
    return found


def read_series(folder: Path, name: str) -> RealSeries:
    """Read the CT series in a folder, ordered by position; files that are no images are passed by.

    Raises
    ------
    InferenceError
        If there are no CT slices, or one cannot be decoded; the file is named.
    """
    slices: list[Slice] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        source = SourceImage(len(slices), str(path), "", "", path)
        try:
            slices += slices_of(source, open_image(path))
        except NotAnalysableError:
            continue  # a licence
    stack = arrange([one for one in slices if one.rows])
    images, spacings = [], []
    for one in stack.slices:
        dataset = open_image(one.image.path)
        try:
            images.append(hounsfield_values(dataset, one.frame).values)
        except NotAnalysableError as error:
            raise InferenceError(f"{one.image.path}: {error}") from error
        row, column = (float(value) for value in dataset.get("PixelSpacing") or (0.5, 0.5))
        spacings.append((row, column))
    if not images:
        raise InferenceError(f"{folder} holds no CT slices to paint on")
    return RealSeries(name, tuple(images), tuple(spacings), stack.positions_mm)


def backgrounds_of(
    images: Sequence[FloatArray], spacings: Sequence[tuple[float, float]], series: str = "0"
) -> list[Background]:
    """Prepare the slices of one series, from the lowest up.

    Parameters
    ----------
    images : sequence of ndarray, (rows, columns)
        HU.
    spacings : sequence of (float, float)
        Row and column spacing in mm.
    series : str
        What the names begin with.
    """
    placed = [_on_grid(hu, spacing) for hu, spacing in zip(images, spacings, strict=True)]
    brains = [_brain(hu) for hu in placed]
    shown = [i for i, brain in enumerate(brains) if brain.sum() * SPACING_MM**2 > _LEAST_BRAIN_MM2]
    first, last = (shown[0], shown[-1]) if shown else (0, 1)
    heights = [(i - first) / max(1, last - first) for i in range(len(placed))]
    return [
        _background(f"{series}/{i}", hu, brain, height)
        for i, (hu, brain, height) in enumerate(zip(placed, brains, heights, strict=True))
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """A head of another size, shape and pose, made from a real slice.

    Attributes
    ----------
    ground : Background
    places : Places
        Where each pixel of the new slice lies in the old one, in mm from the brain's middle.
    contrast, level : float
        Of brain: its differences from 32 HU are multiplied, and their mean is moved.
    hardening : tuple of float
        HU added below the bone, and how deep it reaches in mm.
    """

    ground: Background
    places: Places
    contrast: float
    level: float
    hardening: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator, ground: Background) -> Warp:
        """Draw a warp; the same generator state gives the same one."""
        angle, wide = between(rng, -0.26, 0.26), between(rng, 0.83, 1.2)
        tall = wide * between(rng, 0.86, 1.18)
        bend = between(rng, 0, 4)
        fields = [SmoothField.draw(rng, 42.0, (1.0, 300.0, 300.0)) for _ in range(2)]
        x, y = np.meshgrid(_GRID.x, _GRID.y)
        cos, sin = np.cos(angle), np.sin(angle)
        left = (cos * x + sin * y) / wide + bend * fields[0].plane(0.0, _GRID.y, _GRID.x)
        back = (cos * y - sin * x) / tall + bend * fields[1].plane(0.0, _GRID.y, _GRID.x)
        if chance(rng, 0.5):
            left = -left
        places = Places(left.astype(np.float32), back.astype(np.float32), np.zeros_like(left))
        hardening = (between(rng, 0, 8) if chance(rng, 0.3) else 0.0, between(rng, 4, 15))
        return cls(ground, places, between(rng, 0.8, 1.35), between(rng, 25, 38), hardening)

    @property
    def half_width(self) -> float:
        """Of the brain, in mm; as in the real slice, for places are."""
        return self.ground.half_width

    @property
    def half_length(self) -> float:
        """Of the brain, in mm."""
        return self.ground.half_length

    @property
    def vertex(self) -> float:
        """Height of the top in mm."""
        return self.ground.vertex

    def slice(self, push: Push | None = None) -> HeadSlice:
        """Return the slice, as a drawn head gives it; a mass moves what is near it."""
        moved = push.displaced(self.places) if push else self.places
        brain = (self._sampled(self.ground.brain, self.places) > 0.5).astype(np.float32)
        # A mass moves brain within the skull, not the skull.
        hu = self._sampled(self.ground.hu, self.places, outside=-1000.0)
        if push is not None:
            inner = np.clip(ndimage.distance_transform_edt(brain) * SPACING_MM / 3 - 1, 0, 1)
            pushed = self._sampled(self.ground.hu, moved, outside=-1000.0)
            hu = hu + (np.where(np.abs(pushed) < _BONE, pushed, hu) - hu) * inner
        depth = ndimage.distance_transform_edt(brain) * SPACING_MM
        soft = brain * (hu < 75)
        hu = np.where(soft > 0, (hu - 32) * self.contrast + self.level, hu)
        added, reach = self.hardening
        hu = hu + added * np.exp(-depth / reach) * brain
        ventricles = self._sampled(self.ground.ventricles, moved) * brain
        fluid = self._sampled(self.ground.fluid, moved) * brain * (1 - ventricles)
        return HeadSlice(
            hu.astype(np.float32),
            brain,
            depth.astype(np.float32),
            fluid.astype(np.float32),
            ventricles.astype(np.float32),
            self.places.x,
            self.places,
            _GRID,
            0.0,
        )

    def _sampled(self, values: FloatArray, places: Places, outside: float = 0.0) -> FloatArray:
        centre_y, centre_x = self.ground.centre
        where = [places.y / SPACING_MM + centre_y, places.x / SPACING_MM + centre_x]
        sampled: FloatArray = ndimage.map_coordinates(
            values, where, order=1, mode="constant", cval=outside
        )
        return sampled


def _on_grid(hu: FloatArray, spacing: tuple[float, float]) -> FloatArray:
    """Return a slice on the grid, its middle in the middle; air where there was nothing."""
    factors = [SPACING_MM / length for length in spacing]
    # What is finer than the grid is averaged first.
    smooth = ndimage.gaussian_filter(hu, [max(0.0, 0.42 * (factor - 0.3)) for factor in factors])
    rows, columns = (
        (np.arange(SIZE) - (SIZE - 1) / 2) * factor + (length - 1) / 2
        for factor, length in zip(factors, hu.shape, strict=True)
    )
    where = np.meshgrid(rows, columns, indexing="ij")
    placed: NDArray[np.float32] = ndimage.map_coordinates(
        smooth, where, order=1, mode="constant", cval=-1000.0
    ).astype(np.float32)
    return np.clip(placed, -1000.0, 2500.0)


def _brain(hu: FloatArray) -> FloatArray:
    """Return 1 where soft tissue is that bone encloses."""
    bone = ndimage.binary_closing(hu > _BONE, iterations=4)
    inside = ndimage.binary_fill_holes(bone) & ~ndimage.binary_dilation(hu > _BONE - 10)
    inside &= (hu > _TISSUE[0]) & (hu < _TISSUE[1])
    inside = ndimage.binary_opening(inside, iterations=3)
    parts, count = ndimage.label(inside)
    if not count:
        return np.zeros(hu.shape, np.float32)
    sizes = ndimage.sum(inside, parts, range(1, count + 1))
    large = np.isin(parts, 1 + np.flatnonzero(sizes > 0.15 * sizes.max()))
    whole = ndimage.binary_fill_holes(ndimage.binary_closing(large, iterations=2))
    return np.asarray(whole, dtype=np.float32)


def _background(name: str, hu: FloatArray, brain: FloatArray, height: float) -> Background:
    inside = brain > 0.5
    if not inside.any():
        middle = (SIZE - 1) / 2
        none = np.zeros_like(hu)
        return Background(name, hu, none, none, none, (middle, middle), 60.0, 75.0)
    ys, xs = np.nonzero(inside)
    centre = (float(ys.mean()), float(xs.mean()))
    half_width, half_length = (float(np.ptp(axis)) / 2 for axis in (xs, ys))
    fluid = logistic((19.0 - blurred(hu, 0.8)) / 2.0) * brain
    depth = ndimage.distance_transform_edt(inside)
    ventricles = np.zeros_like(hu)
    parts, count = ndimage.label(ndimage.binary_opening(fluid > 0.5))
    for part in range(1, count + 1):
        there = parts == part
        y, x = ndimage.center_of_mass(there)
        central = abs(x - centre[1]) < 0.42 * half_width and abs(y - centre[0]) < 0.5 * half_length
        lateral = _VENTRICLES[0] <= height <= _VENTRICLES[1]
        fourth = height < _VENTRICLES[0] and 0.1 < (y - centre[0]) / half_length < 0.6
        deep = there.sum() > 25 and depth[there].max() > 16
        if central and deep and (lateral or (fourth and abs(x - centre[1]) < 0.2 * half_width)):
            grown = blurred(ndimage.binary_dilation(there).astype(np.float32), 0.7)
            ventricles = np.maximum(ventricles, grown * logistic((22.0 - blurred(hu, 0.8)) / 2.0))
    ventricles = (ventricles * brain).astype(np.float32)
    fluid = (fluid * (1 - ventricles)).astype(np.float32)
    return Background(
        name,
        hu,
        brain,
        fluid,
        ventricles,
        centre,
        half_width * SPACING_MM,
        half_length * SPACING_MM,
    )
