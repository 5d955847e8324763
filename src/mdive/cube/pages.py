"""Parts of files on servers that GDAL may ask for again: kept apart from GDAL, which they need not wait for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from mdive.cube.web import Answer

KEPT: Final = 32 * 2**20
"""Bytes of pages that are kept: headers, and blocks that the next tile needs as well."""


class Pages:
    """Parts of remote files, shared by all threads of a process.

    Parameters
    ----------
    budget
        Bytes that are kept; the newest file fetched as a whole stays whatever it takes.
    """

    def __init__(self, budget: int = KEPT) -> None:
        self._budget = budget
        self._pages: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._states: dict[str, Answer] = {}
        """By address: what the first answer said of the file."""
        self._held = 0
        self._lock = threading.Lock()

    def get(self, href: str, number: int) -> bytes | None:
        """Return a page, if it is here."""
        with self._lock:
            page = self._pages.get((href, number))
            if page is not None:
                self._pages.move_to_end((href, number))
            return page

    def put(self, href: str, number: int, data: bytes) -> None:
        """Keep a page."""
        with self._lock:
            self._held += len(data) - len(self._pages.pop((href, number), b""))
            self._pages[href, number] = data
            while self._held > self._budget and len(self._pages) > 1:
                self._held -= len(self._pages.popitem(last=False)[1])

    def checked(self, href: str, answer: Answer) -> Answer:
        """Return an answer, if it is about the same file as the first one.

        Raises
        ------
        Unreadable
            With cause ``changed``.
        """
        with self._lock:
            first = self._states.setdefault(href, Answer(b"", answer.size, answer.etag, answer.modified))
        answer.must_be_of(first)
        return answer

    def size(self, href: str) -> int | None:
        """Return how long a file is, if that is known."""
        with self._lock:
            return self._states[href].size if href in self._states else None

    def forget(self, href: str) -> None:
        """Drop all of a file: it failed, or it is another one now."""
        with self._lock:
            self._states.pop(href, None)
            for key in [key for key in self._pages if key[0] == href]:
                self._held -= len(self._pages.pop(key))
