"""The items of synthetic acquisitions: which files they have, and what their metadata says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from mdive.pipeline.window import Window
from mdive.testing import _catalog as stac
from mdive.testing._optical import BANDS, CLOUD, FMASK_FILL, NODATA, SCALE, Sky
from mdive.testing._raster import Layer, Planes
from mdive.testing._sar import Radar
from mdive.testing._setting import Setting

COLLECTIONS = {
    "synthetic-sar": "Synthetic C-band radar backscatter gamma0 with gamma speckle",
    "synthetic-optical": "Synthetic surface reflectance with clouds and their shadows",
    "synthetic-dem": "True elevation of the synthetic landscape",
    "synthetic-occurrence": "How often there is water in the synthetic landscape",
    "synthetic-landcover": "Land cover of the synthetic landscape",
}
OUTSIDE = 255
"""Value of the truth outside the area: nobody asked."""

STATIC_TIME = stac.instant("2021-01-01T00:00:00")

FMASK_FIELDS = (
    (1, 1, "cloud"),
    (2, 1, "adjacent_to_cloud_or_shadow"),
    (3, 1, "cloud_shadow"),
    (4, 1, "snow_or_ice"),
    (5, 1, "water"),
    (6, 2, "aerosol_level"),
)
"""(offset, length, name) of the bit fields of the quality band, as HLS v2 has them."""


def sar_scenes(setting: Setting, times: Mapping[str, datetime], radars: Mapping[str, Radar], unit: str) -> list[stac.Scene]:
    """Return the radar items of each phase."""
    found = []
    for phase, time in times.items():
        radar = radars[phase]
        for suffix, window in setting.windows:
            footprint = setting.footprint(window, phase)
            layers = {
                band: Layer(
                    setting.folder / f"sar_{phase}_{band}{suffix}.tif",
                    f"sar/{phase}/{band}",
                    "float32",
                    f"gamma0 {band.upper()}, {'decibels' if unit == 'dB' else 'linear power'}",
                    footprint,
                    np.nan,
                    unit=unit,
                )
                for band in ("vv", "vh")
            }
            middle_km = (window.col + window.width / 2) * setting.grid.resolution / 1000
            properties = {
                "platform": "synthetic-sar",
                "sar:instrument_mode": "IW",
                "sar:frequency_band": "C",
                "sar:polarizations": ["VV", "VH"],
                "sar:product_type": "RTC",
                "sar:looks_equivalent_number": radar.looks,
                "sat:orbit_state": "ascending",
                "sat:relative_orbit": 15,
                "view:incidence_angle": round(radar.incidence + radar.incidence_per_km * middle_km, 3),
            }
            found.append(
                stac.Scene(
                    f"synthetic-sar-{time:%Y%m%d}{suffix}",
                    "synthetic-sar",
                    time,
                    footprint,
                    layers,
                    properties,
                    (stac.SAR, stac.SAT, stac.VIEW),
                )
            )
    return found


def optical_scenes(setting: Setting, times: Mapping[str, datetime], skies: Mapping[str, Sky]) -> list[stac.Scene]:
    """Return the optical items of each phase; their cloud cover is told after it was counted."""
    found = []
    for phase, time in times.items():
        for suffix, window in setting.windows:
            footprint = setting.footprint(window, phase)
            layers = {
                band: Layer(
                    setting.folder / f"optical_{phase}_{band}{suffix}.tif",
                    f"optical/{phase}/{band}",
                    "int16",
                    f"Surface reflectance, {band}",
                    footprint,
                    NODATA,
                    unit="1",
                    scale=SCALE,
                    overview="average",
                )
                for band in BANDS
            }
            layers["fmask"] = Layer(
                setting.folder / f"optical_{phase}_fmask{suffix}.tif",
                f"optical/{phase}/fmask",
                "uint8",
                "Quality bits of HLS v2 Fmask",
                footprint,
                FMASK_FILL,
                bits=FMASK_FIELDS,
            )
            properties = {
                "platform": "synthetic-optical",
                "view:sun_azimuth": skies[phase].sun_azimuth,
                "view:sun_elevation": skies[phase].sun_elevation,
            }
            extensions = (stac.EO, stac.VIEW, stac.CLASSIFICATION)
            found.append(
                stac.Scene(f"synthetic-optical-{time:%Y%m%d}{suffix}", "synthetic-optical", time, footprint, layers, properties, extensions)
            )
    return found


def static_scenes(setting: Setting, layers: Mapping[str, Layer]) -> list[stac.Scene]:
    """Return one item per static layer, by band name."""
    return [
        stac.Scene(
            f"synthetic-{name}-{STATIC_TIME:%Y}",
            f"synthetic-{name}",
            STATIC_TIME,
            setting.whole,
            {name: layer},
            {},
            (stac.CLASSIFICATION,) if layer.flags else (),
        )
        for name, layer in layers.items()
    ]


class Counts:
    """Counts, while blocks are written, how much of each optical scene is cloud, and how much of the area is event."""

    def __init__(self, scenes: Sequence[stac.Scene]) -> None:
        self._optical = [scene for scene in scenes if "fmask" in scene.layers]
        self._cloud = dict.fromkeys((scene.id for scene in self._optical), 0)
        self._seen = dict(self._cloud)
        self._event = self._pixels = 0

    def __call__(self, window: Window, planes: Planes) -> None:
        """Count one block."""
        self._event += int(np.count_nonzero(planes["truth"] == 1))
        self._pixels += int(np.count_nonzero(planes["truth"] != OUTSIDE))
        for scene in self._optical:
            part = window.intersect(scene.footprint.scene)
            if part.empty:
                continue
            valid = scene.footprint.valid(part)
            bits = planes[scene.layers["fmask"].plane][part.within(window)]
            self._seen[scene.id] += int(np.count_nonzero(valid))
            self._cloud[scene.id] += int(np.count_nonzero(valid & ((bits & CLOUD) > 0)))

    @property
    def event_share(self) -> float:
        """Share of the area that is event."""
        return self._event / max(self._pixels, 1)

    def told(self, scenes: Sequence[stac.Scene]) -> list[stac.Scene]:
        """Return the scenes with the cloud cover (%) that was counted."""
        return [self._with_cover(scene) if scene.id in self._seen else scene for scene in scenes]

    def _with_cover(self, scene: stac.Scene) -> stac.Scene:
        cover: dict[str, Any] = {"eo:cloud_cover": round(100 * self._cloud[scene.id] / max(self._seen[scene.id], 1), 2)}
        return replace(scene, properties={**scene.properties, **cover})
