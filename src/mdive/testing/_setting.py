"""The frame of a synthetic event: its grid, its scenes, the area that is asked for, and the checks of what a caller gave."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pyproj import CRS
from pyproj.exceptions import CRSError

from mdive.errors import InputError, RunFolderError, nearest
from mdive.model.plan import Grid
from mdive.pipeline.window import Window
from mdive.testing._area import AreaMask, BBox, area_inside
from mdive.testing._raster import Footprint

MARGIN = 64
"""Pixels of data beyond the area on each side: more than any halo of the built-in algorithms, so they find data and no edge."""
OVERLAP = 64
"""Pixels that neighbouring scenes share."""
SMALLEST = 64
"""Least scene edge (pixels) that still shows a river and land beside it."""
CENTRE = (500_000.0, 5_000_000.0)
"""Default centre in UTM (m): on the central meridian, where the grid's north is true, at 45 degrees north."""


@dataclass(frozen=True, slots=True)
class SyntheticEvent:
    """Where the files of a synthetic event are."""

    folder: Path
    event: Path
    """``event.yaml``, for ``mdive run --event``."""
    catalog: Path
    """``catalog.json``, for ``mdive run --catalog``."""
    truth: Path
    """uint8, with its flag table as tags: 1 event, 0 not, 2 permanent water (no event, and no error to map as water), 255 outside the area."""
    layers: Mapping[str, Path]
    """Further truth by name: ``terrain`` (m), ``landcover`` (WorldCover codes), ``depth`` (m) of a flood, ``severity`` (%) of a fire."""
    grid: Grid
    """Of the truth and the scenes."""
    bbox: BBox
    """Of the area."""
    seed: int
    event_share: float
    """Share of the area that is event."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What flood and fire events have in common."""

    folder: Path
    seed: int
    grid: Grid
    margin: int
    border: int
    swath_edge: float
    windows: tuple[tuple[str, Window], ...]
    """Suffix and window of each scene."""
    workers: int

    @property
    def whole(self) -> Footprint:
        """The footprint of a layer without gaps, over the whole grid."""
        return Footprint(Window(0, 0, *self.grid.shape))

    @property
    def bbox(self) -> BBox:
        """The area that is asked for."""
        return area_inside(self.grid, self.margin)

    @property
    def area(self) -> AreaMask:
        """Which pixels lie in it."""
        return AreaMask(self.grid, self.bbox)

    def footprint(self, window: Window, phase: str) -> Footprint:
        """Return what a scene of a phase covers: the swath's edge cuts through those after the event only."""
        rows, cols = self.grid.shape
        swath = (rows / 2, self.swath_edge * cols) if self.swath_edge > 0 and phase == "post" else None
        return Footprint(window, self.border, swath)


class Frame(TypedDict, total=False):
    """How the scenes of any event lie and are written; what is not given is as in ``make_setting``."""

    shape_px: tuple[int, int] | None
    """Exact (rows, columns) of the scenes, instead of the size; the area then lies inside."""
    border_px: int
    """Pixels without data around each scene."""
    swath_edge: float
    """Share of the scenes after the event that lies outside the swath."""
    scenes: tuple[int, int]
    """(rows, columns) of overlapping items per acquisition."""
    margin_px: int | None
    """Pixels of the scenes beyond the area; None is 64, less where the scene is small."""
    crs: str
    """UTM zone or another projection in metres."""
    workers: int | None
    """Threads; None is as many as cores, at most 4."""


