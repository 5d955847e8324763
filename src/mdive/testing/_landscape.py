"""A landscape that drains: rivers, tributaries, floodplains and hills as closed-form heights above the river, for any pixel alone.

Height is built *from* the drainage, so the two cannot disagree. A main river runs along each valley axis; a tributary joins it every few
kilometres on each side. Across a valley the height above the river only grows with distance from it, along a tributary its bed only rises
upstream, and the whole falls downstream. What lies below a water level is therefore one piece that reaches the river: a flood here is
connected by construction, without a flow routing that would need the whole scene. Smooth displacement of the plane then takes away the
straight lines; it folds nowhere, so it keeps together what is connected.
"""

# numba infers the types of the kernels from their calls.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mdive.algorithms.draws import hashed, key_of, unit
from mdive.pipeline.window import Window
from mdive.testing._noise import Octave, fbm, smoothstep, spline_at

Plane = NDArray[np.float32]


class Relief(NamedTuple):
    """The measures of a landscape, in metres; a named tuple of floats, because numba reads those."""

    valley: float
    """Distance between the axes of neighbouring main valleys."""
    tributary: float
    """Distance between neighbouring confluences on one side."""
    slant: float
    """How far upstream a tributary leans per metre away from the river."""
    fall: float
    """Slope of the main river (m/m)."""
    floodplain: float
    """Mean half width of the floodplain."""
    edge: float
    """Height above the river of the floodplain's edge."""
    hill: float
    """Height of the valley wall above that edge."""
    rise: float
    """Height of a tributary's head above its mouth."""
    rough: float
    """Amplitude of the hills' own relief."""
    channel: float
    """Half width of the main river."""
    brook: float
    """Half width of a tributary's channel at its mouth."""
    mounds: float
    """Share of 500 m cells with a mound that stays dry."""
    lakes: float
    """Share of 500 m cells with a lake."""


LOWLAND = Relief(20e3, 5e3, 0.55, 3e-4, 1400.0, 4.0, 75.0, 40.0, 26.0, 60.0, 17.0, 0.22, 0.03)
"""A river on a wide plain between low hills."""
MOUNTAIN = Relief(14e3, 3.5e3, 0.45, 2e-3, 260.0, 4.0, 210.0, 190.0, 75.0, 14.0, 7.0, 0.0, 0.012)
"""Forested mountains with narrow valleys."""

FULL_SIZE = 12e3
"""Scene edge (m) from which the landscape has its natural size; a smaller scene gets all horizontal lengths shrunk alike, so that
it still shows a river, its floodplain and dry land."""

WARP = ((3200.0, 215.0), (1100.0, 75.0), (380.0, 22.0), (150.0, 8.0))
"""(cell, amplitude) in metres of the displacement: slopes of 0.1 per octave (1.7 x amplitude / cell), where 1 would fold the plane."""
MEANDERS = ((1100.0, 420.0), (480.0, 130.0))
BELT = ((7000.0, 900.0), (3000.0, 320.0))
HILLS = ((1500.0, 0.8), (600.0, 0.45), (240.0, 0.22), (90.0, 0.09))


class Tables(NamedTuple):
    """What depends on the place along a river only, by (valley, node): a node every pixel, read by linear interpolation."""

    first_valley: int
    first_node: int
    axis: float
    """y of the axis of valley 0 (m, downwards from the scene's top)."""
    centre: NDArray[np.float64]
    """Offset of the channel from the valley axis (m)."""
    slope: NDArray[np.float64]
    """Its derivative along the valley."""
    width: NDArray[np.float64]
    """Half width of the floodplain on the side [0 left, 1 right] of the channel (m); (side, valley, node)."""
    channel: NDArray[np.float64]
    """Half width of the channel (m)."""


@dataclass(frozen=True, slots=True)
class Land:
    """A window of the landscape, arrays (y, x)."""

    elevation: Plane
    """m."""
    height: Plane
    """m above the nearest river or brook; negative on a river's bed."""
    depth: Plane
    """Depth of the flood (m); negative: what the water still lacks. Reaches below the normal level in channels."""
    permanent: NDArray[np.bool_]
    """Water at the normal level: river, brook or lake."""
    east: Plane
    south: Plane
    """Slope towards east and south (m/m)."""


