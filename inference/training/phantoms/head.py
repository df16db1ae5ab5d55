"""Axial slices of a head phantom without blood: HU and maps of where things are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .brain import Brain
from .face import Face
from .fields import FloatArray, blurred, logistic, ridge, union
from .skull import Grid, Places, Pose, Skull


@dataclass(frozen=True, slots=True)
class Push:
    """A mass that moves what is near it.

    Attributes
    ----------
    centre : tuple of float
        Left, back, up, in mm.
    reach : float
        How far it is felt, in mm.
    strength : float
        The largest displacement in mm.
    """

    centre: tuple[float, float, float]
    reach: float
    strength: float

    def displaced(self, places: Places) -> Places:
        """Return where the tissue that now is at `places` was before the mass came."""
        dx, dy = places.x - self.centre[0], places.y - self.centre[1]
        dz = places.z - self.centre[2]
        distance = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-3
        move = self.strength * np.exp(-np.square(distance / self.reach)) / distance
        return Places(places.x - dx * move, places.y - dy * move, places.z)


@dataclass(frozen=True, slots=True)
class HeadSlice:
    """One slice, all arrays of shape (height, width).

    Attributes
    ----------
    hu : numpy.ndarray
        Noise-free density.
    brain : numpy.ndarray
        1 where intracranial soft tissue and fluid are, 0 elsewhere.
    depth : numpy.ndarray
        mm below the inner table.
    fluid, ventricles : numpy.ndarray
        Share of CSF in sulci and cisterns, and in ventricles.
    off_midline : numpy.ndarray
        Signed distance from the midline in mm, positive to the left.
    """

    hu: FloatArray
    brain: FloatArray
    depth: FloatArray
    fluid: FloatArray
    ventricles: FloatArray
    off_midline: FloatArray
    places: Places
    grid: Grid
    height: float


@dataclass(frozen=True, slots=True)
class Head:
    """A head that can be sliced anywhere."""

    skull: Skull
    brain: Brain
    face: Face
    pose: Pose

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Head:
        """Draw a head; the same generator state gives the same head."""
        skull = Skull.draw(rng)
        brain = Brain.draw(rng, skull)
        face = Face.draw(rng, brain.half_width, brain.half_length)
        return cls(skull, brain, face, Pose.draw(rng))

    @property
    def half_width(self) -> float:
        """Of the inside of the skull, in mm."""
        return self.brain.half_width

    @property
    def half_length(self) -> float:
        """Of the inside of the skull, in mm."""
        return self.brain.half_length

    @property
    def vertex(self) -> float:
        """Height of the top in mm."""
        return self.skull.vertex

    def slice(self, grid: Grid, z: float, push: Push | None = None) -> HeadSlice:
        """Return the slice at table height `z` (mm) on `grid`."""
        places = self.pose.places(grid, z)
        moved = push.displaced(places) if push else places
        depth = self.skull.depth_below_surface(places) - self.skull.wall(places)
        depth = depth.astype(np.float32)
        off_midline = self._off_midline(moved)
        ventricles = union(self.brain.ventricles, moved.x, moved.y, moved.z)
        fluid, cortex = self._fluid(grid, z, places, moved, depth, off_midline)
        inside = (depth > 0).astype(np.float32)
        ventricles = ventricles * inside
        fluid = fluid * inside * (1 - ventricles)
        hu = self._soft_tissue(grid, z, moved, depth, cortex)
        hu = hu - self.brain.pale * blurred(ventricles, 5.0 / float(grid.x[1] - grid.x[0]))
        filled = np.clip(np.maximum(fluid * 0.9, ventricles), 0, 1)
        hu = hu * (1 - filled) + self.brain.tissue.fluid * filled
        hu = self._membranes(hu, places, depth, off_midline)
        for spot, density in self.brain.spots:
            hu = hu + (density - hu) * 0.8 * spot.weight(moved.x, moved.y, moved.z)
        bone = self._base_bone(grid, z, places)
        hu = hu * (1 - bone) + 0.8 * self.skull.density * bone
        face = self.face.share(places)
        below = logistic((depth + 2) / 1.5) * face
        hu = hu * (1 - below) + self.face.density(grid, z, places) * below
        hu = self.skull.cover(hu, depth, places, openness=face)
        air = union(self.brain.air_cells, places.x, places.y, places.z) * (depth < 3)
        hu = hu * (1 - air) - 1000 * air
        brain = inside * (bone < 0.12) * (air < 0.1) * (face < 0.1)
        return HeadSlice(
            hu.astype(np.float32), brain, depth, fluid, ventricles, off_midline, places, grid, z
        )

    def _off_midline(self, places: Places) -> FloatArray:
        offset, slope, bow = self.brain.bend
        line = offset + slope * places.y + bow * np.sin(2.2 * places.y / self.brain.half_length)
        return np.asarray(places.x - line, dtype=np.float32)

    def _fluid(
        self,
        grid: Grid,
        z: float,
        places: Places,
        moved: Places,
        depth: FloatArray,
        off_midline: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Return the share of CSF outside the ventricles, and of cortex."""
        brain, textures = self.brain, self.brain.textures
        folds = textures.folds.plane(z, grid.y, grid.x)
        folds = folds + 0.3 * textures.fine_folds.plane(z, grid.y, grid.x)
        reach = brain.fold_depth + 14 * logistic((places.z - 45) / 6)
        near = logistic((reach - depth) / 4)
        base = 1 - 0.5 * logistic((-20 - places.z) / 5)
        present = np.clip(0.8 + 0.5 * textures.presence.plane(z, grid.y, grid.x), 0.05, 1)
        sulci = 0.8 * ridge(folds, brain.fold_width) * near * base * present
        rim = 0.6 * ridge(depth, 0.8 + 2.5 * brain.tissue.atrophy)
        cisterns = 0.8 * union(brain.cisterns, moved.x, moved.y, moved.z)
        fissure = 0.5 * ridge(off_midline, 1.2 + 1.8 * brain.tissue.atrophy)
        fissure = fissure * self._fissure_extent(places)
        fluid = np.maximum(np.maximum(sulci, rim), np.maximum(cisterns, fissure))
        cortex = np.clip(ridge(folds, 0.55) * near + 0.8 * ridge(depth, 5.0), 0, 1)
        return fluid.astype(np.float32), cortex.astype(np.float32)

    def _fissure_extent(self, places: Places) -> FloatArray:
        """Return where the interhemispheric fissure and the falx are: front, back, and high up."""
        length = self.brain.half_length
        front = logistic((-0.38 * length - places.y) / 3) * logistic((places.z + 34) / 4)
        back = logistic((places.y - 0.45 * length) / 3) * logistic((places.z + 6) / 4)
        high = logistic((places.z - 32) / 3)
        return np.maximum(np.maximum(front, back), high)

    def _soft_tissue(
        self, grid: Grid, z: float, places: Places, depth: FloatArray, cortex: FloatArray
    ) -> FloatArray:
        tissue, textures = self.brain.tissue, self.brain.textures
        gray = np.maximum(cortex, union(self.brain.nuclei, places.x, places.y, places.z))
        hu = tissue.white + (tissue.gray - tissue.white) * gray
        hu = hu + 0.6 * textures.slow.plane(z, grid.y, grid.x)
        # Beam hardening brightens the brain below the bone.
        return np.asarray(hu + tissue.hardening * np.exp(-np.clip(depth, 0, None) / 9))

    def _membranes(
        self, hu: FloatArray, places: Places, depth: FloatArray, off_midline: FloatArray
    ) -> FloatArray:
        """Return `hu` with falx, tentorium and sagittal sinus."""
        tissue, length = self.brain.tissue, self.brain.half_length
        falx = 0.7 * ridge(off_midline, 0.9) * self._fissure_extent(places)
        hu = hu + (tissue.falx - hu) * falx
        slope, width, strength = self.brain.tentorium
        roof = places.y - (0.25 * length + slope * np.abs(off_midline) - 0.8 * (places.z + 20))
        tentorium = strength * ridge(roof, width) * ridge(places.z + 20, 14)
        hu = hu + (tissue.falx - hu) * tentorium * (np.abs(off_midline) > 8)
        size, density = self.brain.sinus
        wedge = size * 1.2 - np.abs(off_midline) - 0.45 * np.clip(depth, 0, None)
        sinus = logistic(wedge * 1.2) * logistic(places.y / 2) * logistic((places.z + 12) / 3)
        sinus = sinus * (depth < 2.2 * size)
        return np.asarray(hu + (density - hu) * sinus, dtype=np.float32)

    def _base_bone(self, grid: Grid, z: float, places: Places) -> FloatArray:
        """Return the share of skull-base bone, roughened, partial volume included."""
        wave = self.brain.textures.waviness.plane(z, grid.y, grid.x)
        bone = union(self.brain.base_bones, places.x + 3 * wave, places.y - 2 * wave, places.z)
        return np.asarray(bone, dtype=np.float32)
