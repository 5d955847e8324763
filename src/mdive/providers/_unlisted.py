"""Items of collections that no datasource names: their own STAC metadata is enough, or they are refused with the reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import pystac

from mdive.model.datasource import MaskConvention, Sensor
from mdive.model.plan import AssetRef, Unit
from mdive.providers._extent import UnusableError
from mdive.providers._library import mask_conventions
from mdive.providers._metadata import MINOR, OPTICAL, SAR, SENSOR_OF, BandMetadata, band_name, bands_of, is_raster
from mdive.providers._offsets import Offset, already_applied, decide, rule_of
from mdive.providers._refs import Reading, asset_ref, mask_ref, mask_rule, resampling_of

_LEVEL_1: Final = {"processing:level": r"L?1", "s2:product_type": r".*1C$", "landsat:correction": r"L1"}
"""Properties (and how their values begin) of scenes that were not corrected for the atmosphere."""


_UNIT_OF: Final[Mapping[str, Unit]] = {"dem": "m", "hand": "m", "slope": "degree", "occurrence": "%", "lwir11": "K", "lwir12": "K"}
"""The one unit in which a band is understood."""


def read_unlisted(item: pystac.Item) -> Reading:
    """Return how an item is read, by its metadata alone.

    Raises
    ------
    UnusableError
        When it has no band that mdive knows, or none whose numbers have a physical meaning.
    """
    known: dict[str, BandMetadata] = {}
    for band in sorted(_all_bands(item), key=_preference):
        name = band_name(band)
        if name is not None:
            known.setdefault(name, band)
    sensors = {SENSOR_OF[name] for name in known}
    sensor = next((s for s in ("sar", "optical", "thermal", "elevation", "reference") if s in sensors), None)
    if sensor is None:
        raise UnusableError("none of its assets is a band that mdive knows by its key, name or common name")
    if sensor == "optical":
        _check_level(item)
    together = {sensor, "thermal"} if sensor == "optical" else {sensor}
    assets: dict[str, AssetRef] = {}
    decided: dict[str, str] = {}
    trouble: list[UnusableError] = []
    for name, band in known.items():
        if SENSOR_OF[name] not in together:
            continue
        try:
            given, offset = _physical(name, band, item)
            assets[name] = asset_ref(item, band.asset, band.index, given)
        except UnusableError as error:
            trouble.append(error)
            continue
        if offset is not None:
            decided["mdive:offset"] = f"{offset.value:g} ({offset.why})"
    if not assets:
        raise trouble[0]
    found = _find_mask(item, sensor)
    if found is not None:
        name, convention, band = found
        assets[name] = mask_ref(item, convention, band)
    return Reading(
        source=item.collection_id or "items",
        sensor=sensor,
        static=sensor in {"elevation", "reference"},
        assets=assets,
        mask=mask_rule(found[0], found[1]) if found else None,
        minor=MINOR,
        title=item.collection_id or "items",
        decided=decided,
    )


def _check_level(item: pystac.Item) -> None:
    for name, pattern in _LEVEL_1.items():
        if re.match(pattern, str(item.properties.get(name) or "")):
            raise UnusableError(f"it is not corrected for the atmosphere ({name} is {item.properties[name]!r})")


def _all_bands(item: pystac.Item) -> list[BandMetadata]:
    bands = []
    for key in sorted(item.assets):
        if is_raster(item.assets[key]):
            bands += bands_of(key, item.assets[key])
    return bands


def _preference(band: BandMetadata) -> tuple[bool, bool, float, bool, str, int]:
    """Return the sorting key of bands that claim one name: named so, alone, finest, not the copy in another format."""
    return band.asset.lower() not in SENSOR_OF, not band.alone, band.gsd, band.asset.lower().endswith("-jp2"), band.asset, band.index


def _physical(name: str, band: BandMetadata, item: pystac.Item) -> tuple[dict[str, Any], Offset | None]:
    """Return the numbers of one band of an unlisted collection, and what decided its offset."""
    integer = band.dtype is not None and not band.dtype.startswith("float")
    unit: Unit | None = band.unit
    offset: Offset | None = None
    if name in SAR:
        if unit == "1" and band.dtype is not None and not integer:
            # A backscatter coefficient is a ratio of powers: dimensionless, and linear.
            unit = "power"
        if unit not in {"dB", "power", "amplitude"} or (unit != "dB" and integer and band.scale in {None, 1.0}):
            raise UnusableError(f"band {band.asset!r} states no physical unit (dB, power or amplitude): it looks uncalibrated")
    elif name in OPTICAL:
        if band.spelling and unit != "1":
            raise UnusableError(f"band {band.asset!r} is not reflectance (unit {band.spelling!r})")
        if band.scale is None and (band.dtype is None or integer):
            stored = band.dtype or "numbers"
            raise UnusableError(f"band {band.asset!r} stores {stored} without a scale to reflectance (raster:scale)")
        unit = "1"
        rule = rule_of(item) if integer else None
        if rule is not None:
            offset = already_applied(rule, item) or (decide(rule, item) if band.offset is None else None)
    elif name == "landcover":
        unit = "class"
    elif unit != _UNIT_OF[name]:
        said = f"the unit {band.spelling!r}" if band.spelling else "no unit"
        raise UnusableError(f"band {band.asset!r} states {said}; it would be used as {_UNIT_OF[name]}")
    return {
        "dtype": band.dtype,
        "nodata": band.nodata,
        "scale": band.scale,
        "offset": offset.value if offset else band.offset,
        "unit": unit,
        "resampling": resampling_of(name),
    }, offset


def _find_mask(item: pystac.Item, sensor: Sensor) -> tuple[str, MaskConvention, BandMetadata] | None:
    for band in _all_bands(item):
        names = {band.asset.lower() if band.alone else None, (band.name or "").lower()}
        for name, convention in mask_conventions().items():
            if sensor in convention.sensors and names & set(convention.names):
                return name, convention, band
    return None
