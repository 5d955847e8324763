"""References to bands: where the numbers are, and what they mean, as the plan keeps it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pystac

from mdive.model.address import unsigned
from mdive.model.checksum import as_multihash
from mdive.model.datasource import Access, MaskConvention, Sensor
from mdive.model.plan import AssetRef, MaskRule, Resampling
from mdive.providers._documents import local_path
from mdive.providers._extent import UnusableError
from mdive.providers._metadata import BandMetadata

_NEAREST: Final = frozenset({"occurrence", "landcover"})
"""Bands whose values must not be mixed: classes, and frequencies that a threshold turns into classes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An item's bands as they will be loaded."""

    source: str
    sensor: Sensor
    static: bool
    assets: Mapping[str, AssetRef]
    """By mdive's band name; the quality band under the name of its convention."""
    mask: MaskRule | None
    minor: frozenset[str]
    """Bands that an item may lack without being worth less than the others of its source."""
    title: str
    access: Access = "open"
    rank: int = 0
    """Place of the collection in its provider's order of preference."""
    decided: Mapping[str, str] = field(default_factory=dict)
    """What was decided for this item and why, for its properties in the plan."""

    @property
    def bands(self) -> frozenset[str]:
        """Bands without the quality band."""
        return frozenset(self.assets) - ({self.mask.band} if self.mask else set())


def resampling_of(name: str) -> Resampling:
    """Return how a band is resampled where nothing else is said."""
    return "nearest" if name in _NEAREST else "bilinear"


def mask_rule(name: str, convention: MaskConvention) -> MaskRule:
    """Return a convention as the plan keeps it; the band goes by the convention's name."""
    return MaskRule(band=name, kind=convention.kind, causes=convention.causes)


def mask_ref(item: pystac.Item, convention: MaskConvention, band: BandMetadata) -> AssetRef:
    """Return the reference to a quality band."""
    unit: Literal["bits", "class"] = "bits" if convention.kind == "bits" else "class"
    nodata = band.nodata if band.nodata is not None else convention.nodata
    given = {"dtype": band.dtype or convention.dtype, "nodata": nodata, "unit": unit, "resampling": "nearest"}
    return asset_ref(item, band.asset, band.index, given)


def asset_ref(item: pystac.Item, key: str, index: int, numbers: Mapping[str, Any]) -> AssetRef:
    """Return the reference to one band of an asset.

    Parameters
    ----------
    item
        Whose properties stand in where the asset does not tell its grid.
    key
        Of the asset.
    index
        One-based band index.
    numbers
        Fields of ``AssetRef`` that say what the stored numbers mean; None for the neutral value.

    Raises
    ------
    UnusableError
        When its href leads nowhere.
    """
    asset = item.assets[key]
    fields = {**item.properties, **asset.extra_fields}
    transform, shape = fields.get("proj:transform"), fields.get("proj:shape")
    return AssetRef(
        href=_absolute(asset),
        index=index,
        crs=_crs(asset.extra_fields) or _crs(item.properties),
        transform=_numbers(transform, 6),
        shape=_numbers(shape, 2),
        checksum=as_multihash(asset.extra_fields.get("file:checksum")),
        size=_size(asset.extra_fields.get("file:size")),
        **{name: value for name, value in numbers.items() if value is not None},
    )


def _absolute(asset: pystac.Asset) -> str:
    href = asset.get_absolute_href() or asset.href
    path = local_path(href)
    if path is None:
        return unsigned(href)
    if local_path(asset.owner.get_self_href() or "" if asset.owner else "") is None:
        raise UnusableError("it came over the network and points at a file of this machine")
    if not path.is_absolute():
        raise UnusableError(f"its href {href.partition('?')[0]!r} is relative to nothing")
    return str(path)


def _numbers(value: Any, count: int) -> Any:
    """Return the first numbers of a list, or None where it is none."""
    if not isinstance(value, list | tuple) or len(value) < count:
        return None
    return tuple(value[:count]) if all(isinstance(n, int | float) and math.isfinite(n) for n in value[:count]) else None


def _crs(fields: Mapping[str, Any]) -> str | None:
    code, epsg, wkt = fields.get("proj:code"), fields.get("proj:epsg"), fields.get("proj:wkt2")
    if isinstance(code, str):
        return code
    if isinstance(epsg, int):
        return f"EPSG:{epsg}"
    return wkt if isinstance(wkt, str) else None


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
