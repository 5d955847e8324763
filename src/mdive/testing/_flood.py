"""A synthetic river flood: radar and optical scenes before and after, with the water that is truly there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from mdive.pipeline.window import Window
from mdive.testing import _catalog as stac
from mdive.testing._cover import FARMLAND, Cover, cover
from mdive.testing._landscape import LOWLAND, Land, Landscape
from mdive.testing._optical import CloudField, Sky, reflectance
from mdive.testing._raster import Layer, Planes, rounded
from mdive.testing._recipe import Recipe, ground_layers, ground_planes, make_event, truth_layer
from mdive.testing._sar import Radar, backscatter
from mdive.testing._scenes import optical_scenes, sar_scenes
from mdive.testing._setting import Frame, Setting, SyntheticEvent, make_setting, require, require_names

TRUTH = ((0, "not_event"), (1, "event"), (2, "permanent_water"))
SAR_TIMES = {"pre": stac.instant("2024-03-01T05:42:00"), "post": stac.instant("2024-03-13T05:42:00")}
"""Twelve days apart: the repeat cycle of one Sentinel-1 satellite, so both are of one relative orbit."""
OPTICAL_TIMES = {"pre": stac.instant("2024-03-04T10:18:00"), "post": stac.instant("2024-03-14T10:18:00")}
WINDOW, BASELINE = ("2024-03-10", "2024-03-16"), ("2024-01-10", "2024-03-09")
SUN = (158.0, 41.0)
"""Azimuth and elevation (degrees) at 45 degrees north in mid March, at the time of the pass."""
PRE_CLOUD = 0.03
WET_SOIL = 0.6
"""dB that wet soil adds after the rain."""


def make_flood_event(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    size_km: float = 15.0,
    resolution: float = 10.0,
    sensors: Sequence[Literal["sar", "optical"]] = ("sar",),
    phases: Sequence[Literal["pre", "post"]] = ("pre", "post"),
    stage: float = 2.5,
    looks: float = 4.4,
    wind: float = 0.3,
    sar_unit: Literal["dB", "power"] = "dB",
    cloud: float = 0.25,
    layers: Sequence[str] = ("terrain", "depth", "landcover"),
    static: Sequence[str] = ("occurrence",),
    **frame: Unpack[Frame],
) -> SyntheticEvent:
    """Write a river flood with known truth into a folder: STAC catalogue, COGs, ``event.yaml`` and ``truth.tif``.

    Every pixel is a function of the seed and its place on the grid alone, so any size is written in bounded memory, and the number of
    workers changes nothing.

    Parameters
    ----------
    folder
        Is made; files of an earlier event in it are replaced.
    seed
        Which landscape, flood, sky and speckle.
    size_km
        Edge of the area (km). The scenes reach ``margin_px`` further on each side.
    resolution
        Pixel edge (m).
    sensors
        ``sar`` (VV and VH, gamma0) and ``optical`` (six reflectance bands and ``fmask``).
    phases
        ``pre`` and ``post``; without ``pre`` there is nothing to compare with.
    stage
        Height of the flood above the rivers' normal level (m); 0 is no flood at all.
    looks
        Equivalent number of looks of the speckle.
    wind
        Roughness of open water after the event, 0 calm to 1 stormy.
    sar_unit
        Backscatter as dB or as linear power.
    cloud
        Share of the optical scene after the event under cloud, 0 to 1; before it, 3 %.
    layers
        Further truth to write: ``terrain``, ``depth``, ``landcover``.
    static
        What the catalogue offers beside the scenes: ``dem`` (the true terrain), ``occurrence`` of water (%), ``landcover``.
    **frame
        ``shape_px``: instead of ``size_km``, exact (rows, columns) of the scenes; the area then lies inside. ``border_px``: pixels without
        data around each scene. ``swath_edge``: share of the scenes after the event that lies outside the swath. ``scenes``:
        (rows, columns) of overlapping items per acquisition. ``margin_px``: pixels of the scenes beyond the area; 64 unless the scene is
        small. ``crs``: UTM zone or another projection in metres. ``workers``: threads; as many as cores, at most 4, by default.

    Returns
    -------
    The files.

    Raises
    ------
    InputError
        For an argument that cannot be.
    RunFolderError
        When the folder cannot be made.
    """
    setting = make_setting(folder, seed=seed, size_km=size_km, resolution=resolution, **frame)
    require_names("sensor", sensors, ("sar", "optical"), least=1)
    require_names("phase", phases, ("pre", "post"))
    require_names("layer", layers, ("terrain", "depth", "landcover"))
    require_names("static layer", static, ("dem", "occurrence", "landcover"))
    require_names("unit", (sar_unit,), ("dB", "power"))
    require("post" in phases, "an event without a phase 'post' shows no event.", "Give phases=('pre', 'post') or ('post',).")
    require(
        0 <= stage <= LOWLAND.edge, f"stage {stage!r} m is out of range.", f"It is 0 (no flood) to {LOWLAND.edge:g} m (the plain's edge)."
    )
    require(looks >= 1, f"{looks!r} looks cannot be.", "One look is the least; Sentinel-1 GRDH has 4.4.")
    require(0 <= wind <= 1, f"wind {wind!r} is not from 0 to 1.", "0 is calm, 1 is stormy.")
    require(0 <= cloud <= 0.95, f"cloud {cloud!r} is not a share from 0 to 0.95.", "0.25 covers a quarter of the scene.")

    landscape = Landscape(seed, setting.grid.shape, resolution, LOWLAND, stage)
    radars = {"pre": Radar(looks=looks, wind=0.1), "post": Radar(looks=looks, wind=wind, moisture=WET_SOIL)}
    skies = {"pre": Sky(PRE_CLOUD if cloud > 0 else 0.0, *SUN), "post": Sky(cloud, *SUN)}
    clouds = {phase: CloudField.of(landscape, phase, skies[phase]) for phase in phases if "optical" in sensors}

    def compute(window: Window) -> Planes:
        land = landscape.window(window)
        ground = cover(landscape, FARMLAND, window, land)
        planes = _reference_planes(land, ground)
        for phase in phases:
            flooded = phase == "post"
            if "sar" in sensors:
                seen = backscatter(landscape, window, land, ground, radars[phase], phase=phase, flooded=flooded)
                for band, decibels in seen.items():
                    power = decibels if sar_unit == "dB" else (10.0 ** (decibels / 10.0)).astype(np.float32)
                    planes[f"sar/{phase}/{band}"] = rounded(power)
            if "optical" in sensors:
                for band, stored in reflectance(clouds[phase], window, land, ground, flooded=flooded).items():
                    planes[f"optical/{phase}/{band}"] = stored
        return planes

    items: list[stac.Scene] = []
    if "sar" in sensors:
        items += sar_scenes(setting, {phase: SAR_TIMES[phase] for phase in phases}, radars, sar_unit)
    if "optical" in sensors:
        items += optical_scenes(setting, {phase: OPTICAL_TIMES[phase] for phase in phases}, skies)
    baseline = BASELINE if "pre" in phases else None
    recipe = Recipe("flood", "Synthetic river flood", WINDOW, baseline, _reference_layers(setting), items, compute)
    return make_event(setting, recipe, layers, static)


def _reference_planes(land: Land, ground: Cover) -> dict[str, NDArray[Any]]:
    """Return the planes of what is true: truth, terrain, depth, land cover, and how often there is water."""
    flooded = (land.depth > 0) & ~land.permanent
    truth = flooded.astype(np.uint8)
    truth[land.permanent] = 2
    depth = np.ceil(np.maximum(land.depth, 0) * np.float32(128)) / np.float32(128)
    always = np.clip(93 + 3 * ground.patch, 80, 100)
    sometimes = np.where(land.height < 3, 55 * np.exp(-np.maximum(land.height, 0) / 0.5), 0)
    return {
        "truth": truth,
        **ground_planes(land, ground),
        "depth": np.where(flooded, depth, 0).astype(np.float32),
        "occurrence": np.where(land.permanent, always, sometimes).astype(np.uint8),
    }


def _reference_layers(setting: Setting) -> dict[str, Layer]:
    here, whole = setting.folder, setting.whole
    return {
        "truth": truth_layer(setting, "True extent of the flood", TRUTH),
        **ground_layers(setting),
        "depth": Layer(
            here / "depth.tif", "depth", "float32", "Depth of the flood, 0 where there is none", whole, unit="m", overview="average"
        ),
        "occurrence": Layer(
            here / "occurrence.tif", "occurrence", "uint8", "How often there is water", whole, 255, unit="%", overview="average"
        ),
    }
