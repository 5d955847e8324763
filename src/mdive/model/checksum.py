"""Checksums as STAC's file extension writes them: multihashes in hexadecimal digits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

_FUNCTIONS: Final[dict[str, tuple[int, Callable[[], Any]]]] = {
    "1114": (40, partial(hashlib.sha1, usedforsecurity=False)),
    "1220": (64, hashlib.sha256),
    "1340": (128, hashlib.sha512),
    "d50110": (32, partial(hashlib.md5, usedforsecurity=False)),
    "a0e40220": (64, partial(hashlib.blake2b, digest_size=32)),
    "c0e40240": (128, hashlib.blake2b),
}
"""Prefix (code and length, as numbers of variable length) of a multihash: hexadecimal digits that follow, and the function.

References
----------
https://github.com/multiformats/multicodec/blob/master/table.csv
"""


def as_multihash(value: Any) -> str | None:
    """Return a checksum in small letters if it is a multihash that can be checked, else None.

    Some catalogues write bare MD5 sums, which look like another hash of the wrong length.
    """
    text = str(value or "").lower()
    for prefix, (digits, _) in _FUNCTIONS.items():
        if text.startswith(prefix) and len(text) == len(prefix) + digits and re.fullmatch(r"[0-9a-f]+", text):
            return text
    return None


def hasher(multihash: str) -> tuple[Any, str]:
    """Return an empty hash object of the kind of a multihash that `as_multihash` gave, and the digits that it must come to."""
    prefix = next(prefix for prefix in _FUNCTIONS if multihash.startswith(prefix))
    return _FUNCTIONS[prefix][1](), multihash.removeprefix(prefix)
