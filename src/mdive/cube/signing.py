"""What opens a file on a server: added to its address at the moment of a request, renewed before it expires, and kept in no document.

A catalogue's signature is dead before a long run ends, and often before it begins. So plans hold plain addresses, and each request asks here.
One thread asks for what opens many files; the others wait for it, or use what is still good.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Protocol
from urllib.parse import SplitResult, urlsplit

from mdive.cube.failures import Unreadable
from mdive.model.address import unsigned

MARGIN: Final = 300.0
"""Seconds before its end at which a secret is renewed: the requests in flight and a slow server need them."""

LEAST: Final = 10.0
"""Seconds for which nobody asks again, whatever came: a server that denies every file must not become a storm on the one that signs."""

SECRETS: Final = 10_000
"""Secrets kept. One opens a whole container, or one file."""

PLANETARY_COMPUTER: Final = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
BLOBS: Final = ".blob.core.windows.net"

Callback = Callable[[str], str | tuple[str, dt.datetime]]
"""Takes a plain address; returns the one that opens the file, alone or with the time at which it stops to."""

Fetch = Callable[[str, Mapping[str, str]], bytes]
"""Asks an address, with headers for its own server only, for a small document."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a file is asked for with."""

    address: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For this server only: a redirect to another one goes without them."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What opens files, and until when (seconds since 1970)."""

    value: str = field(repr=False)
    expires: float = math.inf


class Signer(Protocol):
    """One way to open files."""

    def opens(self, href: str) -> str | None:
        """Return what all files that one secret opens have in common; None for a file that is not opened this way."""
        ...

    def secret(self, key: str, href: str, now: float) -> Secret:
        """Get a secret; `Unreadable` where there is none."""
        ...

    def sign(self, href: str, secret: Secret) -> Signed:
        """Return what to ask with."""
        ...


