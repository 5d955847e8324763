"""An operation called on whole arrays: how many rasters it takes, how many times they have, and scene by scene where its kernel wants one."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from mdive.errors import InputError
from mdive.pipeline.locality import Global

if TYPE_CHECKING:
    from mdive.pipeline.operation import Operation

_DIMS = ("time", "y", "x")


def raster_names(operation: Operation, count: int) -> list[str]:
    """Return the names of the first ``count`` rasters of an operation; those of a ``*bands`` are numbered.

    Raises
    ------
    InputError
        If it does not take so many.
    """
    kinds = inspect.Parameter
    fixed = [n for n, p in operation.rasters.items() if p.kind is kinds.POSITIONAL_ONLY]
    needed = [n for n in fixed if operation.rasters[n].default is kinds.empty]
    more = next((n for n, p in operation.rasters.items() if p.kind is kinds.VAR_POSITIONAL), None)
    if len(needed) <= count and (count <= len(fixed) or more is not None):
        return [*fixed, *(f"{more}[{i}]" for i in range(count - len(fixed)))][:count]
    least = "at least " if more is not None or len(needed) < len(fixed) else ""
    listed = ", ".join([*fixed, *([f"*{more}"] if more else [])])
    raise InputError(
        f"operation {operation.name!r} takes {least}{len(needed)} raster{'s' * (len(needed) != 1)} ({listed}); "
        f"{count} {'was' if count == 1 else 'were'} given.",
        "Give them in this order, and None for one that is optional and not there.",
    )


def common_times(operation: Operation, lengths: Iterable[int]) -> int | None:
    """Return the length of the time axis that rasters share; None where none has one.

    Raises
    ------
    InputError
        If the lengths differ, or there is no time in them.
    """
    found = sorted(set(lengths))
    if len(found) > 1 or 0 in found:
        raise InputError(
            f"operation {operation.name!r} was given rasters of {' and '.join(map(str, found))} times.",
            "Select the times that they have in common first; at least one is needed.",
        )
    return found[0] if found else None


def timeless(operation: Operation) -> InputError:
    """Return the error for rasters (y, x) that an operation along time could make nothing of; some take them for one time."""
    return InputError(
        f"operation {operation.name!r} works along time, and no raster has a time axis.",
        "Give (time, y, x), also for one time: raster.expand_dims('time').",
    )


def is_timed(value: Any, shape: tuple[int, ...] | None) -> TypeGuard[np.ndarray]:
    """Whether a value is a (time, y, x) raster over a grid of this shape."""
    return shape is not None and isinstance(value, np.ndarray) and value.ndim == len(_DIMS) and value.shape[-2:] == shape


def by_scene(operation: Operation) -> bool:
    """Whether an operation sees one scene (y, x) at a time, and must be called once for each: focal kernels are led through time by themselves."""
    return isinstance(operation.locality, Global) and not operation.over_time


def _in_tiles(operation: Operation, arrays: Sequence[Any], shape: tuple[int, ...]) -> bool:
    """Whether an operation is worth computing in tiles: global kernels hold several times what they are given."""
    from mdive.pipeline.lower import LARGE

    rasters = all(a is None or (isinstance(a, np.ndarray) and a.shape == shape) for a in arrays)
    return rasters and by_scene(operation) and shape[0] * shape[1] >= LARGE


def whole(operation: Operation, rasters: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
    """Call an operation on numpy arrays."""
    from mdive.pipeline.evaluate import compute_whole

    arrays = [r if r is None or isinstance(r, dict) else np.asarray(r) for r in rasters]
    shape = next((a.shape[-2:] for a in arrays if isinstance(a, np.ndarray) and a.ndim > 1), None)
    times = common_times(operation, [len(a) for a in arrays if is_timed(a, shape)])
    if times is None and shape is not None and _in_tiles(operation, arrays, shape):
        from mdive.pipeline.lower import compute_tiles

        return compute_tiles(operation, arrays, parameters)
    if times is None or not by_scene(operation):
        result = compute_whole(operation, arrays, parameters)
        if operation.over_time and times is None and shape is not None and np.shape(result) != shape:
            raise timeless(operation)
        return result
    scenes = ([a[t] if is_timed(a, shape) else a for a in arrays] for t in range(times))
    return np.stack([compute_whole(operation, scene, parameters) for scene in scenes])
