"""Which passes a source takes: the best first, and only as many as are likely to show more of the area."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import shapely
from shapely.geometry.base import BaseGeometry

from mdive.model.datasource import Sensor
from mdive.model.plan import Phase
from mdive.providers._extent import surface
from mdive.providers._scenes import Pass

MIN_GAIN: Final = 0.01
"""Share of the area that a further pass must be likely to add: below one part in a hundred it costs more reading than it shows."""

UNKNOWN_CLOUD: Final = 0.5
"""Cloud share that is assumed where the catalogue tells none: between the clear and the overcast scenes that do tell."""

MEMORY_DAYS: Final = 15.0
"""Days after which an optical pass before the event is worth 1/e: vegetation and water levels drift on this scale."""

OTHER_INSTRUMENT: Final = 0.5
"""Worth of a pass before the event by another instrument than the one after it: differing bands look like change."""

_SEES_THROUGH_CLOUD: Final = frozenset({"sar", "elevation", "reference"})


@dataclass(frozen=True, slots=True)
class Choice:
    """The passes of one source and phase."""

    passes: tuple[Pass, ...]
    """Best first."""
    coverage: float
    """Share of the area under their footprints."""
    clear: float
    """Share of the area that is likely to be seen at least once, taking clouds of different days as independent."""


def choose(
    offered: Sequence[Pass],
    *,
    phase: Phase,
    sensor: Sensor,
    area: BaseGeometry,
    onset: datetime,
    after: Sequence[Pass] = (),
    limit: int,
) -> Choice:
    """Choose passes and put them in order of preference.

    After the event, an optical pass is the better the more of the area it is likely to show; a radar pass the more of the area it covers,
    then the earlier it is. Before the event, an optical pass is worth less the older it is, and less if another instrument took it; a radar
    pass must be of a relative orbit and flight direction that were used after the event, if there is any (other geometries look like
    change), and then the more it covers and the later it is, the better. Ties are broken by (datetime, id).

    Each further pass is the one that adds most; none is added that adds less than ``MIN_GAIN`` of the area. The first one always stays, so
    that an overcast area is reported as overcast and not as never acquired. Radar passes before the event add what they cover, whatever
    others cover: they are the past that a pixel is compared with, and each makes it better known.

    Parameters
    ----------
    offered
        Sorted by (datetime, id).
    phase, sensor
        Of the source.
    area
        In the equal-area plane.
    onset
        Of the event.
    after
        The passes that were chosen after the event, best first.
    limit
        Most passes to take.
    """
    past = phase == "pre" and sensor == "sar"
    geometries = {found.geometry for found in after if found.orbit is not None}
    if past and any(found.geometry in geometries for found in offered):
        offered = [found for found in offered if found.geometry in geometries]
    ranked = sorted(offered, key=lambda found: (*_preference(found, phase, sensor, onset, after), *found.order))
    unseen = [(area, 1.0)]
    total = surface(area)
    taken: list[int] = []
    while len(taken) < limit:
        gains = {
            number: _gain(unseen, found, sensor) / total * _worth(found, phase, sensor, onset, after)
            for number, found in enumerate(ranked)
            if number not in taken
        }
        # Rounded, so that the last bits of an area never decide; then the order of preference does.
        # Orbits take turns, so that each part of the area gets its past.
        turns = Counter(ranked[number].geometry for number in taken) if past else Counter()
        best = min(gains, key=lambda number: (-round(gains[number] / (1 + turns[ranked[number].geometry]), 2), number), default=None)
        if best is None or (taken and gains[best] < MIN_GAIN):
            break
        taken.append(best)
        if not past:
            unseen = _look(unseen, ranked[best], sensor)
    chosen = tuple(ranked[number] for number in sorted(taken))
    covered = surface(shapely.union_all([found.part for found in chosen])) if chosen else 0.0
    clear = covered if past else sum(surface(piece) * (1.0 - chance) for piece, chance in unseen)
    return Choice(chosen, coverage=min(covered / total, 1.0), clear=min(clear / total, 1.0))


def _clear(found: Pass, sensor: Sensor) -> float:
    if sensor in _SEES_THROUGH_CLOUD:
        return 1.0
    return 1.0 - (UNKNOWN_CLOUD if found.cloud is None else found.cloud)


def _worth(found: Pass, phase: Phase, sensor: Sensor, onset: datetime, after: Sequence[Pass]) -> float:
    if phase != "pre" or sensor in _SEES_THROUGH_CLOUD:
        return 1.0
    days = abs((onset - found.start).total_seconds()) / 86_400.0
    later = {other.instruments for other in after if other.instruments}
    strange = bool(later) and bool(found.instruments) and found.instruments not in later
    return math.exp(-days / MEMORY_DAYS) * (OTHER_INSTRUMENT if strange else 1.0)


def _preference(found: Pass, phase: Phase, sensor: Sensor, onset: datetime, after: Sequence[Pass]) -> tuple[float, ...]:
    if sensor in _SEES_THROUGH_CLOUD:
        age = (onset - found.start).total_seconds() if phase == "pre" else 0.0
        return (-round(found.coverage, 2), age)
    return (-round(found.coverage * _clear(found, sensor) * _worth(found, phase, sensor, onset, after), 3),)


def _gain(unseen: Sequence[tuple[BaseGeometry, float]], found: Pass, sensor: Sensor) -> float:
    return sum(surface(shapely.intersection(piece, found.part)) * chance for piece, chance in unseen) * _clear(found, sensor)


def _look(unseen: Sequence[tuple[BaseGeometry, float]], found: Pass, sensor: Sensor) -> list[tuple[BaseGeometry, float]]:
    """Return the pieces of the area with the chance that each is still unseen after a pass."""
    pieces = []
    for piece, chance in unseen:
        pieces.append((shapely.intersection(piece, found.part), chance * (1.0 - _clear(found, sensor))))
        pieces.append((shapely.difference(piece, found.part), chance))
    return [(piece, chance) for piece, chance in pieces if surface(piece) > 0.0]
