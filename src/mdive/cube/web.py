"""Byte ranges over HTTP: what was asked for or a named failure, in bounded time.

GDAL remembers a failed address for the life of a process, retries what it was never told of, and takes a login page for a small file.
Here each answer is looked at: its status, its range, its length. What may pass is tried again after a pause with jitter, or after what the
server asks for; what will not pass ends at once.
"""

from __future__ import annotations

import datetime as dt
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit

import urllib3

from mdive.cube.connections import REGION, Connections, lost, taken
from mdive.cube.failures import CAUSES_THAT_PASS, Unreadable
from mdive.cube.objects import S3, Google
from mdive.cube.patience import Patience
from mdive.cube.signing import Bearer, Callbacks, PlanetaryComputer, Signed, Signers
from mdive.cube.store import Range

T = TypeVar("T")

ATTEMPTS: Final = 4
"""Times a range is asked for where the failure may pass."""

DENIALS: Final = 2
"""Times that a server may deny one range: the first denial may be of a signature that has run out, the second is of a new one."""

FIRST_PAUSE: Final = 0.25
"""Seconds before the second attempt, on average; each later pause is twice as long."""

LONGEST_PAUSE: Final = 30.0
"""Seconds. A server that asks for more (Retry-After) gets no more of this run's time."""

WHOLE: Final = 1 << 20
"""Bytes of a file up to which a server may send all of it where a part was asked for."""

DOCUMENT: Final = 1 << 16
"""Bytes of a document (a token, the page of an error) that are read at most."""

SILENT: Final = frozenset({"connection", "timeout"})
"""Causes that say that a host is not there, not that a file is not."""

EXPIRED: Final = frozenset({"ExpiredToken", "TokenRefreshRequired"})
"""Errors of S3 that come as 400 and mean 403."""

