"""From what a user wrote to a catalogue that can be searched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mdive.plugins.registry import provider_file
from mdive.providers._catalog import Catalog
from mdive.providers._documents import fetch_json, local_path
from mdive.providers._library import provider, provider_names, unknown
from mdive.providers._static import StaticCatalog
from mdive.providers._table import TableCatalog

DEFAULT_PROVIDER: Final = "earth-search"
"""Where to look when nobody says: open to everybody, without tokens."""


def open_catalog(spec: str | None = None) -> Catalog:
    """Open a catalogue.

    Parameters
    ----------
    spec
        One of: the name of a known catalogue (``earth-search``, ``planetary-computer``); the URL of a STAC API; the path or URL of a static
        STAC catalogue, collection, item or item collection (JSON), or of a folder that holds one, or items; the path or URL of a
        stac-geoparquet file (``.parquet``). None is ``earth-search``. The environment variable ``MDIVE_CATALOG_<NAME>`` (say,
        ``MDIVE_CATALOG_EARTH_SEARCH``) replaces the URL of a known catalogue: for a mirror, a proxy or a test.

    Raises
    ------
    InputError
        When it is neither a known name nor anything that is there.
    CatalogError
        When it is there and cannot be read as a catalogue.
    """
    spec = (spec or DEFAULT_PROVIDER).strip()
    path = None if provider_file(spec) is not None else local_path(spec)
    if path is not None:
        path = _existing(spec, path)
        return TableCatalog(spec, str(path)) if path.suffix == ".parquet" else StaticCatalog(spec, str(path))
    # pystac-client takes as long to import as a small catalogue to read.
    from mdive.providers._api import ApiCatalog, looks_like_api

    if provider_file(spec) is not None:
        known = provider(spec)
        return ApiCatalog(spec, os.environ.get(f"MDIVE_CATALOG_{_shout(spec)}", known.url), known)
    if urlsplit(spec).path.endswith(".parquet"):
        return TableCatalog(spec, spec)
    same = next((p for p in map(provider, provider_names()) if p.url.rstrip("/") == spec.rstrip("/")), None)
    if same is not None:
        return ApiCatalog(spec, spec, same)
    root = fetch_json(spec)
    return ApiCatalog(spec, spec, None) if looks_like_api(root) else StaticCatalog(spec, spec)


def _shout(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).upper()


def _existing(spec: str, path: Path) -> Path:
    if not path.exists():
        raise unknown(spec, is_path="/" in spec or path.suffix in {".json", ".geojson", ".parquet"})
    return path.resolve()