@njit(nogil=True, cache=True)
def _line_noise(key, lane, first, count, spacing, cell):
    out = np.empty(count)
    for n in range(count):
        out[n] = spline_at(key, lane, (first + n) * spacing / cell)
    return out


@njit(nogil=True, cache=True)
def _read(line, node, fraction):
    return line[node] + fraction * (line[node + 1] - line[node])


@njit(nogil=True, cache=True)
def _landscape(relief, tables, key, stage, scale, res, row0, col0, du, dv, hills, elevation, height, depth, permanent):
    rows, cols = du.shape
    valley, tributary, brook = relief.valley * scale, relief.tributary * scale, max(relief.brook * scale, 1.6 * res)
    cell, swale = 500.0 * scale, 1500.0 * scale
    reach = 0.34 * valley  # a tributary's head lies here at the latest, safely inside its valley
    for i in range(rows):
        for j in range(cols):
            u = (col0 + j + 0.5) * res + du[i, j]
            v = (row0 + i + 0.5) * res + dv[i, j] - tables.axis
            k = np.int64(np.floor(v / valley + 0.5))
            node = np.int64(np.floor(u / res))
            fraction = u / res - node
            n, m = k - tables.first_valley, node - tables.first_node
            channel = _read(tables.channel[n], m, fraction)
            across = v - k * valley - _read(tables.centre[n], m, fraction)
            side = 1 if across > 0 else 0
            q = abs(across)
            # Near the channel, at a right angle to it: its width stays true in bends. Far away, across the axis: banks do not scallop.
            bend = _read(tables.slope[n], m, fraction)
            near = q / (4.0 * channel)
            d = q / (1.0 + (np.sqrt(1.0 + bend * bend) - 1.0) / (1.0 + near * near))
            breadth = _read(tables.width[side, n], m, fraction)
            # The relief of the plain stretches distances instead of adding to heights: the ground still only rises away from the river.
            t = max(d - channel, 0.0) / breadth * (1.0 + 0.09 * hills[i, j])
            plain = min(t, 1.0)
            main = relief.edge * plain * np.sqrt(plain) + relief.hill * smoothstep((t - 0.85) / 1.6)
            lowered = 0.0
            if t < 2.5:
                lowered = max(main - _swale(key, k * 2 + side, u, q, t, hills[i, j], relief, swale), 0.0)
                main -= lowered

            along = (u + relief.slant * q) / tributary
            which = np.int64(np.floor(along))
            lane = (which * 2 + side) * 64 + k
            size = 0.5 + 0.8 * unit(hashed(key, lane, -7))
            centre = 0.38 + 0.24 * unit(hashed(key, lane, -9)) + 0.07 * spline_at(key, lane, q / (700.0 * scale))
            centre = min(max(centre, 0.27), 0.73)
            e = abs(along - which - centre) * tributary / np.sqrt(1.0 + relief.slant * relief.slant)
            upstream = q / reach
            bed = relief.rise * smoothstep(upstream)
            te = e / (0.052 * tributary * size)
            plain = min(te, 1.0)
            own = relief.edge * plain * np.sqrt(plain) + relief.hill * max(
                smoothstep((te - 0.85) / 2.6), smoothstep((upstream - 0.62) / 0.34)
            )
            h = min(main, bed + own)

            # What hills add stays above the plain's edge: it cannot dam a valley, nor dig a pit below a flood.
            local = min(main, own)
            hilly = smoothstep((local - relief.edge - 2.0) / (0.8 * relief.hill))
            extra = 0.0
            if hilly > 0.0:
                x = hills[i, j] + 1.0
                cut = _gully(key, lane * 2 + (1 if along - which > centre else 0), q, e, hills[i, j], scale) * min(
                    local - relief.edge, 0.6 * relief.hill
                )
                # Gullies end before the next tributary's land and before the next valley's, where others are drawn.
                border = min(along - which, which + 1.0 - along) * tributary
                cut *= smoothstep(border / (200.0 * scale)) * smoothstep((0.5 * valley - abs(v - k * valley)) / (200.0 * scale))
                extra = max(hilly * (0.5 * relief.rough * (x + np.sqrt(x * x + 0.5)) - cut), relief.edge + 2.0 - local)

            stream = e < brook * max(1.0 - 0.8 * upstream, 0.45) and upstream < 0.8
            wet = d < channel or stream
            a, b = np.int64(np.floor(u / cell)), np.int64(np.floor((v + 0.5 * valley) / cell))
            bits = hashed(key, a * 2 + 1, b)
            kind = unit(bits)
            if kind < relief.mounds + relief.lakes and not wet:
                # One mound or lake per cell, inside it: they never touch, so no ring of mounds encloses a pond.
                x = u / cell - a - 0.4 - 0.2 * unit(hashed(bits, 1, 0))
                y = (v + 0.5 * valley) / cell - b - 0.4 - 0.2 * unit(hashed(bits, 2, 0))
                radius = 0.1 + 0.25 * unit(hashed(bits, 3, 0))
                r = (x * x + y * y) / (radius * radius)
                if r < 1.0:
                    if kind < relief.mounds:
                        # Nor do they dam a channel: beside it they are low, in a swale there are none.
                        bank = min(d - channel, e - brook) if upstream < 0.8 else d - channel
                        room = min(max(bank, 0.0) / (150.0 * scale), 1.0) * max(1.0 - lowered / 0.15, 0.0)
                        extra += 3.5 * (1.0 - r) * (1.0 - r) * room * (1.0 - hilly)
                    else:
                        extra *= r
                        wet = r < 0.6
            level = 0.45 * stage * max(1.0 - 1.1 * upstream, 0.0)  # a tributary's own flood dies out towards its head
            if d < channel:
                h = -0.7 * relief.edge * (1.0 - (d / channel) * (d / channel))
                extra = 0.0
            depth[i, j] = max(stage - h, level - own) - extra
            height[i, j] = min(local, h) + extra
            elevation[i, j] = 60.0 + relief.fall * (4e5 - u) + h + extra
            permanent[i, j] = wet


