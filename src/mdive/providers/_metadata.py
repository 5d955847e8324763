"""What STAC metadata says about the bands of an asset: names, units, scale, offset, nodata, in the dialects of STAC 1.0 and 1.1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import pystac

from mdive.model.datasource import Sensor
from mdive.model.plan import Unit
from mdive.providers._extent import UnusableError

OPTICAL: Final = (
    "coastal",
    "blue",
    "green",
    "red",
    "rededge1",
    "rededge2",
    "rededge3",
    "nir",
    "nir08",
    "nir09",
    "swir16",
    "swir22",
)
THERMAL: Final = ("lwir11", "lwir12")
SAR: Final = ("vv", "vh", "hh", "hv")

SENSOR_OF: Final[Mapping[str, Sensor]] = {
    **dict.fromkeys(OPTICAL, "optical"),
    **dict.fromkeys(THERMAL, "thermal"),
    **dict.fromkeys(SAR, "sar"),
    "dem": "elevation",
    "hand": "elevation",
    "slope": "elevation",
    "occurrence": "reference",
    "landcover": "reference",
}
"""mdive's band names, and what looks at each."""

MINOR: Final = frozenset({"coastal", "rededge1", "rededge2", "rededge3", "nir09", "lwir11", "lwir12"})
"""Bands that an item of an unlisted collection may lack without being worth less than the others."""

_ALIASES: Final = {
    "elevation": "dem",
    "dsm": "dem",
    "dtm": "dem",
    "height": "dem",
    "land_cover": "landcover",
    "lulc": "landcover",
    "lwir": "lwir11",
}

_RED_EDGES: Final = {"rededge071": "rededge1", "rededge075": "rededge2", "rededge078": "rededge3"}
"""Common names of the eo extension 2.0; in 1.x there was only ``rededge``, told apart by wavelength."""

_UNITS: Final[Mapping[str, Unit]] = {
    "1": "1",
    "reflectance": "1",
    "unitless": "1",
    "dimensionless": "1",
    "m2/m2": "1",
    "db": "dB",
    "decibel": "dB",
    "decibels": "dB",
    "power": "power",
    "linear power": "power",
    "linear": "power",
    "amplitude": "amplitude",
    "k": "K",
    "kelvin": "K",
    "m": "m",
    "metre": "m",
    "metres": "m",
    "meter": "m",
    "meters": "m",
    "%": "%",
    "percent": "%",
    "degree": "degree",
    "degrees": "degree",
    "deg": "degree",
}
"""Spellings of units, in lower case."""

_NO_DATA_ROLES: Final = frozenset({"thumbnail", "overview", "visual", "metadata", "tiles"})
_RASTERS: Final = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True, slots=True)
class BandMetadata:
    """What the metadata says about one band of one asset; None where it is silent."""

    asset: str
    """Key of the asset."""
    index: int
    """One-based."""
    alone: bool
    """Whether it is the only band of its asset, which then may name it."""
    name: str | None = None
    common_name: str | None = None
    wavelength: float | None = None
    width: float | None = None
    """Centre and full width at half maximum, micrometres."""
    dtype: str | None = None
    nodata: float | Literal["nan"] | None = None
    scale: float | None = None
    offset: float | None = None
    unit: Unit | None = None
    spelling: str = ""
    """The unit as it is written, also where it is not one that mdive knows."""
    gsd: float = math.inf


def is_raster(asset: pystac.Asset) -> bool:
    """Return whether an asset is a raster of measurements, as far as type, roles and name tell."""
    if _NO_DATA_ROLES & set(asset.roles or ()):
        return False
    if asset.media_type:
        return asset.media_type.startswith(("image/tiff", "image/vnd.stac.geotiff", "image/jp2", "image/geotiff"))
    return urlsplit(asset.href).path.lower().endswith(_RASTERS)


def bands_of(key: str, asset: pystac.Asset) -> list[BandMetadata]:
    """Return what is known about each band of an asset.

    Raises
    ------
    UnusableError
        When a number is not a number.
    """
    fields = asset.extra_fields
    lists = [fields.get(name) or [] for name in ("bands", "raster:bands", "eo:bands")]
    lists = [[band if isinstance(band, Mapping) else {} for band in bands] if isinstance(bands, list) else [] for bands in lists]
    count = max(1, *map(len, lists))
    found = []
    for number in range(count):
        # Later wins: what is said about the band itself, by the newest rules, before what is said about the asset.
        merged: dict[str, Any] = {}
        for source in (fields, *(bands[number] for bands in reversed(lists) if number < len(bands))):
            merged |= {name.rpartition(":")[2]: value for name, value in source.items() if _says(name, value)}
        found.append(
            BandMetadata(
                asset=key,
                index=number + 1,
                alone=count == 1,
                name=_text(merged.get("name")),
                common_name=_text(merged.get("common_name")),
                wavelength=_number(merged, "center_wavelength"),
                width=_number(merged, "full_width_half_max"),
                dtype=_text(merged.get("data_type")),
                nodata=_nodata(merged.get("nodata")),
                scale=_number(merged, "scale"),
                offset=_number(merged, "offset"),
                unit=_UNITS.get(str(merged.get("unit", "")).strip().lower()),
                spelling=str(merged.get("unit", "")).strip(),
                gsd=_number(merged, "spatial_resolution") or _number(merged, "gsd") or math.inf,
            )
        )
    return found


def _says(name: str, value: Any) -> bool:
    prefix, _, _ = name.rpartition(":")
    return value is not None and prefix in {"", "eo", "raster"} and not isinstance(value, list | Mapping)


def band_name(band: BandMetadata) -> str | None:
    """Return mdive's name of a band, or None where the metadata does not tell.

    The key of a single-band asset comes first, then the band's own name, then its common name with the wavelength (some catalogues call
    the narrow near infrared ``nir`` or ``rededge``).
    """
    own = _known(band.asset) if band.alone else None
    own = own or _known(band.name)
    if own is not None:
        return own
    common = (band.common_name or "").lower()
    centre = band.wavelength
    if common == "rededge" and centre is not None:
        steps = ((0.69, 0.72, "rededge1"), (0.73, 0.755, "rededge2"), (0.77, 0.80, "rededge3"), (0.85, 0.88, "nir08"))
        return next((name for low, high, name in steps if low <= centre <= high), None)
    if common == "nir" and centre is not None and 0.85 <= centre <= 0.88 and (band.width or 1.0) < 0.06:
        return "nir08"
    return _RED_EDGES.get(common) or _known(common)


def _known(name: str | None) -> str | None:
    plain = (name or "").lower()
    plain = _ALIASES.get(plain, plain)
    return plain if plain in SENSOR_OF else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnusableError(f"its {name} is {value!r}")
    return float(value)


def _nodata(value: Any) -> float | Literal["nan"] | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value.strip().lower() == "nan":
            return "nan"
        try:
            value = float(value)
        except ValueError:
            raise UnusableError(f"its nodata is {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise UnusableError(f"its nodata is {value!r}")
    return "nan" if math.isnan(value) else float(value)
