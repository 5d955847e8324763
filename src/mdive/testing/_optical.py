"""What an optical sensor sees of a landscape: surface reflectance by cover, water, char, slope and sun, under clouds and their shadows."""

# numba infers the types of the kernels from their calls.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mdive.algorithms.draws import hashed, key_of
from mdive.pipeline.window import Window
from mdive.testing._cover import BARE, BUILT, CROP, GRASS, SHRUB, TREE, Cover
from mdive.testing._landscape import Land, Landscape, Plane
from mdive.testing._noise import normal_levels, smoothstep

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
SCALE = 1e-4
NODATA = -9999
"""Stored numbers of HLS v2: reflectance = stored x 1e-4, -9999 is nothing."""

FMASK_FILL = 255
CLOUD, ADJACENT, SHADOW, WATER_BIT, AEROSOL_LOW = 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 6
"""Bits of the quality band, those of Fmask in HLS v2 (user guide, table 9)."""

REFLECTANCE = {
    TREE: (0.020, 0.035, 0.026, 0.220, 0.100, 0.045),
    SHRUB: (0.035, 0.055, 0.055, 0.230, 0.180, 0.095),
    GRASS: (0.042, 0.072, 0.064, 0.270, 0.215, 0.125),
    CROP: (0.036, 0.066, 0.046, 0.330, 0.185, 0.095),
    BUILT: (0.105, 0.125, 0.140, 0.205, 0.220, 0.190),
    BARE: (0.120, 0.155, 0.200, 0.270, 0.330, 0.290),
}
SOIL = (0.085, 0.115, 0.155, 0.225, 0.290, 0.250)
CLEAR_WATER = (0.045, 0.055, 0.038, 0.018, 0.008, 0.005)
MUDDY_WATER = (0.095, 0.130, 0.145, 0.085, 0.025, 0.014)
CHAR = (0.032, 0.038, 0.042, 0.068, 0.130, 0.175)
CLOUD_TOP = (0.56, 0.56, 0.57, 0.60, 0.44, 0.34)
"""Surface reflectance in the order of ``BANDS``: typical spectra of the classes, the middle of those in the USGS spectral library
(Kokaly et al. 2017, 10.3133/ds1035); char lowers NIR and raises SWIR2, which is all that a burn index looks at."""

CLOUDS = ((5500.0, 0.72), (2000.0, 0.52), (700.0, 0.36), (250.0, 0.24), (90.0, 0.13))
CLOUD_BASE = 1400.0
"""Height of the clouds above ground (m): with the sun, it says how far off their shadows lie."""


@dataclass(frozen=True, slots=True)
class Sky:
    """Light and clouds of one acquisition."""

    cloud: float = 0.0
    """Share of the scene under cloud, 0 to 1."""
    sun_azimuth: float = 150.0
    """Degrees clockwise from north."""
    sun_elevation: float = 50.0
    """Degrees above the horizon."""
    dryness: float = 0.0
    """How far the season has moved on since the first scene: NIR falls and SWIR rises by this share over all vegetation."""
    harvest: bool = False
    """Some fields are bare that were green in the first scene: change that is no damage."""


