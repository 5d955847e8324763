"""Why a raster could not be read: one word for the ledger, one sentence for people, and never a credential in either."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mdive.model.address import redact
from mdive.model.plan import Fault
from mdive.pipeline.window import Window

CAUSES_THAT_PASS = frozenset(
    {
        "timeout",
        "connection",
        "truncated",
        "corrupt",
        "not_a_raster",
        "denied",
        "http_408",
        "http_429",
        "http_500",
        "http_502",
        "http_503",
        "http_504",
    }
)
"""Causes that a second request may cure: a gateway's error page instead of a raster, a token that has just expired, a cut connection."""

_SIGNS: tuple[tuple[str, str], ...] = (
    (r"no such file|does not exist", "missing"),
    (r"permission denied|access denied|http response code: 40[13]", "denied"),
    (r"timed? ?out|timeout", "timeout"),
    (r"curl error|could not resolve|connection|ssl", "connection"),
    (r"failed to read directory|got \d+ bytes, expected|unexpected end|truncated", "truncated"),
    (r"not recognized as being in a supported file format|range downloading not supported", "not_a_raster"),
    (r"decod|ireadblock|checksum|corrupt", "corrupt"),
)
"""What GDAL says (it has no error numbers for these), and the word for it; first match wins."""


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """One band of one item that could not be read in one window: a row of the ledger."""

    source: str
    """Source key, ``name/phase``."""
    item: str
    band: str
    href: str
    """Without query string and user name."""
    window: Window
    """Window of the target grid that was asked for."""
    cause: str
    """One word: ``missing``, ``truncated``, ``not_a_raster``, ``denied``, ``refused``, ``http_404``, ``timeout``, ``no_asset`` ..."""
    message: str
    attempts: int


class Unreadable(Exception):
    """A raster cannot be read; carries the word for the cause."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.attempts = 1
        self.final = False
        """Whether it has been tried as often as it is worth."""
        self.wait: float | None = None
        """Seconds that a server asks for before the next attempt."""

    def again(self) -> Unreadable:
        """Return the same failure for another reader: an exception that is raised twice holds the frames of both."""
        error = Unreadable(self.cause, self.message)
        error.attempts, error.final = self.attempts, True
        return error


def faulty(fault: Fault) -> Unreadable:
    """Return the failure of a file that was found wrong before the run."""
    error = Unreadable(fault.cause, fault.message)
    error.attempts, error.final = fault.attempts, True
    return error


def diagnosed(error: BaseException) -> Unreadable:
    """Return the cause of a library's error, from all that its chain of exceptions says."""
    if isinstance(error, Unreadable):
        return error
    said = list(dict.fromkeys(str(link) for link in _chain(error)))
    text = " ".join(said).lower()
    sentence = without_secrets(said[1] if len(said) > 1 and "previous exception" in said[0] else said[0])
    if isinstance(error, PermissionError):
        return Unreadable("denied", sentence)
    if code := re.search(r"http response code: (\d{3})", text):
        return Unreadable("denied" if code[1] in ("401", "403") else f"http_{code[1]}", sentence)
    return Unreadable(next((cause for sign, cause in _SIGNS if re.search(sign, text)), "unreadable"), sentence)


def without_secrets(text: str) -> str:
    """Return a message without the query strings, user names, named secrets and GDAL prefixes of the addresses in it."""
    return redact(text.replace("/vsicurl/", "").replace("/vsis3/", "s3://"))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
