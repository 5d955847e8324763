"""Checks that no cut of the work changes the result: tiles of a run, chunks of dask, the order of the axes, the parts of a reduction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import dask
import numpy as np
import xarray as xr

from mdive.pipeline import Operation, Reduction, Tiles
from mdive.testing._conformance_data import HOLE
from mdive.testing._conformance_report import CheckFailed, NotChecked
from mdive.testing._conformance_subject import Subject, Trial, differing, same

PRIMES: Final = (13, 17)
"""Steps of a regular cut that meets no other period."""


def computes(subject: Subject) -> None:
    """Check that it computes on every set of test rasters."""
    title = "to begin with"
    try:
        for trial in subject.all_trials:
            title = trial.title
            trial.whole  # noqa: B018 - that it can be computed is the check
    except NotChecked:
        raise
    except Exception as error:
        raise CheckFailed(
            f"{subject.kind} {subject.name!r} computes, on any rasters of its bands.",
            f"on rasters {title!r}: {type(error).__name__}: {error} ({_place(error)})",
            "Let it take what real scenes hold: NaN, infinity, zero, a block without data. If it wants other rasters, give them as data=.",
        ) from error


def declared_equals_computed(subject: Subject) -> None:
    """Check that names, data types, shape, dimensions and coordinates of the result are those declared; lazy or not."""
    for trial in subject.trials:
        if trial.title not in {"holes", "bare", "given"}:
            continue
        for way, data in (("numpy", trial.data), ("dask", _chunked(trial.data, Tiles.regular(trial.shape, 20)))):
            found = trial.apply(data)
            computed = _together(found, scheduler="synchronous")
            for name, dtype in _declared(subject, trial).items():
                if isinstance(found[name], xr.DataArray):
                    _as_declared(subject, trial, f"{way} arrays, output {name!r}", dtype, found[name], computed[name])


def lazy_stays_lazy(subject: Subject) -> None:
    """Check that nothing is read or computed while the result of dask-backed rasters is built, and its chunks are theirs."""
    if _gives_states(subject):
        raise NotChecked("a reduction gives numbers, at once")
    for trial in subject.trials:
        tiles = Tiles.regular(trial.shape, 20)
        data = _each(trial.data, partial(_untouchable, tiles))
        try:
            with dask.config.set(scheduler=_touched):
                found = trial.apply(data)
                repr(found)
        except _TouchedError as error:
            raise CheckFailed(
                f"{subject.name!r} on dask arrays is a plan; nothing happens before .compute().",
                f"a pixel was asked for while it was built ({_place(error)}).",
                "Look at pixels only inside of operations: an algorithm gets nodes, not numbers.",
            ) from error
        for name, result in found.items():
            if result.chunks is None or result.chunks[-2:] != _spatial(tiles):
                raise CheckFailed(
                    f"{name!r} has the chunks of its rasters, {_spatial(tiles)}.", f"chunks {result.chunks}", "Report this to mdive."
                )


def tiles_change_nothing(subject: Subject) -> None:
    """Check that a run gives the same bits however the grid is cut: primes, single rows and columns, along a block without data, at random."""
    for trial in subject.trials:
        for title, tiles in _cuts(subject, trial, subject.tilings, thorough=True):
            _compare(subject, trial, trial.compute(tiles), f"{title} tiles, rows {tiles.row_edges}, columns {tiles.col_edges}", tiles)


def chunks_change_nothing(subject: Subject) -> None:
    """Check that numpy arrays and dask arrays of any chunks give the same bits through ``mdive.apply``, on one thread or several."""
    for trial in subject.trials:
        _compare(subject, trial, _values(trial.apply(trial.data)), "numpy arrays", None)
        for number, (title, tiles) in enumerate(_cuts(subject, trial, 1, thorough=False)):
            with dask.config.set(scheduler="threads" if number % 2 else "synchronous"):
                found = _values(trial.apply(_chunked(trial.data, tiles)))
            _compare(subject, trial, found, f"{title} chunks, rows {tiles.row_edges}, columns {tiles.col_edges}", tiles)


def order_changes_nothing(subject: Subject) -> None:
    """Check that rasters stored in another order of their axes, or as every second pixel of a larger array, give the same bits."""
    for trial in subject.trials:
        turned = _each(trial.data, lambda a: a.transpose(*a.dims[::-1]).copy(deep=True))
        _compare(subject, trial, _values(trial.apply(turned)), "rasters with dimensions (x, y, time)", None)
        strided = _each(trial.data, lambda a: a.copy(data=np.repeat(np.asarray(a), 2, axis=-1)[..., ::2]))
        _compare(subject, trial, _values(trial.apply(strided)), "rasters that are strided views", None)


def parts_merge_exactly(subject: Subject) -> None:
    """Check that the parts of each reduction merge into one total, to the bit, whatever the tiles that they come from."""
    seen = False
    for trial, node, operation in subject.operations():
        locality = operation.locality
        if not isinstance(locality, Reduction):
            continue
        seen = True
        blocks = [None if n is None else trial.everything[n.key] for n in node.inputs]
        whole = locality.merge(iter([_part(operation, blocks, node.parameters, trial, None)]))
        for title, tiles in partitions(trial.shape, np.random.default_rng(subject.seed), 2):
            total = locality.merge(_part(operation, blocks, node.parameters, trial, window) for window in tiles)
            if not same(total, whole):
                raise CheckFailed(
                    f"the parts of reduction {operation.name!r} add up to the same total for any tiles.",
                    f"{title} tiles give another total than one tile, on rasters {trial.title!r}.",
                    "Return whole numbers (counts, sums of quantised values), or minimum and maximum: a sum of floats depends on its order.",
                )
    if not seen:
        raise NotChecked("there is no reduction in it")


def _cuts(subject: Subject, trial: Trial, count: int, *, thorough: bool) -> Iterator[tuple[str, Tiles]]:
    """Yield all cuts where much can go wrong; where nothing is missing, or everything, one at random tells as much."""
    rng = np.random.default_rng(subject.seed)
    if trial.title in {"holes", "given"}:
        return partitions(trial.shape, rng, count, thorough=thorough)
    return (cut for cut in partitions(trial.shape, rng, 1) if cut[0].startswith("random"))


def partitions(shape: tuple[int, int], rng: np.random.Generator, count: int, *, thorough: bool = True) -> Iterator[tuple[str, Tiles]]:
    """Yield cuts of a grid, the nasty ones first.

    Parameters
    ----------
    shape
        Rows and columns.
    rng, count
        Of the random ones.
    thorough
        Also every row and every column on its own: many tiles.
    """
    rows, cols = shape
    yield "prime", Tiles((*range(0, rows, PRIMES[0]), rows), (*range(0, cols, PRIMES[1]), cols))
    yield "one-pixel", Tiles(_cut(rows, 1, rows // 2, rows // 2 + 1, rows - 1), _cut(cols, 1, cols // 2, cols // 2 + 1, cols - 1))
    yield "nodata", Tiles(_cut(rows, HOLE[0].start, HOLE[0].stop), _cut(cols, HOLE[1].start, HOLE[1].stop))
    if thorough:
        yield "single-row", Tiles(tuple(range(rows + 1)), (0, cols))
        yield "single-column", Tiles((0, rows), tuple(range(cols + 1)))
    for number in range(count):
        cuts = [rng.integers(1, length, rng.integers(1, 6)) for length in shape]
        yield f"random ({number})", Tiles(_cut(rows, *cuts[0].tolist()), _cut(cols, *cuts[1].tolist()))


def trial_size(trial: Trial) -> str:
    """Return the size of a trial, in words."""
    first = next(iter(trial.numbers.values()))
    return f"{first.shape[-2]} x {first.shape[-1]} pixels"


def _cut(length: int, *places: int) -> tuple[int, ...]:
    return tuple(sorted({0, length, *(p for p in places if 0 < p < length)}))


def _compare(subject: Subject, trial: Trial, found: dict[str, Any], how: str, tiles: Tiles | None) -> None:
    for name, want in trial.whole.items():
        got = found[name]
        if same(want, got):
            continue
        if any(not same(trial.compute()[name], want) for _ in range(2)):
            raise NotChecked(f"{subject.name} gives another result each time: see its check 'deterministic'")
        raise CheckFailed(
            f"{subject.name!r} gives the same bits for any tiles and chunks.",
            f"{how}, on rasters {trial.title!r} of {trial_size(trial)} (seed {subject.seed}): {_difference(name, want, got)}.{_culprit(trial, tiles)}",
            "A kernel may look at its block and parameters alone: no sums or extremes over the block, no running sums, no pixels counted "
            "from its corner. Declare how far it looks: Focal(depth), or Reduction and Global for the whole grid.",
        )


def _difference(name: str, want: Any, got: Any) -> str:
    if not isinstance(want, np.ndarray) or not isinstance(got, np.ndarray) or want.shape != got.shape or want.dtype != got.dtype:
        return f"{name!r} is {_kind(got)}, in one piece {_kind(want)}"
    where = differing(want, got)
    place = tuple(int(i[0]) for i in np.nonzero(where))
    return f"{name!r} differs at {int(where.sum())} of {where.size} pixels, first at {place}: {got[place]} instead of {want[place]}"


def _kind(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)[:80]


def _culprit(trial: Trial, tiles: Tiles | None) -> str:
    """Name the first operation along the graph whose result differs: all that follow only pass it on."""
    if tiles is None:
        return ""
    nodes = {n.key: n for n in trial.graph if n.operation is not None}
    whole, cut = trial.compute(None, nodes), trial.compute(tiles, nodes)
    for key, node in nodes.items():
        if not same(whole[key], cut[key]):
            assert node.operation is not None
            return f" The first operation that differs is {node.operation.qualified} ({node.operation.locality.name})."
    return ""


def _part(operation: Operation, blocks: Sequence[Any], parameters: Any, trial: Trial, window: Any) -> Any:
    window = window or Tiles((0, trial.shape[0]), (0, trial.shape[1])).grid
    rows, cols = window.within(Tiles((0, trial.shape[0]), (0, trial.shape[1])).grid)
    cut = [np.ascontiguousarray(b[..., rows, cols]) if isinstance(b, np.ndarray) and b.shape[-2:] == trial.shape else b for b in blocks]
    return operation.call(cut, parameters, window=window, grid=trial.grid)


def _declared(subject: Subject, trial: Trial) -> dict[str, str]:
    if isinstance(subject.target, Operation):
        return {subject.name: trial.traced[0][subject.name].dtype}
    return {o.name: o.dtype for o in subject.target.outputs}


def _as_declared(subject: Subject, trial: Trial, what: str, dtype: str, lazy: xr.DataArray, made: xr.DataArray) -> None:
    like = next(iter(trial.traced[1].values()))
    coords = [c for c in ("y", "x", "spatial_ref") if c in like.coords]
    seen = [
        (str(lazy.dtype) != dtype, f"dtype {lazy.dtype}"),
        (made.dtype != lazy.dtype, f"dtype {made.dtype} once computed"),
        (lazy.dims[-2:] != ("y", "x"), f"dimensions {lazy.dims}"),
        (made.shape != lazy.shape or lazy.shape[-2:] != trial.shape, f"shape {lazy.shape}, once computed {made.shape}"),
        (not all(c in made.coords and made[c].identical(like[c]) for c in coords), f"coordinates {sorted(map(str, made.coords))}"),
    ]
    if bad := [text for wrong, text in seen if wrong]:
        raise CheckFailed(
            f"{subject.name!r}: {dtype}, dimensions ('y', 'x'), shape {trial.shape}, coordinates {coords}.",
            f"{'; '.join(bad)} ({what}, rasters {trial.title!r}).",
            "Let the last @operation declare the dtype that the product has, and its kernel return an array of its block's shape.",
        )


def _gives_states(subject: Subject) -> bool:
    return isinstance(subject.target, Operation) and isinstance(subject.target.locality, Reduction)


def _values(found: dict[str, Any]) -> dict[str, Any]:
    # Together: computed one by one, lazy outputs would share nothing.
    made = _together(found)
    return {name: value.values if isinstance(value, xr.DataArray) else value for name, value in made.items()}


def _together(found: dict[str, Any], **options: Any) -> dict[str, Any]:
    (made,) = dask.base.compute(found, **options)  # type: ignore[no-untyped-call]
    result: dict[str, Any] = made
    return result


def _each(data: Sequence[Any], change: Callable[[xr.DataArray], xr.DataArray]) -> tuple[Any, ...]:
    """Change every raster of the data of a trial."""
    return tuple(d.map(change) if isinstance(d, xr.Dataset) else change(d) if isinstance(d, xr.DataArray) else d for d in data)


def _spatial(tiles: Tiles) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(np.diff(edges).tolist()) for edges in (tiles.row_edges, tiles.col_edges))


def _chunks(array: xr.DataArray, tiles: Tiles) -> tuple[Any, ...]:
    rows, cols = _spatial(tiles)
    return tuple({"y": rows, "x": cols}.get(str(d), (array.sizes[d],)) for d in array.dims)


def _chunked(data: Sequence[Any], tiles: Tiles) -> tuple[Any, ...]:
    return _each(data, lambda a: a.chunk(dict(zip(a.dims, _chunks(a, tiles), strict=True))))


class _TouchedError(Exception):
    """A pixel was asked for."""


def _touched(*_: Any, **__: Any) -> Any:
    raise _TouchedError


def _untouchable(tiles: Tiles, array: xr.DataArray) -> xr.DataArray:
    import dask.array as da

    empty = np.empty((0,) * array.ndim, array.dtype)
    raising = da.map_blocks(_touched, chunks=_chunks(array, tiles), dtype=array.dtype, meta=empty)  # type: ignore[no-untyped-call]
    return array.copy(data=raising)


def _place(error: BaseException) -> str:
    """Return file and line of the innermost step outside of mdive and libraries, else of the innermost."""
    import traceback

    steps = traceback.extract_tb(error.__traceback__)
    own = [s for s in steps if "site-packages" not in s.filename and "/mdive/" not in s.filename.replace("\\", "/")]
    last = (own or steps)[-1]
    return f"{last.filename.rsplit('/', 1)[-1]}, line {last.lineno}, in {last.name}"