class Signers:
    """The ways to open files that a process knows, and the secrets that it holds.

    Parameters
    ----------
    signers
        The first that opens a file does.
    clock
        Seconds since 1970.
    """

    def __init__(self, signers: Sequence[Signer], clock: Callable[[], float] = time.time) -> None:
        self._signers = tuple(signers)
        self._clock = clock
        self._kept: OrderedDict[tuple[int, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def sign(self, href: str) -> Signed:
        """Return what to ask for a file with.

        Raises
        ------
        Unreadable
            With cause ``signing``: no secret is to be had.
        """
        found = self._found(href)
        if found is None:
            return Signed(href)
        signer, key, kept = found
        return signer.sign(href, kept.secret(lambda now: signer.secret(key, href, now), self._clock))

    def renew(self, href: str) -> None:
        """Forget the secret of a file that was denied, unless it is quite new: then it is not the secret that is wrong."""
        found = self._found(href)
        if found is not None:
            found[2].drop(self._clock())

    def _found(self, href: str) -> tuple[Signer, str, _Kept] | None:
        for number, signer in enumerate(self._signers):
            key = signer.opens(href)
            if key is not None:
                with self._lock:
                    kept = self._kept.setdefault((number, key), _Kept())
                    self._kept.move_to_end((number, key))
                    while len(self._kept) > SECRETS:
                        self._kept.popitem(last=False)
                return signer, key, kept
        return None


@dataclass(frozen=True, slots=True)
class _Got:
    """A secret, or why there is none."""

    secret: Secret | None
    error: Unreadable | None
    since: float
    due: float
    """When to ask again."""


class _Kept:
    """The secret of one key."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._got: _Got | None = None

    def secret(self, ask: Callable[[float], Secret], clock: Callable[[], float]) -> Secret:
        got, now = self._got, clock()
        usable = got is not None and got.secret is not None and now < got.secret.expires
        if got is not None and now < got.due:
            return _told(got)
        # One asks. The others wait only if they have nothing to go on with.
        if not self._asking.acquire(blocking=not usable):
            assert got is not None
            return _told(got)
        try:
            got, now = self._got, clock()
            if got is None or now >= got.due:
                self._got = got = _asked(ask, got, now)
            return _told(got)
        finally:
            self._asking.release()

    def drop(self, now: float) -> None:
        got = self._got
        if got is not None and now - got.since >= LEAST:
            self._got = None


def _asked(ask: Callable[[float], Secret], before: _Got | None, now: float) -> _Got:
    try:
        secret = ask(now)
    except Unreadable as error:
        if before is not None and before.secret is not None and now < before.secret.expires:
            return _Got(before.secret, None, before.since, now + LEAST)
        return _Got(None, error.again(), now, now + LEAST)
    left = secret.expires - now
    return _Got(secret, None, now, now + max(left - MARGIN, left / 2, LEAST))


def _told(got: _Got) -> Secret:
    if got.secret is None:
        assert got.error is not None
        raise got.error.again()
    return got.secret


class PlanetaryComputer:
    """Tokens for containers of Azure blobs, as Microsoft's Planetary Computer gives them to everybody.

    The environment is that of Microsoft's own client: ``PC_SDK_SAS_URL`` for another server that answers in the same way, and
    ``PC_SDK_SUBSCRIPTION_KEY`` for a key with higher limits.

    References
    ----------
    https://planetarycomputer.microsoft.com/docs/concepts/sas/
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def opens(self, href: str) -> str | None:
        """Return account and container."""
        parts = _parts(href)
        container, _, blob = parts.path.lstrip("/").partition("/")
        account = (parts.hostname or "").removesuffix(BLOBS)
        if parts.scheme not in ("http", "https") or f"{account}{BLOBS}" != parts.hostname or not (account and container and blob):
            return None
        return f"{account}/{container}"

    def secret(self, key: str, href: str, now: float) -> Secret:  # noqa: ARG002 - one token opens all files of a container, at all times
        """Ask for a token."""
        server = (os.environ.get("PC_SDK_SAS_URL") or PLANETARY_COMPUTER).rstrip("/")
        subscription = os.environ.get("PC_SDK_SUBSCRIPTION_KEY")
        try:
            answer = self._fetch(f"{server}/{key}", {"Ocp-Apim-Subscription-Key": subscription} if subscription else {})
            document = json.loads(answer)
            token, until = str(document["token"]).removeprefix("?"), dt.datetime.fromisoformat(document["msft:expiry"])
        except Unreadable as error:
            if error.cause == "http_404":
                return Secret("")  # not one of their containers: it may be open to everybody
            raise _no(f"No token for {key} from {_parts(server).hostname}: {error.message}", error) from error
        except (ValueError, TypeError, KeyError) as error:
            raise _no(f"No token for {key} from {_parts(server).hostname}: the answer is none.") from error
        return Secret(token, _seconds(until))

    def sign(self, href: str, secret: Secret) -> Signed:
        """Append the token, in place of one that the address has."""
        address = unsigned(href)
        return Signed(f"{address}{'&' if '?' in address else '?'}{secret.value}" if secret.value else address)


class Bearer:
    """Tokens of the environment for named hosts: ``MDIVE_BEARER_TOKENS="data.example.org=TOKEN other.example.org=TOKEN"``."""

    def opens(self, href: str) -> str | None:
        """Return the host, if it has a token and nobody else can read what it is sent."""
        parts = _parts(href)
        named = parts.netloc.rpartition("@")[2].lower()
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
        return named if secure and named in _tokens() else None

    def secret(self, key: str, href: str, now: float) -> Secret:  # noqa: ARG002
        """Return the token of a host."""
        return Secret(_tokens().get(key, ""))

    def sign(self, href: str, secret: Secret) -> Signed:
        """Send the token in a header."""
        return Signed(href, {"Authorization": f"Bearer {secret.value}"})


class Callbacks:
    """What the user has registered with `sign_with`."""

    def opens(self, href: str) -> str | None:
        """Return the address itself: what a callback returns opens one file."""
        found = _callback(href)
        return None if found is None else f"{found[0]} {href}"

    def secret(self, key: str, href: str, now: float) -> Secret:  # noqa: ARG002
        """Call."""
        found = _callback(href)
        assert found is not None
        host = _parts(href).hostname
        try:
            given = found[1](href)
            address, until = (given, None) if isinstance(given, str) else given
            expires = math.inf if until is None else _seconds(until)
            fits = _parts(address).scheme in ("http", "https") and bool(_parts(address).hostname)
        except Unreadable as error:
            raise _no(f"The function that signs for {host} failed: {error.message}", error) from error
        except Exception as error:
            # Its message may hold what it works with.
            raise _no(f"The function that signs for {host} failed: {type(error).__name__}.") from error
        if not fits:
            raise _no(f"The function that signs for {host} returned no http address.")
        return Secret(address, expires)

    def sign(self, href: str, secret: Secret) -> Signed:  # noqa: ARG002
        """Return what the function returned."""
        return Signed(secret.value)


_callbacks: dict[str, tuple[int, Callback]] = {}
_count = 0


def sign_with(hosts: str, function: Callback | None) -> None:
    """Sign the addresses of hosts with a function of your own; it goes before all other ways to open a file.

    Parameters
    ----------
    hosts
        Name of a host, or a pattern such as ``*.example.org``. Of several that fit, the one registered first signs.
    function
        Takes a plain address and returns the one that opens the file, or a pair of it and the time (with its zone) at which it stops to.
        It is called from many threads: once per file, again a few minutes before that time, and once more when the server denies the
        file. What it returns is kept in memory only. None takes the registration back.

    Examples
    --------
    >>> import datetime as dt
    >>> def sign(href):
    ...     return f"{href}?token=...", dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    >>> sign_with("data.example.org", sign)
    >>> sign_with("data.example.org", None)
    """
    global _count  # noqa: PLW0603 - what an earlier function returned must not serve a later one
    if function is None:
        _callbacks.pop(hosts.lower(), None)
    else:
        _count += 1
        _callbacks[hosts.lower()] = _count, function


def _callback(href: str) -> tuple[int, Callback] | None:
    if not _callbacks:
        return None
    host = _parts(href).hostname
    return next((found for pattern, found in list(_callbacks.items()) if host and fnmatchcase(host, pattern)), None)


def _tokens() -> dict[str, str]:
    pairs = os.environ.get("MDIVE_BEARER_TOKENS", "").replace(",", " ").split()
    return {host.lower(): token for host, separator, token in (pair.partition("=") for pair in pairs) if separator and token}


def _parts(href: str) -> SplitResult:
    try:
        parts = urlsplit(href)
        parts.hostname  # noqa: B018 - read here, for it is parsed when it is read
    except ValueError:
        return urlsplit("")
    return parts


def _seconds(until: dt.datetime) -> float:
    return (until if until.tzinfo else until.replace(tzinfo=dt.UTC)).timestamp()


def _no(message: str, cause: Unreadable | None = None) -> Unreadable:
    error = Unreadable("signing", message)
    error.attempts = cause.attempts if cause is not None else 1
    error.final = True
    return error
