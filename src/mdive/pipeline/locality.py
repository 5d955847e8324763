"""Where a pixel of a result looks: the words of map algebra, as declarations that the engine can rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from mdive.model.plan import Grid
from mdive.pipeline.ground import pixels_within

Depth = int | Callable[[Mapping[str, Any], Grid], int]
"""Pixels, or a function of the operation's parameters and the grid."""


@dataclass(frozen=True, slots=True)
class Local:
    """A pixel depends on the same pixel of the inputs (all bands, all times)."""

    name = "local"


@dataclass(frozen=True, slots=True)
class Focal:
    """A pixel depends on a square window around it.

    The kernel gets blocks with so many extra pixels on each side (real data, or nodata where there is none) and returns a block of
    the same shape; the engine cuts the border off.

    Parameters
    ----------
    depth
        Radius of the window in pixels, or a function of the operation's parameters and the grid that returns it.
    metres
        Instead of ``depth``: the radius in metres on the ground, or the name of the parameter that holds it. The window reaches to all pixels
        whose centres are within it along a row, ``pixels_within(metres, grid)``, on grids in metres, feet or degrees alike.
    least
        With ``metres``: pixels that it reaches at least, where one of them is larger than the radius.
    """

    depth: Depth | None = None
    metres: float | str | None = field(default=None, kw_only=True)
    least: int = field(default=0, kw_only=True)
    name = "focal"

    def __post_init__(self) -> None:
        if (self.depth is None) == (self.metres is None):
            msg = "Focal takes a depth in pixels, Focal(2), or a radius in metres, Focal(metres=60.0)"
            raise TypeError(msg)

    @property
    def measures(self) -> bool:
        """Whether the depth depends on the size of a pixel."""
        return callable(self.depth) or self.metres is not None

    def pixels(self, parameters: Mapping[str, Any], grid: Grid) -> int:
        """Return the depth in pixels of this grid."""
        if self.metres is not None:
            metres = parameters[self.metres] if isinstance(self.metres, str) else self.metres
            return max(self.least, pixels_within(metres, grid))
        assert self.depth is not None
        return self.depth(parameters, grid) if callable(self.depth) else self.depth


@dataclass(frozen=True, slots=True)
class Reduction:
    """The result depends on everything, through a small mergeable summary.

    The kernel returns one tile's *part*; ``merge`` gets an iterator over the parts in tile order and returns one total;
    ``finish(total, *, grid, **parameters)`` turns it into the *state* (an array or a dict of arrays) that later operations receive.
    Parts must be integers (or min, max, sets): float sums depend on the tiling.
    """

    merge: Callable[[Iterable[Any]], Any]
    finish: Callable[..., Any] | None = None
    name = "reduction"


@dataclass(frozen=True, slots=True)
class Global:
    """Unbounded reach through a small graph between tiles: map, solve, apply.

    The decorated kernel is the *map*: it returns ``(kept, part)``, what the engine keeps for ``apply`` (an array, or a tuple of arrays of
    any shapes and types) and a small part. ``solve(parts, *, grid, **parameters)`` gets an iterator of ``(window, part)`` in tile order and
    returns one small state (array or dict of arrays) per tile, as a list. ``apply(kept, state, *, window, **parameters)`` returns the tile of the result.
    The domain is the grid: what lies beyond it is background.
    """

    solve: Callable[..., list[Any]]
    apply: Callable[..., np.ndarray]
    kept_bytes: float = 4.0
    """Bytes per pixel of what the map keeps: how large a tile may be depends on it."""
    name = "global"


Locality = Local | Focal | Reduction | Global


def add(parts: Iterable[Any]) -> Any:
    """Merge parts by addition (arrays, or dicts of arrays key by key)."""

    def plus(a: Any, b: Any) -> Any:
        return {k: a[k] + b[k] for k in a} if isinstance(a, dict) else a + b

    return reduce(plus, parts)