def make_setting(
    folder: str | os.PathLike[str],
    *,
    seed: int,
    size_km: float,
    resolution: float,
    shape_px: tuple[int, int] | None = None,
    border_px: int = 0,
    swath_edge: float = 0.0,
    scenes: tuple[int, int] = (1, 1),
    margin_px: int | None = None,
    crs: str = "EPSG:32633",
    workers: int | None = None,
) -> Setting:
    """Check the common arguments, make the folder and return the setting.

    Raises
    ------
    InputError
        For a size, share, CRS or count that cannot be.
    RunFolderError
        When the folder cannot be made.
    """
    require(isinstance(seed, int) and seed >= 0, f"seed {seed!r} is not a whole number from 0 on.", "Any such number gives its own event.")
    require(0 < resolution < 1e4, f"resolution {resolution!r} m is out of range.", "Give the pixel edge in metres, such as 10.")
    require(
        shape_px is not None or 0 < size_km <= 1000, f"size {size_km!r} km is out of range.", "Give the edge of the area in km, such as 15."
    )
    if shape_px is None:
        margin = MARGIN if margin_px is None else margin_px
        edge = round(size_km * 1000 / resolution) + 2 * margin
        shape = (edge, edge)
    else:
        shape = (int(shape_px[0]), int(shape_px[1]))
        margin = min(MARGIN, min(shape) // 8) if margin_px is None else margin_px
    hint = f"A scene needs at least {SMALLEST} pixels each way, and its area half of them."
    require(
        min(shape) >= SMALLEST and 0 <= margin < min(shape) // 4,
        f"a scene of {shape[0]} x {shape[1]} pixels with a margin of {margin} is too small.",
        hint,
    )
    require(
        0 <= border_px < min(shape) // 4,
        f"border of {border_px} pixels does not fit the scene.",
        "It must be less than a quarter of the scene.",
    )
    require(
        0 <= swath_edge <= 0.8,
        f"swath edge {swath_edge!r} is not a share from 0 to 0.8.",
        "It is the share of the scene outside the swath.",
    )
    require(min(scenes) >= 1 and max(scenes) <= 64, f"{scenes!r} scenes cannot be.", "Give (rows, columns) of scenes, such as (2, 2).")
    _check_crs(crs)
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be made a folder ({error.strerror}).", "Choose another one.") from error
    x0 = round((CENTRE[0] - shape[1] * resolution / 2) / resolution) * resolution
    y0 = round((CENTRE[1] + shape[0] * resolution / 2) / resolution) * resolution
    return Setting(
        folder=path,
        seed=seed,
        grid=Grid(crs=crs, resolution=resolution, x0=x0, y0=y0, shape=shape),
        margin=margin,
        border=border_px,
        swath_edge=swath_edge,
        windows=tuple(_scene_windows(shape, scenes)),
        workers=workers or min(4, os.cpu_count() or 1),
    )


def _scene_windows(shape: tuple[int, int], scenes: tuple[int, int]) -> list[tuple[str, Window]]:
    whole, (down, across) = Window(0, 0, *shape), scenes
    windows = []
    for i in range(down):
        for j in range(across):
            top, left = shape[0] * i // down, shape[1] * j // across
            part = Window(top, left, shape[0] * (i + 1) // down - top, shape[1] * (j + 1) // across - left)
            suffix = f"_r{i}c{j}" if down * across > 1 else ""
            windows.append((suffix, part.expand(OVERLAP // 2).intersect(whole)))
    return windows


def _check_crs(crs: str) -> None:
    hint = "Give a projected CRS in metres, such as 'EPSG:32633'."
    try:
        known = CRS.from_user_input(crs)
    except CRSError:
        raise InputError(f"crs {crs!r} is not known.", hint) from None
    require(known.is_projected and known.axis_info[0].unit_conversion_factor == 1.0, f"crs {crs!r} is not a projection in metres.", hint)


def require(condition: bool, message: str, hint: str) -> None:  # noqa: FBT001 - it is the subject of the sentence
    """Raise an ``InputError`` unless a condition holds."""
    if not condition:
        raise InputError(message, hint)


def require_names(what: str, given: Collection[str], known: Collection[str], *, least: int = 0) -> None:
    """Raise an ``InputError`` unless all given names are known, and there are enough of them."""
    for name in given:
        require(name in known, f"{what} {name!r} is not known.{nearest(name, known)}", f"There are: {', '.join(known)}.")
    require(len(given) >= least, f"no {what} was given.", f"There are: {', '.join(known)}.")