PACKED: Final = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes of a file, how long the file is, and which state of it they are of."""

    data: bytes = field(repr=False)
    size: int
    etag: str = ""
    """What the server calls this state of the file; empty where it gives no name, or one that it calls weak."""
    modified: str = ""
    """When it says that the file was written, or nothing."""

    def must_be_of(self, first: Answer) -> None:
        """Refuse bytes of another file than those of an earlier answer.

        Raises
        ------
        Unreadable
            With cause ``changed``.
        """
        named = self.etag and first.etag
        mine, theirs = (self.etag, first.etag) if named else (self.modified, first.modified)
        if self.size != first.size or (mine and theirs and mine != theirs):
            raise Unreadable("changed", "The file on the server is another one than before.")


class Web:
    """Byte ranges of many servers, over connections that are kept.

    Parameters
    ----------
    connections
        Requests to one host in flight at once: blocks that wait cost nothing, so this is far more than there are cores.
    patience
        What the whole process bears from servers.
    clock
        Seconds since 1970, by which signatures expire.
    """

    def __init__(self, connections: int, patience: Patience | None = None, clock: Callable[[], float] = time.time) -> None:
        self._patience = patience or Patience()
        self._signers = Signers((Callbacks(), S3(), Google(), Bearer(), PlanetaryComputer(self._document)), clock)
        self._connections = Connections(connections)
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
        """Return bytes from ``start`` up to ``end``; fewer where the file ends before.

        Raises
        ------
        Unreadable
            With its cause and the number of attempts; 0 where the host is known to be down and was not asked.
        """
        asked = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        return self._asked(lambda: self.signed(href), asked, lambda response: _answer(response, start, end), lambda: self.renew(href))

    def signed(self, href: str) -> Signed:
        """Return what to ask for a file with, now.

        Raises
        ------
        Unreadable
            With cause ``signing``: what opens it is not to be had.
        """
        return self._signers.sign(href)

    def pause(self, seconds: float) -> bool:
        """Wait before a file is opened once more; return False at once where the process has made too many pauses."""
        return self._patience.pause(seconds)

    def renew(self, href: str) -> None:
        """Note that a file was denied: what opens it is asked for anew."""
        self._signers.renew(href)

    def _document(self, address: str, own: Mapping[str, str]) -> bytes:
        return self._asked(lambda: Signed(address, own), {}, _whole, lambda: None)

    def _asked(
        self,
        sign: Callable[[], Signed],
        headers: Mapping[str, str],
        take: Callable[[urllib3.BaseHTTPResponse], T],
        renew: Callable[[], None],
    ) -> T:
        attempt = denials = 0
        while True:
            signed = sign()
            host = _host(signed.address)
            if not self._patience.admits(host):
                error = Unreadable("host_down", f"{host} has failed again and again; it is not asked for a while.")
                error.attempts, error.final = attempt, True
                raise error
            attempt += 1
            try:
                answer = self._once(signed, headers, take)
            except Unreadable as error:
                if error.cause == "denied":
                    denials += 1
                    renew()
                (self._patience.silent if error.cause in SILENT else self._patience.answered)(host)
                error.attempts = attempt
                if not (_may_pass(error, attempt, denials) and self._patience.pause(_pause(error, attempt))):
                    error.final = True
                    raise
            else:
                self._patience.answered(host)
                self._patience.served()
                return answer

    def _once(self, signed: Signed, headers: Mapping[str, str], take: Callable[[urllib3.BaseHTTPResponse], T]) -> T:
        try:
            with self._connections.get(signed.address, headers, signed.headers) as response:
                return take(response)
        except urllib3.exceptions.HTTPError as error:
            found = lost(error)
        # Out of the handler: the library's error holds the connection, and with it what opens a proxy.
        raise found


def _host(href: str) -> str:
    try:
        return urlsplit(href).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _may_pass(error: Unreadable, attempt: int, denials: int) -> bool:
    more = attempt < ATTEMPTS and (error.cause != "denied" or denials < DENIALS)
    return not error.final and error.cause in CAUSES_THAT_PASS and more and (error.wait or 0.0) <= LONGEST_PAUSE


def _pause(error: Unreadable, attempt: int) -> float:
    # What the server asks for comes on top: else all threads would come back at the same moment.
    return (error.wait or 0.0) + FIRST_PAUSE * float(2 ** (attempt - 1)) * random.uniform(0.5, 1.5)  # noqa: S311


def _answer(response: urllib3.BaseHTTPResponse, start: int, end: int) -> Answer:
    status = response.status
    if status not in (200, 206):
        raise _refused(response)
    if PACKED & set(re.split(r"[\s,]+", response.headers.get("Content-Encoding", "").lower())):
        raise Unreadable("encoded", "The server packs what it sends although it was asked not to.")
    if status == 200:
        return _part_of_whole(response, start, end)
    first, size = _content_range(response.headers.get("Content-Range", ""))
    if first != start:
        raise Unreadable("truncated", f"The server sent bytes from {first:,}, not from {start:,}.")
    wanted = min(end, size) - start
    data = taken(response, wanted)
    if len(data) != wanted:
        raise Unreadable("truncated", f"The server sent {len(data):,} of {wanted:,} bytes.")
    return Answer(data, size, *_state(response))


def _state(response: urllib3.BaseHTTPResponse) -> tuple[str, str]:
    etag = response.headers.get("ETag", "").strip()
    return "" if etag.startswith("W/") else etag, response.headers.get("Last-Modified", "").strip()


def _whole(response: urllib3.BaseHTTPResponse) -> bytes:
    if response.status != 200:
        raise _refused(response)
    return taken(response, DOCUMENT)


def _part_of_whole(response: urllib3.BaseHTTPResponse, start: int, end: int) -> Answer:
    """Take the part that was asked for from a whole file, if it is a small one."""
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml"):
        raise Unreadable("not_a_raster", "The server sent a web page instead of the file: a login, or an error.")
    length = response.headers.get("Content-Length", "")
    size = int(length[:18]) if length.isdecimal() else None
    most = max(end, WHOLE)
    data = taken(response, most + 1) if size is None or size <= most else b""
    if size is None:
        size = len(data)
    if size > most:
        raise Unreadable("no_ranges", "The server does not send parts of files.")
    if len(data) != size:
        raise Unreadable("truncated", f"The server sent {len(data):,} of {size:,} bytes.")
    return Answer(data[start:end], size, *_state(response))


def _content_range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", text.strip())
    if not found:
        raise Unreadable("truncated", "The server does not say which bytes it sent.")
    return int(found[1]), int(found[3])


def _refused(response: urllib3.BaseHTTPResponse) -> Unreadable:
    status = response.status
    if status == 416:
        error = Unreadable("truncated", "The file on the server has no such bytes: it ends before.")
        error.final = True
        return error
    code, region = _named(response)
    said = f"The server answered {status}{f' ({code})' if code else ''}"
    if status in (301, 307, 400) and region:
        return Unreadable("region", f"{said}: the bucket is in another region. Set AWS_REGION={region}.")
    if status in (401, 403) or code in EXPIRED:
        return Unreadable("denied", f"{said}: it needs credentials, or those that it got have expired.")
    error = Unreadable(f"http_{status}", f"{said}.")
    error.wait = _seconds(response.headers.get("Retry-After"))
    return error


def _named(response: urllib3.BaseHTTPResponse) -> tuple[str, str]:
    """Return what an object store (S3, Google, Azure) calls its error, and the region that it names; empty where it says nothing."""
    page = ""
    if "xml" in response.headers.get("Content-Type", ""):
        with suppress(Unreadable, urllib3.exceptions.HTTPError):
            page = taken(response, DOCUMENT).decode("ascii", "ignore")
    code = re.search(r"<Code>(\w{1,60})</Code>", page)
    region = re.fullmatch(r"[a-z0-9-]{1,40}", response.headers.get(REGION, "")) or re.search(r"<Region>([a-z0-9-]{1,40})</Region>", page)
    return code[1] if code else "", region[region.re.groups] if region else ""


def _seconds(retry_after: str | None) -> float | None:
    """Return how long a server asks to wait: in seconds, or until a date."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"\d{1,18}", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=dt.UTC)
    return max(until.timestamp() - time.time(), 0.0)
