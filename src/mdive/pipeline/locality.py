"""Where a pixel of a result looks: the words of map algebra, as declarations that the engine can rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from mdive.model.plan import Grid

Depth = int | Callable[[Mapping[str, Any], Grid], int]
"""Pixels, or a function of the operation's parameters and the grid (for windows given in metres)."""


@dataclass(frozen=True, slots=True)
class Local:
    """A pixel depends on the same pixel of the inputs (all bands, all times)."""

    name = "local"


@dataclass(frozen=True, slots=True)
class Focal:
    """A pixel depends on a square window of radius ``depth`` around it.

    The kernel gets blocks with ``depth`` extra pixels on each side (real data, or nodata where there is none) and returns a block of
    the same shape; the engine cuts the border off.
    """

    depth: Depth
    name = "focal"

    def pixels(self, parameters: Mapping[str, Any], grid: Grid) -> int:
        """Return the depth in pixels of this grid."""
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

    The decorated kernel is the *map*: it returns ``(kept, part)``, an array of the tile's shape that the engine keeps for ``apply``,
    and a small part. ``solve(parts, *, grid, **parameters)`` gets an iterator of ``(window, part)`` in tile order and
    returns one small state (array or dict of arrays) per tile, as a list. ``apply(kept, state, *, window, **parameters)`` returns the tile of the result.
    The domain is the grid: what lies beyond it is background.
    """

    solve: Callable[..., list[Any]]
    apply: Callable[..., np.ndarray]
    kept_dtype: str = "int32"
    name = "global"


Locality = Local | Focal | Reduction | Global


def add(parts: Iterable[Any]) -> Any:
    """Merge parts by addition (arrays, or dicts of arrays key by key)."""

    def plus(a: Any, b: Any) -> Any:
        return {k: a[k] + b[k] for k in a} if isinstance(a, dict) else a + b

    return reduce(plus, parts)
