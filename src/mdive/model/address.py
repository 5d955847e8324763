"""What may be told of an address: plans, ledgers, logs and products are kept and shown, and an address can carry what opens a door."""

from __future__ import annotations

import logging
import re
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

_SIGNATURE: Final = re.compile(r"(?i)(.*-)?sig(nature)?")
"""Names of query fields that sign an address (Azure, S3, Google, CloudFront): all other fields belong to the signature, or are signed by it."""

_SECRET: Final = re.compile(r"(?i).*(token|secret|passw|credential|auth|jwt|api[-_]?key).*|key")
"""Names of query fields that open an address on their own."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>]+")
_NAMED: Final = re.compile(
    r"(?i)\b(sig|token|access_token|signature|authorization|password|secret|api_?key)(\s*[=:]\s*)(bearer\s+)?[^\s&'\",;]+"
)


def unsigned(href: str) -> str:
    """Return a URL without user, password, signature and tokens, still good for asking: what opens it is added when it is read.

    Query fields that only say which file is meant stay. A path comes back as it is.
    """
    if "://" not in href:
        return href
    parts = urlsplit(href)
    fields = {field: unquote(field.partition("=")[0]) for field in parts.query.split("&") if field}
    signed = any(_SIGNATURE.fullmatch(name) for name in fields.values())
    kept = [] if signed else [field for field, name in fields.items() if not _SECRET.fullmatch(name)]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "&".join(kept), ""))


def without_query(href: str) -> str:
    """Return an address as people may see it: without query, fragment, user name and password.

    Paths of the local file system come back as they are: ``?`` and ``#`` are ordinary characters there.
    """
    head, separator, rest = href.partition("://")
    if not separator:
        return href
    scheme = re.split(r"[^A-Za-z0-9+.\-]", head)[-1]
    lead = head[: len(head) - len(scheme)]
    place, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{'' if '?' in lead else lead}{scheme}://{place.rpartition('@')[2]}{slash}{path}"


def redact(text: str) -> str:
    """Return a message in which every address has lost its query and every named secret its value."""
    return _NAMED.sub(r"\1\2***", _URL.sub(lambda match: without_query(match.group()), text))


class _Discreet(logging.Filter):
    """Addresses in a library's log lose their queries, where signatures are, also where only a path is told."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = re.sub(r"\?[^\s\"'<>]*", "", redact(record.getMessage()))
        record.args = record.exc_info = record.exc_text = None
        return True


def make_discreet(*loggers: str) -> None:
    """Let loggers of other libraries tell no secret of an address; a filter holds for one logger, not for those below it."""
    for name in loggers:
        logging.getLogger(name).addFilter(_Discreet())
