"""The provider files, mask conventions and offset rules that are installed, each read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from mdive.errors import InputError, PluginError, nearest
from mdive.model.address import without_query
from mdive.model.datasource import Datasource, MaskConvention, OffsetRule, Provider
from mdive.model.load import load_document, load_mapping
from mdive.plugins.registry import provider_file, providers

_HERE = Path(__file__).parent


def provider_names() -> tuple[str, ...]:
    """Return the names of the catalogues that are known, sorted."""
    return tuple(sorted(providers()))


@cache
def provider(name: str) -> Provider:
    """Return what is known about a catalogue.

    Raises
    ------
    InputError
        When no file describes it (says what there is), or the file is wrong (says where).
    PluginError
        When the file describes another catalogue than its name says, or several packages claim the name.
    """
    file = provider_file(name)
    if file is None:
        raise unknown(name)
    found = load_document(file, Provider)
    if found.name != name:
        raise PluginError(f"{file} describes the catalogue {found.name!r}.", "The file's name and the catalogue's must be one.")
    return found


def unknown(name: str, *, is_path: bool = False) -> InputError:
    """Return the error for something that is neither a known catalogue nor a file."""
    names = provider_names()
    return InputError(
        f"there is no file or folder {name!r}." if is_path else f"no catalogue {without_query(name)!r}.{nearest(name, names)}",
        f"Known: {', '.join(names)}; or give the URL of a STAC API, or the path or URL of a static catalogue or a .parquet file.",
    )


@cache
def mask_conventions() -> Mapping[str, MaskConvention]:
    """Return the mask conventions by name."""
    return {name: MaskConvention.model_validate(value) for name, value in load_mapping(_HERE / "masks.yaml").items()}


@cache
def offset_rules() -> Mapping[str, OffsetRule]:
    """Return the offset rules by name."""
    return {name: OffsetRule.model_validate(value) for name, value in load_mapping(_HERE / "offsets.yaml").items()}


def datasources(first: Provider | None = None) -> Iterator[Datasource]:
    """Yield all datasources, those of one provider before all others."""
    known = [provider(name) for name in provider_names() if first is None or name != first.name]
    for each in [first, *known] if first is not None else known:
        yield from each.datasources


def describe_providers() -> list[dict[str, str]]:
    """Return one row per described collection: provider, url, collection, sensor, title, access, refused (why, or empty)."""
    return [
        {
            "provider": name,
            "url": provider(name).url,
            "collection": collection,
            "sensor": source.sensor,
            "title": source.title,
            "access": source.access,
            "refused": source.refuse or "",
        }
        for name in provider_names()
        for source in provider(name).datasources
        for collection in source.collections
    ]


def static_collections() -> frozenset[str]:
    """Return the ids of collections that are known to show no particular time."""
    return frozenset(collection for source in datasources() if source.static for collection in source.collections)
