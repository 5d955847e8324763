"""Reads JSON and bytes from paths and URLs: the one door of static catalogues."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from mdive.errors import CatalogError
from mdive.model.address import make_discreet, redact, without_query

TIMEOUT: Final[tuple[float, float]] = (10.0, 60.0)
"""Seconds to connect, and to wait for the next byte: a server that is there answers within the first; a large page may take the second."""

ATTEMPTS: Final = 6
"""Once and five times again: with the waits below a server may be away for about a minute."""

FIRST_WAIT: float = 0.5
"""Seconds before the first retry; each further wait is twice as long."""

LONGEST_WAIT: Final = 120.0
"""Seconds that a server's ``Retry-After`` may ask for; a longer wish is an error that people should see, not a silent hour."""

LARGEST: Final = 1 << 30
"""Bytes of one document: a stac-geoparquet file of a million items is about this large."""

RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class UnreadableError(CatalogError):
    """A document could not be read; ``message`` is the cause."""


def unsearchable(name: str, cause: str, hint: str) -> CatalogError:
    """Return the error of a catalogue that cannot be searched: two lines, whatever the cause looks like."""
    line = " ".join(cause.split()).rstrip(".")
    return CatalogError(f"catalogue {without_query(name)!r} could not be searched: {redact(line)[:300]}.", redact(hint))


def local_path(href: str) -> Path | None:
    """Return the path that a href means, or None for a URL of another machine."""
    parts = urlsplit(href)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in href else Path(href).expanduser()


def read_bytes(href: str) -> bytes:
    """Return the bytes of a document.

    Raises
    ------
    UnreadableError
        With the cause.
    """
    path = local_path(href)
    if path is None:
        return _download(href)
    try:
        if path.stat().st_size > LARGEST:
            raise UnreadableError(f"{path} is larger than {LARGEST >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or error}") from None


def read_json(href: str) -> Any:
    """Return a JSON document.

    Raises
    ------
    UnreadableError
        With the cause.
    """
    try:
        return json.loads(read_bytes(href))
    except (ValueError, RecursionError) as error:
        detail = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise UnreadableError(f"{without_query(href)} is not JSON ({detail})") from None


def fetch_json(url: str) -> Any:
    """Return the JSON document at a URL that a user gave.

    Raises
    ------
    CatalogError
        In words for the user.
    """
    try:
        return read_json(url)
    except UnreadableError as error:
        raise unsearchable(
            url, error.message, "Check the address and the network; a catalogue is a STAC API, catalog.json or .parquet file."
        ) from None


def _download(url: str) -> bytes:
    import httpx
    import stamina

    def worth_retrying(error: Exception) -> bool | float:
        if isinstance(error, httpx.HTTPStatusError):
            if error.response.status_code not in RETRIED:
                return False
            asked = error.response.headers.get("Retry-After", "")
            return min(max(float(asked), FIRST_WAIT), LONGEST_WAIT) if asked.isdigit() else True
        return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)

    @stamina.retry(on=worth_retrying, attempts=ATTEMPTS, timeout=None, wait_initial=FIRST_WAIT, wait_max=30.0, wait_jitter=FIRST_WAIT)
    def get() -> bytes:
        timeout = httpx.Timeout(TIMEOUT[1], connect=TIMEOUT[0])
        with httpx.stream("GET", url, timeout=timeout, follow_redirects=True) as response:
            response.raise_for_status()
            body = bytearray()
            for part in response.iter_bytes():
                body += part
                if len(body) > LARGEST:
                    raise UnreadableError(f"{without_query(url)} is larger than {LARGEST >> 20} MiB")
            return bytes(body)

    try:
        return get()
    except httpx.HTTPStatusError as error:
        raise UnreadableError(f"{without_query(url)} answers {error.response.status_code} {error.response.reason_phrase}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreadableError(f"{without_query(url)}: {type(error).__name__}: {redact(str(error))}") from None


make_discreet("httpx", "pystac_client.client", "pystac_client.item_search", "pystac_client.stac_api_io", "stamina")
for _part in ("connection", "http11", "http2", "proxy", "socks"):
    # They tell the headers of requests and answers, whoever asks.
    logging.getLogger(f"httpcore.{_part}").addFilter(lambda _: False)
