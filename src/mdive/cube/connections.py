"""GET over HTTP: connections that are kept, proxies, redirects, and credentials that stay where they belong."""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError

from mdive.config import allowed_hosts
from mdive.cube.failures import Unreadable, without_secrets
from mdive.model.address import make_discreet

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 30.0
"""Seconds without a byte after which an answer counts as lost."""

SLOW_SECONDS: Final = 30.0
SLOW_BYTES: Final = 1000.0
"""An answer that brings less than so many bytes a second over so many seconds counts as lost (curl's low-speed limit)."""

REDIRECTS: Final = 5

REGION: Final = "x-amz-bucket-region"
"""Header in which S3 says where a bucket is."""

PIECE: Final = 1 << 20
"""Bytes taken from a connection at once."""

LEFTOVER: Final = 64 * 1024
"""Bytes of an unwanted body (an error page) that are read to keep the connection; for longer ones a new connection is cheaper."""


class Connections:
    """Connections to many servers.

    Parameters
    ----------
    most
        Connections to one host; more requests wait for a free one.
    """

    def __init__(self, most: int) -> None:
        self._options: dict[str, Any] = {
            "maxsize": most,
            "block": True,
            "retries": False,
            "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=SILENCE_SECONDS),
            "ssl_context": ssl.create_default_context(),
        }
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._proxies = urllib.request.getproxies()
        self._lock = threading.Lock()

    @contextmanager
    def get(self, href: str, headers: Mapping[str, str], own: Mapping[str, str] | None = None) -> Iterator[urllib3.BaseHTTPResponse]:
        """Ask, follow redirects that may be followed, and give the answer; its connection is kept for the next request.

        Parameters
        ----------
        href, headers
            What to ask.
        own
            Headers for this server only: redirects to another one go without them.

        Raises
        ------
        Unreadable
            With cause ``refused``: a redirect that is not followed, or an address or a proxy that is none.
        urllib3.exceptions.HTTPError
            If the connection fails.
        """
        address, secret = _parted(href)
        own = {**(own or {}), **secret}
        for _ in range(REDIRECTS + 1):
            check_host(address)
            response = self._manager(address).request("GET", address, headers={**headers, **own}, preload_content=False, redirect=False)
            try:
                target = response.get_redirect_location()
                # What was signed for one region of S3 opens nothing in another.
                if not target or ("X-Amz-Signature=" in address and REGION in response.headers):
                    yield response
                    return
            finally:
                _let_go(response)
            following, other = _parted(_joined(address, target))
            check_redirect(address, following)
            own = {**(own if _origin(address) == _origin(following) else {}), **other}
            address = following
        raise Unreadable("refused", f"The server redirects more than {REDIRECTS} times.")

    def _manager(self, address: str) -> urllib3.PoolManager:
        parts = urlsplit(address)
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all") or ""
        if proxy and urllib.request.proxy_bypass(parts.netloc):
            proxy = ""
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = self._made(proxy)
            return self._managers[proxy]

    def _made(self, proxy: str) -> urllib3.PoolManager:
        if not proxy:
            return urllib3.PoolManager(**self._options)
        place, secret = _parted(proxy if "://" in proxy else f"http://{proxy}")
        if urlsplit(place).scheme not in ("http", "https"):
            raise Unreadable("refused", f"The environment names a proxy of a kind that is not supported: {urlsplit(place).scheme}.")
        allowed = {f"Proxy-{name}": value for name, value in secret.items()}
        return urllib3.ProxyManager(place, proxy_headers=allowed, proxy_ssl_context=self._options["ssl_context"], **self._options)


