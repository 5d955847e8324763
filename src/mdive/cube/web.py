"""Byte ranges over HTTP: what was asked for or a named failure, in bounded time.

GDAL remembers a failed address for the life of a process, retries what it was never told of, and takes a login page for a small file.
Here each answer is looked at: its status, its range, its length. What may pass is tried again after a pause with jitter, or after what the
server asks for; what will not pass ends at once.
"""

from __future__ import annotations

import ipaddress
import random
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import urllib3

from mdive.cube.failures import CAUSES_THAT_PASS, Unreadable, without_secrets
from mdive.cube.store import Range

ATTEMPTS: Final = 4
"""Times a range is asked for where the failure may pass."""

FIRST_PAUSE: Final = 0.25
"""Seconds before the second attempt, on average; each later pause is twice as long."""

LONGEST_PAUSE: Final = 30.0
"""Seconds. A server that asks for more (Retry-After) gets no more of this run's time."""

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 30.0
"""Seconds without a byte after which an answer counts as lost."""

SLOW_SECONDS: Final = 30.0
SLOW_BYTES: Final = 1000.0
"""An answer that has brought less than so many bytes a second after so many seconds counts as lost (curl's low-speed limit)."""

REDIRECTS: Final = 5

PIECE: Final = 1 << 20
"""Bytes taken from a connection at once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes of a file, and how long the file is."""

    data: bytes
    size: int


class Web:
    """Byte ranges of many servers, over connections that are kept.

    Parameters
    ----------
    connections
        Requests in flight at once: blocks that wait cost nothing, so this is far more than there are cores.
    """

    def __init__(self, connections: int) -> None:
        options: dict[str, Any] = {
            "maxsize": connections,
            "retries": False,
            "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=SILENCE_SECONDS),
            "ssl_context": ssl.create_default_context(),
        }
        self._direct = urllib3.PoolManager(**options)
        self._proxies = {
            scheme: urllib3.ProxyManager(url, **options) for scheme, url in urllib.request.getproxies().items() if "://" in url
        }
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="mdive-fetch")

    def fetch(self, href: str, ranges: Sequence[Range]) -> list[Answer]:
        """Return the bytes of ranges; they travel at once.

        Raises
        ------
        Unreadable
            The first failure, with its cause and the number of attempts.
        """
        if len(ranges) == 1:
            return [self.get(href, *ranges[0])]
        return list(self._threads.map(lambda piece: self.get(href, *piece), ranges))

    def get(self, href: str, start: int, end: int) -> Answer:
        """Return bytes from ``start`` up to ``end``; fewer where the file ends before."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(href, start, end)
            except Unreadable as error:
                error.attempts = attempt
                error.final = True
                most = 2 if error.cause == "denied" else ATTEMPTS
                if error.cause not in CAUSES_THAT_PASS or attempt >= most:
                    raise
                pause = error.wait if error.wait is not None else FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311
                if pause > LONGEST_PAUSE:
                    raise
            time.sleep(pause)

    def _once(self, href: str, start: int, end: int) -> Answer:
        try:
            response = self._answered(href, {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"})
            try:
                return self._taken(response, start, end)
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise _lost(error) from error

    def _answered(self, href: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        address = href
        for _ in range(REDIRECTS + 1):
            response: urllib3.BaseHTTPResponse = self._manager(address).request(
                "GET", address, headers=headers, preload_content=False, redirect=False
            )
            target = response.get_redirect_location()
            if not target:
                return response
            response.drain_conn()
            response.release_conn()
            following = urljoin(address, target)
            check_redirect(address, following)
            address = following
        raise Unreadable("refused", f"The server redirects more than {REDIRECTS} times.")

    def _manager(self, address: str) -> Any:
        parts = urlsplit(address)
        proxy = self._proxies.get(parts.scheme)
        return self._direct if proxy is None or urllib.request.proxy_bypass(parts.hostname or "") else proxy

    def _taken(self, response: urllib3.BaseHTTPResponse, start: int, end: int) -> Answer:
        status = response.status
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if status == 206:
            first, size = _content_range(response.headers.get("Content-Range", ""))
            if first != start:
                raise Unreadable("truncated", f"The server sent bytes from {first}, not from {start}.")
        elif status == 200:
            size = int(response.headers.get("Content-Length") or -1)
            if kind in ("text/html", "application/xhtml+xml"):
                raise Unreadable("not_a_raster", "The server sent a web page instead of the file: a login, or an error.")
            if start or not 0 <= size <= end:
                raise Unreadable("no_ranges", "The server does not send parts of files.")
        else:
            raise _refused(status, response.headers.get("Retry-After"))
        wanted = min(end, size) - start
        data = _read(response, wanted)
        if len(data) != wanted:
            raise Unreadable("truncated", f"The server sent {len(data):,} of {wanted:,} bytes.")
        return Answer(data, size)


def _read(response: urllib3.BaseHTTPResponse, wanted: int) -> bytes:
    pieces, got, began = [], 0, time.monotonic()
    while got < wanted:
        piece = response.read1(min(PIECE, wanted - got))
        if not piece:
            break
        pieces.append(piece)
        got += len(piece)
        took = time.monotonic() - began
        if took > SLOW_SECONDS and got / took < SLOW_BYTES:
            raise Unreadable("timeout", f"The server sends {got / took:.0f} bytes a second.")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _content_range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", text.strip())
    if not found:
        raise Unreadable("truncated", "The server does not say which bytes it sent.")
    return int(found[1]), int(found[3])


def _refused(status: int, retry_after: str | None) -> Unreadable:
    if status == 416:
        return Unreadable("truncated_file", "The file ends before the place that its directory names.")
    if status in (401, 403):
        return Unreadable("denied", f"The server answered {status}: it needs credentials, or those that it got have expired.")
    error = Unreadable(f"http_{status}", f"The server answered {status}.")
    error.wait = _seconds(retry_after)
    return error


def _seconds(retry_after: str | None) -> float | None:
    """Return how long a server asks to wait: in seconds, or until a date."""
    if retry_after is None:
        return None
    try:
        return max(float(retry_after), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None


def _lost(error: urllib3.exceptions.HTTPError) -> Unreadable:
    sentence = without_secrets(str(error))
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return Unreadable("timeout", sentence)
    if isinstance(error, urllib3.exceptions.SSLError):
        return Unreadable("tls", sentence)
    if isinstance(error, urllib3.exceptions.IncompleteRead):
        return Unreadable("truncated", sentence)
    return Unreadable("connection", sentence)


def check_redirect(origin: str, target: str) -> None:
    """Refuse a redirect to another kind of address, to one that is not encrypted, or from the world into a private network.

    Raises
    ------
    Unreadable
        With cause ``refused``.
    """
    before, after = urlsplit(origin), urlsplit(target)
    if after.scheme not in ("http", "https") or not after.hostname:
        raise Unreadable("refused", f"The server redirects to {after.scheme or 'no'} address.")
    if before.scheme == "https" and after.scheme == "http":
        raise Unreadable("refused", "The server redirects from https to http.")
    if before.hostname != after.hostname and _is_private(after.hostname) and not _is_private(before.hostname or ""):
        raise Unreadable("refused", f"The server redirects to the private address {after.hostname}.")


def _is_private(host: str) -> bool:
    try:
        found = [ipaddress.ip_address(host)]
    except ValueError:
        try:
            found = [ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, None)]
        except OSError:
            return False
    return any(not address.is_global for address in found)
