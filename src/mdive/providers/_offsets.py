"""Which offset an item's numbers carry: read from what it says about its processing, never from its date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pystac

from mdive.model.datasource import OffsetRule
from mdive.providers._extent import UnusableError
from mdive.providers._library import offset_rules

UNVERSIONED: Final = (99, 99)
"""What a processor writes that a user ran: such a scene carries the offset or not, whatever the number says."""


@dataclass(frozen=True, slots=True)
class Offset:
    """An additive offset in physical units, and what decided it."""

    value: float
    why: str


def decide(rule: OffsetRule, item: pystac.Item) -> Offset | None:
    """Return the offset that an item's processing asks for, or None where the item does not say how it was processed."""
    applied = already_applied(rule, item)
    if applied is not None:
        return applied
    for where, version in _versions(rule, item):
        if version == UNVERSIONED:
            continue
        carries = version >= _version(rule.since)
        return Offset(rule.offset if carries else 0.0, f"{where}: version {version[0]:02d}.{version[1]:02d}")
    return None


def already_applied(rule: OffsetRule, item: pystac.Item) -> Offset | None:
    """Return a zero offset where the provider has added the offset to the stored numbers itself."""
    for name in rule.applied:
        if str(item.properties.get(name)).lower() == "true":
            return Offset(0.0, f"{name} is true")
    return None


def rule_of(item: pystac.Item) -> OffsetRule | None:
    """Return the rule that speaks to an item of an unlisted collection."""
    names = [str(item.properties.get(name) or "").lower().replace(" ", "-") for name in ("constellation", "platform")]
    for rule in offset_rules().values():
        if any(name.startswith(rule.constellations) for name in names):
            return rule
    return None


def unknown(rule: OffsetRule) -> UnusableError:
    """Return the reason for refusing an item whose processing is unknown: an offset applied wrongly looks like any other reflectance."""
    return UnusableError(
        f"it does not say how it was processed (no {rule.versions[0]}, no {rule.applied[0]}), so that its offset is unknown"
    )


def _versions(rule: OffsetRule, item: pystac.Item) -> Iterator[tuple[str, tuple[int, int]]]:
    for name in rule.versions:
        match = re.fullmatch(r"(\d+)\.(\d+)", str(item.properties.get(name)).strip())
        if match:
            yield name, (int(match[1]), int(match[2]))
    texts = [(name, str(item.properties.get(name) or "")) for name in rule.texts]
    texts += [("id", item.id), *((f"href of {key}", item.assets[key].href) for key in sorted(item.assets))]
    for name, text in texts:
        match = re.search(rule.pattern, text)
        if match:
            yield name, (int(match[1]), int(match[2]))


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
