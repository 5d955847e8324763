"""Rasters made from a declaration: plausible numbers for every band, with all that goes wrong in real scenes.

A small landscape (a river, fields, bare ground) that floods and burns between ``pre`` and ``post``; the holes are a frame of NaN, a block
where nothing is known, single pixels and numbers that cannot be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from odc.geo.xr import xr_coords

from mdive.cube import to_geobox
from mdive.engine.lazy import phase_order
from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.model.plan import Grid
from mdive.pipeline import Operation
from mdive.pipeline.operation import fill_of
from mdive.plugins import AlgorithmSpec
from mdive.testing._conformance_report import NotChecked

LEAST: Final = (43, 59)
"""Rows and columns of the smallest test raster: primes, so that no regular cut comes out even."""

HOLE: Final = (slice(8, 21), slice(30, 47))
"""The block where nothing is known."""

FRAME: Final = 2
"""Pixels without data along the upper and left edge, as a swath border leaves them."""

BEFORE: Final = 3
YEAR: Final = 36
"""Scenes before the event: a few, or those of more than a year for what is fitted to the seasons; all of one orbit, 12 days apart."""

ONSET: Final = np.datetime64("2024-05-01", "ns")
REPEAT: Final = np.timedelta64(12, "D")

LOOKS: Final = 4.4
"""Equivalent looks of the speckle: a Sentinel-1 pixel of 10 m."""

OPTICAL: Final = {
    # reflectance of: fields, water, bare or burned ground
    "coastal": (0.04, 0.05, 0.07),
    "blue": (0.04, 0.05, 0.08),
    "green": (0.08, 0.06, 0.09),
    "red": (0.05, 0.04, 0.12),
    "rededge1": (0.12, 0.04, 0.14),
    "rededge2": (0.25, 0.03, 0.16),
    "rededge3": (0.32, 0.03, 0.17),
    "nir": (0.36, 0.03, 0.18),
    "nir08": (0.36, 0.03, 0.18),
    "nir09": (0.35, 0.02, 0.19),
    "swir16": (0.18, 0.02, 0.27),
    "swir22": (0.09, 0.01, 0.25),
}
SAR: Final = {"vv": (0.16, 0.008, 0.09), "hh": (0.18, 0.006, 0.1), "vh": (0.036, 0.0016, 0.016), "hv": (0.036, 0.0016, 0.016)}
"""Linear power, gamma0."""
KELVIN: Final = (297.0, 289.0, 345.0)

RANGES: Final = {
    "hand": (0.0, 40.0),  # m above the drainage
    "occurrence": (0.0, 100.0),  # % of looks with water
    "recurrence": (0.0, 100.0),
    "seasonality": (0.0, 12.0),  # months
    "slope": (0.0, 30.0),  # degrees
    "aspect": (0.0, 360.0),
    "incidence": (30.0, 46.0),
    "local_incidence": (20.0, 70.0),
}
"""Lowest and highest number of layers that are known by their name."""
HEIGHTS: Final = ("dem", "elevation", "dtm", "dsm", "height")
BOOLEANS: Final = ("mask", "seed", "grow", "known", "water", "wet", "burned", "candidate", "where", "inside", "drain", "a", "b")
PLAIN: Final = ("values", "value", "band", "index", "probability")
"""Names of rasters of any numbers, from 0 to 1."""
LANDCOVER: Final = (30, 80, 60)
"""Grassland, water and bare ground, as ESA WorldCover has them."""
BITS: Final = ("mask", "qc", "flags", "bits")
CODES: Final = ("extent", "classes", "tests", "severity")
"""Names of rasters of operations that are no measurements."""
ODD: Final = (0.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, 1e30)


def scene(spec: AlgorithmSpec, kind: str, shape: tuple[int, int], resolution: float, seed: int, *, before: int = BEFORE) -> tuple[Any, ...]:
    """Return what ``mdive.apply`` takes for an algorithm: one Dataset per phase, in its order.

    Parameters
    ----------
    spec
        The algorithm: its bands say what is drawn.
    kind
        ``full``: all bands and a mask. ``holes``: with everything that goes wrong. ``bare``: only what it cannot do without, one
        time, no mask. ``silent``: nothing known.
    shape, resolution
        Rows and columns; metres.
    seed
        Of the noise.
    before
        Scenes of the phase ``pre``.
    """
    times_of = {"pre": before, "post": 2}
    rng = np.random.default_rng(seed)
    found: list[xr.Dataset | None] = []
    for phase in phase_order(spec):
        needs, optional = spec.needs.get(phase, ()), spec.optional.get(phase, ())
        if kind == "bare" and not needs:
            found.append(None)
            continue
        bands = needs if kind == "bare" else (*needs, *optional)
        # Two scenes are a choice; one is what most events have.
        times = 1 if kind == "bare" and before == BEFORE else times_of.get(phase, 1)
        ground = cover(shape, changed=phase != "pre")
        rasters = {band: draw(rng, band, ground, times, spec.sensor) for band in bands}
        mask = np.zeros((times, *shape), "uint16")
        if kind == "holes":
            spoil(rng, list(rasters.values()), mask, observed=phase in times_of)
        if kind == "silent":
            for values in rasters.values():
                values[...] = np.nan
            mask[...] = QC_FLAGS["nodata"]
        found.append(dataset(rasters, mask if kind != "bare" else None, resolution, timed=phase in times_of, late=phase != "pre"))
    return tuple(found)


def stack(operation: Operation, kind: str, shape: tuple[int, int], resolution: float, seed: int) -> tuple[Any, ...]:
    """Return rasters for an operation, in its order. It does not declare what they hold: their names have to tell.

    Raises
    ------
    NotChecked
        Where they do not: on a guess a kernel may raise, or never end.
    """
    rng = np.random.default_rng(seed)
    ground = cover(shape, changed=True)
    found: list[Any] = []
    for name, parameter in operation.rasters.items():
        dtype = _type_by_name(name, operation)
        if dtype is None:
            raise NotChecked(
                f"nobody knows what the raster {name!r} of operation {operation.name!r} holds: give data=, or check an algorithm that uses it"
            )
        if "None" in str(parameter.annotation) and kind == "bare":
            found.append(None)
            continue
        for _ in range(2 if parameter.kind is parameter.VAR_POSITIONAL else 1):
            values = _typed(rng, draw(rng, name, ground, 2 if operation.over_time else 1, "optical"), ground, dtype, kind)
            found.append(dataset({name: values}, None, resolution, timed=operation.over_time)[name])
    return tuple(found)


def _type_by_name(name: str, operation: Operation) -> str | None:
    if (name in BITS and operation.over_time) or name == "why":
        return "uint16"
    if operation.over_time and name in {*BOOLEANS, *CODES, *PLAIN}:
        # Some of its rasters have a time axis and others not; who knows which.
        return None
    if name in BOOLEANS:
        return "bool"
    if name in CODES:
        return "uint8"
    return "float32" if name in {*OPTICAL, *SAR, *RANGES, *HEIGHTS, *PLAIN} else None


def _typed(rng: np.random.Generator, values: np.ndarray, ground: np.ndarray, dtype: str, kind: str) -> np.ndarray:
    """Return a raster as another type, with holes or nothing in it as its kind wants."""
    if dtype == "float32":
        if kind == "holes":
            spoil(rng, [values], np.zeros(values.shape, "uint16"))
        return np.full_like(values, np.nan) if kind == "silent" else values
    if kind == "silent":
        return np.full(values.shape, fill_of(dtype), dtype)
    if dtype == "bool":
        # Sparse: in a dense mask everything is near to everything.
        noisy: np.ndarray = (ground == 1) ^ (rng.random(values.shape) < 0.01)
        return noisy
    if dtype == "uint8":
        return np.where(rng.random(values.shape) < 0.1, fill_of(dtype), np.broadcast_to(ground, values.shape)).astype(dtype)
    return rng.choice([0, 0, 0, *QC_FLAGS.values()], values.shape).astype(dtype)


def cover(shape: tuple[int, int], *, changed: bool) -> np.ndarray:
    """Return the ground of each pixel: 0 fields, 1 water, 2 bare or burned."""
    rows, cols = np.indices(shape)
    river = np.abs(cols - shape[1] / 4 - 3 * np.sin(rows / 5)) < 3
    ground = np.where(rows + cols < shape[0] / 3, 2, 0)
    if changed:
        ground[np.hypot(rows - shape[0] * 0.7, cols - shape[1] * 0.35) < shape[0] / 5] = 1
        ground[np.hypot(rows - shape[0] * 0.6, cols - shape[1] * 0.8) < shape[0] / 5] = 2
    ground[river] = 1
    return ground


def draw(rng: np.random.Generator, band: str, ground: np.ndarray, times: int, sensor: str) -> np.ndarray:
    """Return one band as (time, y, x) float32; one that nobody knows goes from 0 to 1."""
    shape = (times, *ground.shape)
    if band in SAR or (sensor == "sar" and band not in RANGES and band not in HEIGHTS):
        values = np.take(SAR.get(band, SAR["vv"]), ground) * rng.gamma(LOOKS, 1 / LOOKS, shape)
    elif band in OPTICAL:
        values = np.take(OPTICAL[band], ground) * rng.normal(1.0, 0.08, shape)
    elif sensor == "thermal" and band not in RANGES and band not in HEIGHTS:
        values = np.take(KELVIN, ground) + rng.normal(0.0, 1.0, shape)
    elif band in HEIGHTS:
        # Steps of half a metre make flats and pits, as integer elevation models have them.
        rows, cols = np.indices(ground.shape)
        values = np.broadcast_to(np.round(2 * (80 - 0.4 * rows + 0.2 * np.abs(cols - 15) + rng.normal(0, 1, ground.shape))) / 2, shape)
    elif band in CODES:
        values = np.broadcast_to(np.where(ground == 1, 1, 0), shape)
    elif band == "landcover":
        values = np.broadcast_to(np.take(LANDCOVER, ground), shape)
    elif band == "occurrence":
        values = np.broadcast_to(np.where(ground == 1, 90.0, 0.0), shape)
    else:
        low, high = RANGES.get(band, (0.0, 1.0))
        values = rng.uniform(low, high, shape)
    return np.array(values, "float32")


def spoil(rng: np.random.Generator, rasters: Sequence[np.ndarray], mask: np.ndarray, *, observed: bool = True) -> None:
    """Put into rasters, in place, what real ones have: borders and holes; and where a sensor observed, clouds, and numbers that cannot be."""
    lost = np.zeros(mask.shape[1:], bool)
    lost[HOLE] = True
    lost[:FRAME], lost[:, :FRAME] = True, True
    for values in rasters:
        where = rng.random(values.shape) < 0.02
        values[where] = rng.choice(ODD if observed else (np.nan,), int(where.sum()))
        values[..., lost] = np.nan
    mask[..., lost] = QC_FLAGS["nodata"]
    if observed:
        words = [bit for name, bit in QC_FLAGS.items() if bit & UNOBSERVED or name == "snow"]
        clouded = rng.random(mask.shape) < 0.04
        mask[clouded] |= rng.choice(words, int(clouded.sum())).astype("uint16")


def dataset(rasters: dict[str, np.ndarray], mask: np.ndarray | None, resolution: float, *, timed: bool, late: bool = True) -> xr.Dataset:
    """Return rasters (time, y, x) as a Dataset in UTM, north up, of scenes after the onset or before it."""
    named = rasters if mask is None else {**rasters, "mask": mask}
    first = next(iter(named.values()))
    dims = ("time", "y", "x") if timed else ("y", "x")
    coords = dict(coordinates(first.shape[-2:], resolution))
    if timed:
        coords["time"] = ONSET + (np.arange(len(first)) + (0 if late else -len(first))) * REPEAT
        coords["sat:relative_orbit"] = ("time", np.full(len(first), 44))
        coords["sat:orbit_state"] = ("time", np.full(len(first), "ascending"))
    return xr.Dataset({n: (dims, v if timed else v[0]) for n, v in named.items()}, coords=coords)


def coordinates(shape: tuple[int, int], resolution: float) -> Any:
    """Return the coordinates of a grid in UTM, its CRS among them."""
    return xr_coords(to_geobox(Grid(crs="EPSG:32631", resolution=resolution, x0=500_000.0, y0=5_000_000.0, shape=shape)))