@dataclass(frozen=True, slots=True)
class CloudField:
    """Where the clouds of one acquisition are: a threshold on a field that has no scene edge."""

    landscape: Landscape
    phase: str
    sky: Sky
    threshold: float

    @classmethod
    def of(cls, landscape: Landscape, phase: str, sky: Sky) -> CloudField:
        """Find the threshold that clouds the asked share of this scene, from a lattice of at most 640 x 640 pixels of it."""
        step = max(1, max(landscape.shape) // 640)
        looked = Window(0, 0, -(-landscape.shape[0] // step), -(-landscape.shape[1] // step))
        sample = landscape.noise(f"cloud {phase}", looked, CLOUDS, step=step)
        return cls(landscape, phase, sky, float(np.quantile(sample, 1.0 - sky.cloud)) if sky.cloud > 0 else np.inf)

    @property
    def shadow_offset(self) -> tuple[int, int]:
        """(rows, columns) from a cloud to its shadow: away from the sun."""
        reach = CLOUD_BASE * self.landscape.scale / np.tan(np.radians(self.sky.sun_elevation)) / self.landscape.resolution
        azimuth = np.radians(self.sky.sun_azimuth)
        return round(float(reach * np.cos(azimuth))), round(float(-reach * np.sin(azimuth)))

    def window(self, window: Window) -> tuple[Plane, Plane]:
        """Return how far the cloud field is above its threshold over each pixel, and towards the sun from it."""
        if self.sky.cloud <= 0:
            clear = np.full(window.shape, -1e9, np.float32)
            return clear, clear
        rows, cols = self.shadow_offset
        name, threshold = f"cloud {self.phase}", np.float32(self.threshold)
        sunward = Window(window.row - rows, window.col - cols, window.height, window.width)
        return (
            self.landscape.noise(name, window, CLOUDS) - threshold,
            self.landscape.noise(name, sunward, CLOUDS) - threshold,
        )


@njit(nogil=True, cache=True)
def _reflectance(
    spectra,
    normal,
    key,
    draw,
    sun,
    dryness,
    harvest,
    row0,
    col0,
    code,
    field,
    patch,
    texture,
    depth,
    permanent,
    severity,
    east,
    south,
    over,
    sunward,
    out,
    fmask,
):
    sun_east, sun_north, sun_up = sun
    rows, cols = code.shape
    soil, clear, muddy, char, top = 250, 251, 252, 253, 254
    rho = np.empty(6)
    for i in range(rows):
        for j in range(cols):
            c = code[i, j]
            p, x = patch[i, j], texture[i, j]
            green = 0.0
            for b in range(6):
                rho[b] = spectra[c, b]
            if c == CROP:
                n = field[i, j]
                bare = 1.0 - (n & 31) / 31.0
                bare *= bare
                if harvest and n >= 246:
                    bare = max(bare, 0.8)
                green = 1.0 - bare
                for b in range(6):
                    rho[b] += bare * (spectra[soil, b] - rho[b])
            elif c != BUILT and c != BARE and not permanent[i, j]:
                green = 1.0
            vigour = green * 0.05 * p
            dry = green * dryness * (1.0 + 0.25 * p)
            rho[2] *= 1.0 - vigour + 0.5 * dry
            rho[3] *= 1.0 + vigour - dry
            rho[4] *= 1.0 - 0.6 * vigour + 0.6 * dry
            rho[5] *= 1.0 - 0.8 * vigour + dry
            s = 0.01 * severity[i, j]
            light = (sun_up - sun_east * east[i, j] + sun_north * south[i, j]) / sun_up
            light = max((light + 0.7) / 1.7, 0.35) * (1.0 + 0.04 * x)
            wet = permanent[i, j]
            share = 0.0
            if not wet and depth[i, j] > 0.0:
                wet = True
                if c == TREE:
                    share = 0.9
                elif c == BUILT:
                    share = max(1.0 - depth[i, j] / 3.0, 0.3)
                elif c == SHRUB:
                    share = np.exp(-depth[i, j] / 0.3)
                else:
                    share = np.exp(-depth[i, j] / 0.05)
            mud = (0.25 if permanent[i, j] else 0.6) + 0.14 * p
            for b in range(6):
                v = (rho[b] + s * (spectra[char, b] * (1.0 + 0.08 * p) - rho[b])) * light
                if wet:
                    w = spectra[clear, b] + min(max(mud, 0.0), 1.0) * (spectra[muddy, b] - spectra[clear, b])
                    v = share * v + (1.0 - share) * w
                rho[b] = v
            bits = hashed(key, row0 + i, (col0 + j) * 4 + draw)
            more = hashed(bits, 1, 0)
            cloud, shade = over[i, j], sunward[i, j]
            opacity = smoothstep(cloud / 0.4) if cloud > 0.0 else 0.0
            dark = 1.0 - 0.62 * (smoothstep(shade / 0.3) if shade > 0.0 else 0.0)
            for b in range(6):
                draws = bits if b < 3 else more
                z = normal[np.int64((draws >> np.uint64(16 * (b % 3))) & np.uint64(0xFFFF))]
                v = rho[b] * dark
                v += opacity * (spectra[top, b] * (0.82 + 0.25 * min(cloud, 1.0)) - v)
                v += (0.0015 + 0.012 * v) * z
                rho[b] = v
                out[b, i, j] = np.int16(np.round(min(max(v, -0.2), 1.6) * 10000.0))
            flags = AEROSOL_LOW
            if cloud > 0.0:
                flags |= CLOUD
            elif shade > 0.0:
                flags |= SHADOW
            elif cloud > -0.2:
                flags |= ADJACENT
            if cloud <= 0.0 and rho[1] > 1.2 * rho[4] and rho[4] < 0.08:
                flags |= WATER_BIT
            fmask[i, j] = flags


def reflectance(
    clouds: CloudField, window: Window, land: Land, cover: Cover, *, flooded: bool, severity: NDArray[np.uint8] | None = None
) -> dict[str, NDArray[np.int16] | NDArray[np.uint8]]:
    """Return the stored numbers of each of ``BANDS`` (int16, scale 1e-4) and the quality band ``fmask`` (uint8) of a window, arrays (y, x).

    Sensor and atmosphere leave a noise of 0.0015 + 1.2 % of the reflectance per band, independent between pixels and bands.
    """
    landscape, sky = clouds.landscape, clouds.sky
    spectra = np.zeros((256, len(BANDS)))
    for code, spectrum in (REFLECTANCE | {250: SOIL, 251: CLEAR_WATER, 252: MUDDY_WATER, 253: CHAR, 254: CLOUD_TOP}).items():
        spectra[code] = spectrum
    azimuth, elevation = np.radians(sky.sun_azimuth), np.radians(sky.sun_elevation)
    sun = (np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation))
    texture = landscape.noise("texture", window, ((160.0, 0.7), (50.0, 0.71)), natural=True)
    over, sunward = clouds.window(window)
    out, fmask = np.empty((len(BANDS), *window.shape), np.int16), np.empty(window.shape, np.uint8)
    _reflectance(
        spectra,
        normal_levels(),
        key_of(landscape.seed, "radiance"),
        {"pre": 0, "post": 1}[clouds.phase],
        sun,
        sky.dryness,
        sky.harvest,
        window.row,
        window.col,
        cover.code,
        cover.field,
        cover.patch,
        texture,
        land.depth if flooded else np.full_like(land.depth, -1),
        land.permanent,
        np.zeros(window.shape, np.uint8) if severity is None else severity,
        land.east,
        land.south,
        over,
        sunward,
        out,
        fmask,
    )
    return dict(zip(BANDS, out, strict=True)) | {"fmask": fmask}
