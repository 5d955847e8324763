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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import urllib3

from mdive.cube.connections import Connections, lost, taken
from mdive.cube.failures import CAUSES_THAT_PASS, Unreadable
from mdive.cube.patience import Patience
from mdive.cube.store import Range

ATTEMPTS: Final = 4
"""Times a range is asked for where the failure may pass."""

ATTEMPTS_IF_DENIED: Final = 2

FIRST_PAUSE: Final = 0.25
"""Seconds before the second attempt, on average; each later pause is twice as long."""

LONGEST_PAUSE: Final = 30.0
"""Seconds. A server that asks for more (Retry-After) gets no more of this run's time."""

WHOLE: Final = 1 << 20
"""Bytes of a file up to which a server may send all of it where a part was asked for."""

SILENT: Final = frozenset({"connection", "timeout"})
"""Causes that say that a host is not there, not that a file is not."""

PACKED: Final = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes of a file, and how long the file is."""

    data: bytes = field(repr=False)
    size: int


class Web:
    """Byte ranges of many servers, over connections that are kept.

    Parameters
    ----------
    connections
        Requests to one host in flight at once: blocks that wait cost nothing, so this is far more than there are cores.
    patience
        What the whole process bears from servers.
    """

    def __init__(self, connections: int, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
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
        host = _host(href)
        attempt = 0
        while True:
            if not self._patience.admits(host):
                error = Unreadable("host_down", f"{host} has failed again and again; it is not asked for a while.")
                error.attempts, error.final = attempt, True
                raise error
            attempt += 1
            try:
                answer = self._once(href, start, end)
            except Unreadable as error:
                (self._patience.silent if error.cause in SILENT else self._patience.answered)(host)
                error.attempts = attempt
                if not (_may_pass(error, attempt) and self._patience.pause(_pause(error, attempt))):
                    error.final = True
                    raise
            else:
                self._patience.answered(host)
                self._patience.served()
                return answer

    def _once(self, href: str, start: int, end: int) -> Answer:
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        try:
            with self._connections.get(href, headers) as response:
                return _answer(response, start, end)
        except urllib3.exceptions.HTTPError as error:
            raise lost(error) from error


def _host(href: str) -> str:
    try:
        return urlsplit(href).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _may_pass(error: Unreadable, attempt: int) -> bool:
    most = ATTEMPTS_IF_DENIED if error.cause == "denied" else ATTEMPTS
    return not error.final and error.cause in CAUSES_THAT_PASS and attempt < most and (error.wait or 0.0) <= LONGEST_PAUSE


def _pause(error: Unreadable, attempt: int) -> float:
    # What the server asks for comes on top: else all threads would come back at the same moment.
    return (error.wait or 0.0) + FIRST_PAUSE * float(2 ** (attempt - 1)) * random.uniform(0.5, 1.5)  # noqa: S311


def _answer(response: urllib3.BaseHTTPResponse, start: int, end: int) -> Answer:
    status = response.status
    if status not in (200, 206):
        raise _refused(status, response.headers.get("Retry-After"))
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
    return Answer(data, size)


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
    return Answer(data[start:end], size)


def _content_range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", text.strip())
    if not found:
        raise Unreadable("truncated", "The server does not say which bytes it sent.")
    return int(found[1]), int(found[3])


def _refused(status: int, retry_after: str | None) -> Unreadable:
    if status == 416:
        error = Unreadable("truncated", "The file on the server has no such bytes: it ends before.")
        error.final = True
        return error
    if status in (401, 403):
        return Unreadable("denied", f"The server answered {status}: it needs credentials, or those that it got have expired.")
    error = Unreadable(f"http_{status}", f"The server answered {status}.")
    error.wait = _seconds(retry_after)
    return error


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
