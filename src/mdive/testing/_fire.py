"""A synthetic wildfire: optical scenes before and after, with the severity that is truly there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Unpack

import numpy as np

from mdive.pipeline.window import Window
from mdive.testing import _catalog as stac
from mdive.testing._burn import severity
from mdive.testing._cover import FOREST, cover
from mdive.testing._landscape import MOUNTAIN, Landscape
from mdive.testing._optical import CloudField, Sky, reflectance
from mdive.testing._raster import Layer, Planes
from mdive.testing._recipe import Recipe, ground_layers, ground_planes, make_event, truth_layer
from mdive.testing._scenes import optical_scenes
from mdive.testing._setting import Frame, SyntheticEvent, make_setting, require, require_names

TRUTH = ((0, "not_event"), (1, "event"))
TIMES = {"pre": stac.instant("2023-07-18T10:12:00"), "post": stac.instant("2023-08-22T10:12:00")}
WINDOW, BASELINE = ("2023-08-01", "2023-08-31"), ("2023-06-20", "2023-07-31")
SUNS = {"pre": (143.0, 61.0), "post": (151.0, 53.0)}
"""Azimuth and elevation (degrees) at 45 degrees north on those days, at the time of the pass: the light changes, as it does."""
PRE_CLOUD = 0.02


def make_wildfire_event(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    size_km: float = 24.0,
    resolution: float = 20.0,
    burn: bool = True,
    phenology: float = 0.07,
    cloud: float = 0.06,
    layers: Sequence[str] = ("severity", "terrain", "landcover"),
    static: Sequence[str] = (),
    **frame: Unpack[Frame],
) -> SyntheticEvent:
    """Write a wildfire with known truth into a folder: STAC catalogue, COGs, ``event.yaml`` and ``truth.tif``.

    There is an optical scene before and one after: six reflectance bands and ``fmask``. Every pixel is a function of the seed and its
    place on the grid alone, so any size is written in bounded memory, and the number of workers changes nothing. A large area has several
    fires.

    Parameters
    ----------
    folder
        Is made; files of an earlier event in it are replaced.
    seed
        Which landscape, fire and sky.
    size_km
        Edge of the area (km). The scenes reach ``margin_px`` further on each side.
    resolution
        Pixel edge (m).
    burn
        Whether anything burned; without it, season and clouds are all that changes.
    phenology
        How far the season moved on between the scenes: the share by which NIR falls and SWIR2 rises over all vegetation.
    cloud
        Share of the scene after the event under cloud, 0 to 1; before it, 2 %.
    layers
        Further truth to write: ``severity``, ``terrain``, ``landcover``.
    static
        What the catalogue offers beside the scenes: ``dem`` (the true terrain), ``landcover``.
    **frame
        ``shape_px``, ``border_px``, ``swath_edge``, ``scenes``, ``margin_px``, ``crs``, ``workers``: as in ``make_flood_event``.

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
    require_names("layer", layers, ("severity", "terrain", "landcover"))
    require_names("static layer", static, ("dem", "landcover"))
    require(0 <= phenology <= 0.3, f"phenology {phenology!r} is not a share from 0 to 0.3.", "0.07 is a month in summer.")
    require(0 <= cloud <= 0.95, f"cloud {cloud!r} is not a share from 0 to 0.95.", "0.06 covers 6 % of the scene.")

    landscape = Landscape(seed, setting.grid.shape, resolution, MOUNTAIN)
    skies = {
        "pre": Sky(PRE_CLOUD if cloud > 0 else 0.0, *SUNS["pre"]),
        "post": Sky(cloud, *SUNS["post"], dryness=phenology, harvest=phenology > 0),
    }
    clouds = {phase: CloudField.of(landscape, phase, sky) for phase, sky in skies.items()}

    def compute(window: Window) -> Planes:
        land = landscape.window(window)
        ground = cover(landscape, FOREST, window, land)
        burned = severity(landscape, window, land, ground) if burn else np.zeros(window.shape, np.uint8)
        planes = {"truth": (burned > 0).astype(np.uint8), "severity": burned, **ground_planes(land, ground)}
        for phase, field in clouds.items():
            after = burned if phase == "post" else None
            for band, stored in reflectance(field, window, land, ground, flooded=False, severity=after).items():
                planes[f"optical/{phase}/{band}"] = stored
        return planes

    here, whole = setting.folder, setting.whole
    offered = {
        "truth": truth_layer(setting, "True extent of the fire", TRUTH),
        "severity": Layer(
            here / "severity.tif", "severity", "uint8", "Burn severity, 0 where nothing burned", whole, 255, unit="%", overview="average"
        ),
        **ground_layers(setting),
    }
    items = optical_scenes(setting, TIMES, skies)
    recipe = Recipe("wildfire", "Synthetic wildfire", WINDOW, BASELINE, offered, items, compute)
    return make_event(setting, recipe, layers, static)