def taken(response: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """Return what an answer brings, up to a number of bytes.

    Raises
    ------
    Unreadable
        With cause ``timeout``, if it comes too slowly.
    urllib3.exceptions.HTTPError
        If the connection fails before the end that the server has named.
    """
    pieces, got = [], 0
    since, had = time.monotonic(), 0
    while got < most:
        piece = response.read1(min(PIECE, most - got), decode_content=False)
        if not piece:
            break
        pieces.append(piece)
        got += len(piece)
        took = time.monotonic() - since
        if took > SLOW_SECONDS:
            if got - had < SLOW_BYTES * took:
                response.close()
                raise Unreadable("timeout", f"The server sends {(got - had) / took:.0f} bytes a second.")
            since, had = time.monotonic(), got
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def lost(error: HTTPError) -> Unreadable:
    """Return the cause of a request that failed without an answer, or in the middle of one."""
    if isinstance(error, LocationValueError):
        return Unreadable("refused", "The address is no address.")
    # A refused connection is a ConnectTimeoutError as well.
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return Unreadable("connection", f"No connection to the server: {without_secrets(str(error.__cause__ or error))}.")
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return Unreadable("timeout", f"No connection to the server within {CONNECT_SECONDS:.0f} seconds.")
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return Unreadable("timeout", f"The server sent nothing for {SILENCE_SECONDS:g} seconds.")
    if isinstance(error, urllib3.exceptions.SSLError):
        return Unreadable("tls", without_secrets(str(error)))
    inner = error.args[-1] if error.args else None
    if isinstance(inner, urllib3.exceptions.IncompleteRead):
        return Unreadable(
            "truncated", f"The server hung up after {inner.partial:,} of {(inner.partial or 0) + (inner.expected or 0):,} bytes."
        )
    return Unreadable("connection", f"The connection failed: {without_secrets(str(inner or error))}.")


def check_redirect(origin: str, target: str) -> None:
    """Refuse a redirect to another kind of address, to one that is not encrypted, or from the world into a private network.

    Raises
    ------
    Unreadable
        With cause ``refused``.
    """
    before, after = urlsplit(origin), urlsplit(target)
    if after.scheme not in ("http", "https") or not after.hostname:
        raise Unreadable("refused", "The server redirects to an address that is not one of the web.")
    if before.scheme == "https" and after.scheme == "http":
        raise Unreadable("refused", "The server redirects from https to http.")
    if before.hostname != after.hostname and _is_private(after.hostname) and not _is_private(before.hostname or ""):
        raise Unreadable("refused", f"The server redirects to the private address {after.hostname}.")


def check_host(address: str) -> None:
    """Refuse a server that is not on the list of the environment, if there is one.

    Raises
    ------
    Unreadable
        With cause ``refused``.
    """
    allowed = allowed_hosts()
    if allowed is not None:
        host = urlsplit(address).hostname or ""
        if not any(fnmatchcase(host, pattern) for pattern in allowed):
            raise Unreadable("refused", f"{host} is none of the hosts in MDIVE_HOSTS.")


def _let_go(response: urllib3.BaseHTTPResponse) -> None:
    # A connection goes back only at the end of a body: the next request would read the rest of this one.
    if not response.closed and (response.length_remaining or 0) <= LEFTOVER:
        with suppress(Unreadable, HTTPError):
            taken(response, LEFTOVER)
    if not response.closed:
        response.close()
    response.release_conn()


def _joined(address: str, target: str) -> str:
    try:
        return urljoin(address, target)
    except ValueError:
        raise Unreadable("refused", "The server redirects to an address that is not one of the web.") from None


def _parted(href: str) -> tuple[str, dict[str, str]]:
    """Return an address without user and password, and the header that says them, if there are any."""
    try:
        parts = urlsplit(href)
    except ValueError:
        raise Unreadable("refused", "The address is no address.") from None
    user, at, place = parts.netloc.rpartition("@")
    if not at:
        return href, {}
    return parts._replace(netloc=place).geturl(), {"Authorization": f"Basic {base64.b64encode(unquote(user).encode()).decode()}"}


def _origin(address: str) -> tuple[str, str]:
    parts: SplitResult = urlsplit(address)
    return parts.scheme, parts.netloc.lower()


def _is_private(host: str) -> bool:
    try:
        found = [ipaddress.ip_address(host)]
    except ValueError:
        try:
            found = [ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, None)]
        except (OSError, UnicodeError):
            return False
    return any(not address.is_global for address in found)


make_discreet("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry")
make_discreet("rasterio._base", "rasterio._env", "rasterio._err", "rasterio._io", "rasterio._vsiopener")