@njit(nogil=True, cache=True)
def _swale(key, lane, u, q, t, wiggle, relief, spacing):
    """Return the height above the river (m) of the nearest flood channel: a shallow way for water to the edge of the plain."""
    along = (u + 0.35 * q) / spacing
    which = np.int64(np.floor(along))
    bits = hashed(key, which, lane * 2 + 1_000_003)
    size = unit(bits)
    if size < 0.3:
        return 1e9
    half = (0.02 + 0.15 * size) * (1.5 - 0.75 * min(t, 1.3))
    centre = 0.42 + 0.16 * unit(hashed(bits, 1, 0)) + 0.04 * wiggle
    e = abs(along - which - min(max(centre, 0.34), 0.66)) / half
    near = min(e, 1.0)
    rise = (0.2 + 0.3 * unit(hashed(bits, 2, 0))) * t * t
    return relief.edge * (rise + near * np.sqrt(near)) + relief.hill * (smoothstep((t - 0.95) / 0.9) + smoothstep((e - 0.9) / 1.0))


@njit(nogil=True, cache=True)
def _gully(key, lane, q, e, wiggle, scale):
    """Return how deep a short side valley cuts into the hillside, 0 to 0.6."""
    along = (q + 0.5 * e) / (800.0 * scale)
    which = np.int64(np.floor(along))
    bits = hashed(key, lane + 5_000_011, which)
    centre = 0.35 + 0.3 * unit(hashed(bits, 1, 0)) + 0.06 * wiggle
    off = abs(along - which - centre) / (0.12 + 0.12 * unit(hashed(bits, 2, 0)))
    return 0.6 * unit(hashed(bits, 3, 0)) * max(0.0, 1.0 - off) * smoothstep(e / (250.0 * scale) - 0.6)


