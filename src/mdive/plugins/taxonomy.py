"""Finds an event class by what people call it: its name in any spelling, a synonym, or ``parent.child`` with a synonym for the parent."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from mdive.errors import InputError
from mdive.model.event_class import EventClass
from mdive.model.refusal import shown


def normal(name: str) -> str:
    """Return a name without case, accents, and the choice between space, hyphen and underscore; dots stay."""
    decomposed = unicodedata.normalize("NFKD", name.strip().casefold())
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    joined = re.sub(r"[\s_\-\u2010-\u2015]+", "_", plain)
    return re.sub(r"_?\._?", ".", joined)


def find_event_class(classes: Mapping[str, EventClass], asked: str, *, also: str = "") -> EventClass:
    """Return the class that a name means.

    Parameters
    ----------
    classes
        All classes by full name.
    asked
        ``Parent.Child``, ``parent-child``-like spellings, or a synonym.
    also
        Appended to the hint of an error: what else the caller knows (plugins that failed to load).

    Raises
    ------
    InputError
        For a name that means nothing (it says which part is known, and what is near), or more than one class.
    """
    key = normal(asked)
    known, below = _longest_known(classes, key)
    if known is not None and not below:
        return known
    if known is not None:
        rest = ".".join(below)
        children = [name.rpartition(".")[2] for name in known.children]
        close = get_close_matches(rest, children, n=1)
        near = f" Did you mean {f'{known.name}.{close[0]}'!r}?" if close else ""
        listed = f"Its children are: {', '.join(children)}." if children else "It has no children."
        raise InputError(
            f"no event class {shown(asked)}: {known.name!r} is known but has no child {shown(rest)}.{near}",
            f"{listed} Use {known.name!r} itself where none fits.{also}",
        )
    raise InputError(f"no event class {shown(asked)}.{_near(classes, key)}", f"Available: {_listing(classes)}.{also}")


def words(classes: Mapping[str, EventClass]) -> dict[str, frozenset[str]]:
    """Return what each synonym (normalised) means; a child said with its parent, in either order, counts as one."""
    found: dict[str, set[str]] = defaultdict(set)
    for event_class in classes.values():
        for word in _synonyms(event_class):
            found[normal(word)].add(event_class.name)
    return {word: frozenset(names) for word, names in found.items()}


def _synonyms(event_class: EventClass) -> Iterator[str]:
    yield from event_class.synonyms
    if event_class.parent is not None:
        *_, parent, child = event_class.name.split(".")
        yield f"{child} {parent}"
        yield f"{parent} {child}"


def _longest_known(classes: Mapping[str, EventClass], key: str) -> tuple[EventClass | None, list[str]]:
    """Return the class that the longest beginning of a dotted name means, and the parts of the name that are left."""
    synonyms = words(classes)
    parts = key.split(".")
    for cut in range(len(parts), 0, -1):
        found = _meaning(classes, synonyms, ".".join(parts[:cut]))
        if found is not None:
            left = parts[cut:]
            while left and f"{found.name}.{left[0]}" in classes:
                found = classes[f"{found.name}.{left.pop(0)}"]
            return found, left
    return None, parts


def _meaning(classes: Mapping[str, EventClass], synonyms: Mapping[str, frozenset[str]], word: str) -> EventClass | None:
    # A class's own name beats anybody's synonym: a plugin must not be able to make the name of another class ambiguous.
    if word in classes:
        return classes[word]
    meanings = sorted(synonyms.get(word, ()))
    if len(meanings) > 1:
        raise InputError(f"{word!r} may mean {' or '.join(map(repr, meanings))}.", "Name the one that you mean.")
    return classes[meanings[0]] if meanings else None


def _near(classes: Mapping[str, EventClass], key: str) -> str:
    """Say which class was probably meant: one whose last part is the word, else the one with the nearest name or synonym."""
    ends = sorted(name for name in classes if name.rpartition(".")[2] == key)
    if ends:
        return f" Did you mean {' or '.join(map(repr, ends))}?"
    means = {word: min(names) for word, names in words(classes).items()} | {name: name for name in classes}
    close = get_close_matches(key, sorted(means), n=1)
    return f" Did you mean {means[close[0]]!r}?" if close else ""


def _listing(classes: Mapping[str, EventClass]) -> str:
    roots = sorted(name for name, event_class in classes.items() if event_class.parent is None)
    tops = [(root, [child.removeprefix(root + ".") for child in classes[root].children]) for root in roots]
    return ", ".join(f"{root} ({', '.join(children)})" if children else root for root, children in tops) or "none"
