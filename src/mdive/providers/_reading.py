"""How one item is read: which asset is which band, and how its numbers become physical quantities. Decided once, at planning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pystac

from mdive.model.datasource import BandRule, Datasource, Numbers, Provider
from mdive.providers._extent import UnusableError
from mdive.providers._library import datasources, mask_conventions, offset_rules
from mdive.providers._metadata import BandMetadata, bands_of
from mdive.providers._offsets import Offset, decide, unknown
from mdive.providers._refs import Reading, asset_ref, mask_ref, mask_rule, resampling_of
from mdive.providers._unlisted import read_unlisted


def read_item(item: pystac.Item, provider: Provider | None) -> Reading:
    """Return how an item is read.

    Parameters
    ----------
    item
        With absolute hrefs.
    provider
        The catalogue's own rules, which come first.

    Raises
    ------
    UnusableError
        When its numbers have no physical meaning that the metadata or a datasource tells.
    """
    listed = _match(item, provider)
    if listed is None:
        return read_unlisted(item)
    if listed.refuse is None:
        return _by_datasource(item, listed)
    try:
        return read_unlisted(item)
    except UnusableError:
        raise UnusableError(listed.refuse) from None


def _match(item: pystac.Item, provider: Provider | None) -> Datasource | None:
    """Return the datasource that fits an item best: it names the collection, and most of its bands are there."""
    best: tuple[int, Datasource] | None = None
    for source in datasources(provider):
        if item.collection_id not in source.collections:
            continue
        fits = sum(_find(item, rule, source.numbers) is not None for rule in source.bands.values())
        if (fits or source.refuse) and (best is None or fits > best[0]):
            best = fits, source
    return best[1] if best else None


def _find(item: pystac.Item, rule: BandRule, common: Numbers) -> BandMetadata | None:
    """Return the metadata of the band that a rule names, or None where the item has none, or one of another nature.

    A float asset under the name of an integer one is somebody's own derivative, whose numbers the rule does not describe.
    """
    for key in rule.assets:
        if key in item.assets:
            bands = bands_of(key, item.assets[key])
            found = bands[min(rule.index, len(bands)) - 1]
            stored, expected = found.dtype, rule.dtype or common.dtype
            if stored is None or expected is None or stored.startswith("float") == expected.startswith("float"):
                return found
    return None


def _by_datasource(item: pystac.Item, source: Datasource) -> Reading:
    found = {name: band for name, rule in source.bands.items() if (band := _find(item, rule, source.numbers)) is not None}
    offset = _offset(item, source, found)
    assets = {
        name: asset_ref(item, band.asset, source.bands[name].index, _numbers(name, band, source, offset)) for name, band in found.items()
    }
    mask = None
    if source.mask is not None and source.mask_asset in item.assets:
        convention = mask_conventions()[source.mask]
        mask = mask_rule(source.mask, convention)
        assets[source.mask] = mask_ref(item, convention, bands_of(source.mask_asset, item.assets[source.mask_asset])[0])
    collection = item.collection_id or source.collections[0]
    return Reading(
        source=collection,
        sensor=source.sensor,
        static=source.static,
        assets=assets,
        mask=mask,
        minor=frozenset(name for name, rule in source.bands.items() if rule.minor),
        title=source.title,
        access=source.access,
        rank=source.collections.index(collection),
        decided={"mdive:offset": f"{offset.value:g} ({offset.why})"} if offset else {},
    )


def _offset(item: pystac.Item, source: Datasource, found: Mapping[str, BandMetadata]) -> Offset | None:
    """Return what the datasource's rule decides; without a rule the offset is the band's own."""
    if source.offset_rule is None:
        return None
    rule = offset_rules()[source.offset_rule]
    decided = decide(rule, item)
    if decided is None and all(band.offset == 0.0 for band in found.values()):
        decided = Offset(0.0, "the metadata of its bands says 0")
    if decided is None:
        raise unknown(rule)
    return decided


def _numbers(name: str, band: BandMetadata, source: Datasource, offset: Offset | None) -> dict[str, Any]:
    """Return what the stored numbers of a band mean: the band's rule, then the datasource's, then the item's metadata."""
    said = {**source.numbers.model_dump(exclude_none=True), **source.bands[name].model_dump(exclude_unset=True, exclude_none=True)}
    own = {"scale": band.scale, "offset": band.offset, "unit": band.unit, "resampling": resampling_of(name)}
    numbers = {**own, **{field: said[field] for field in Numbers.model_fields if field in said}}
    # How this very file is stored, its own metadata knows better than a document about the whole collection.
    numbers |= {field: value for field, value in (("dtype", band.dtype), ("nodata", band.nodata)) if value is not None}
    return numbers if offset is None else {**numbers, "offset": offset.value}