@dataclass(frozen=True)
class Landscape:
    """A seeded landscape on a scene's pixel grid; ``window`` computes any part of it.

    Parameters
    ----------
    seed
        Everything follows from it.
    shape
        Scene (rows, columns).
    resolution
        Pixel edge (m).
    relief
        Measures of the landscape.
    stage
        Height of the flood above the rivers' normal level (m); 0 is no flood.
    """

    seed: int
    shape: tuple[int, int]
    resolution: float
    relief: Relief
    stage: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tables", self._make_tables())

    @property
    def scale(self) -> float:
        """Horizontal lengths of this landscape, as a share of their natural size."""
        return min(1.0, min(self.shape) * self.resolution / FULL_SIZE)

    def octaves(self, metres: tuple[tuple[float, float], ...], *, natural: bool = False) -> list[Octave]:
        """Return (cell in pixels, amplitude) of octaves given in metres; ``natural`` keeps their size in small scenes."""
        factor = 1.0 if natural else self.scale
        return [(max(2, round(cell * factor / self.resolution)), amplitude) for cell, amplitude in metres]

    def noise(self, name: str, window: Window, metres: tuple[tuple[float, float], ...], *, natural: bool = False, step: int = 1) -> Plane:
        """Return a named smooth field on a window."""
        return fbm(window, key_of(self.seed, name), self.octaves(metres, natural=natural), step=step)

    def _make_tables(self) -> Tables:
        relief, scale, res = self.relief, self.scale, self.resolution
        margin = 4.5 * sum(a for _, a in WARP) * scale + 64 * res
        first_node = int(-margin // res)
        count = int(self.shape[1] + 2 * margin / res) + 4
        valley, axis = relief.valley * scale, self.shape[0] * res / 2
        first = int(np.floor((-margin - axis) / valley + 0.5))
        last = int(np.floor((self.shape[0] * res + margin - axis) / valley + 0.5))

        def lines(name: str, octaves: tuple[tuple[float, float], ...], lane: int = 0) -> NDArray[np.float64]:
            rows = [
                sum(
                    a * _line_noise(key_of(self.seed, f"{name}{n}"), k * 2 + lane, first_node, count, res, c * scale)
                    for n, (c, a) in enumerate(octaves)
                )
                for k in range(first, last + 1)
            ]
            return np.asarray(rows, np.float64)

        # A river swings within its plain: in a narrow valley bends of lowland size would cut into the walls as cliffs.
        swing = min(relief.floodplain / LOWLAND.floodplain, 1.0) * scale
        meander = np.clip(lines("meander", MEANDERS), -900, 900) * swing
        belt = np.clip(lines("belt", BELT), -2500, 2500) * (scale + swing) / 2
        centre = belt + meander
        breadth = (
            relief.floodplain * scale * np.stack([np.exp(0.33 * lines("plain", ((2600.0, 0.9), (1100.0, 0.45)), side)) for side in (0, 1)])
        )
        # The floodplain follows the belt, not each bend: the side that a bend approaches is the narrower one.
        width = np.maximum(breadth + np.stack([meander, -meander]), 0.25 * relief.floodplain * scale)
        channel = np.maximum(relief.channel * scale * np.exp(0.16 * lines("channel", ((600.0, 1.0),))), 2.5 * res)
        return Tables(first, first_node, axis, centre, np.gradient(centre, res, axis=1), width, channel)

    def displacement(self, window: Window) -> tuple[Plane, Plane]:
        """Return the displacement (m) of each pixel towards east and south."""
        warp = tuple((c, a * self.scale) for c, a in WARP)
        return self.noise("east", window, warp), self.noise("south", window, warp)

    def window(self, window: Window) -> Land:
        """Return the landscape of a window; slopes look one pixel further."""
        outer = window.expand(1)
        du, dv = self.displacement(outer)
        hills = self.noise("hills", outer, HILLS)
        elevation, height, depth = (np.empty(outer.shape, np.float32) for _ in range(3))
        permanent = np.empty(outer.shape, np.bool_)
        key, tables = key_of(self.seed, "drainage"), self._tables  # type: ignore[attr-defined]
        _landscape(
            self.relief,
            tables,
            key,
            float(self.stage),
            self.scale,
            float(self.resolution),
            outer.row,
            outer.col,
            du,
            dv,
            hills,
            elevation,
            height,
            depth,
            permanent,
        )
        core = (slice(1, -1), slice(1, -1))
        run = np.float32(2 * self.resolution)
        east = (elevation[1:-1, 2:] - elevation[1:-1, :-2]) / run
        south = (elevation[2:, 1:-1] - elevation[:-2, 1:-1]) / run
        return Land(elevation[core], height[core], depth[core], permanent[core], east, south)
