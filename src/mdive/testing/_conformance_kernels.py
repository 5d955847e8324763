"""Checks of each kernel on its own, with the rasters that it really gets: how far it looks, what it writes to, what it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mdive.pipeline import Focal, Global, Local, Node, Operation, Reduction, Window
from mdive.pipeline.calling import is_timed
from mdive.pipeline.operation import fill_of
from mdive.testing._conformance_report import CheckFailed, NotChecked
from mdive.testing._conformance_subject import Subject, Trial, same

TARGETS: Final = 10
"""Pixels whose surroundings are changed, for each operation."""

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Kernel:
    """An operation with the blocks that it gets in the pipeline."""

    trial: Trial
    node: Node
    operation: Operation
    blocks: tuple[Any, ...]
    depth: int

    def __call__(self, blocks: Sequence[Any], row: int, col: int, *, copies: bool = True) -> Any:
        """Call the kernel, undressed: what it returns is not yet of the declared type.

        Parameters
        ----------
        blocks
            For its rasters.
        row, col
            Of the blocks' corner.
        copies
            Give it copies: one that writes to its blocks must not spoil the next check.
        """
        if copies:
            blocks = [b.copy() if isinstance(b, np.ndarray) else b for b in blocks]
        shape = next((b.shape[-2:] for b in blocks if isinstance(b, np.ndarray) and b.ndim > 1), (1, 1))
        injected: dict[str, Any] = {"window": Window(row, col, *shape), "grid": self.trial.grid}
        if isinstance(self.operation.locality, Focal) and not self.operation.over_time:
            # As the engine does: a window lies in one scene.
            blocks = [b[0] if is_timed(b, shape) else b for b in blocks]
        with np.errstate(all="ignore"):  # checks make numbers that no scene has
            return self.operation.kernel(*blocks, **self.node.parameters, **{k: injected[k] for k in self.operation.injected})

    def changed(self, change: Change) -> tuple[Any, ...]:
        """Return the blocks with every raster changed."""
        return tuple(change(b) if self.is_raster(b) else b for b in self.blocks)

    def cut(self, row: int, col: int, reach: int, blocks: Sequence[Any] | None = None) -> list[Any]:
        """Return the blocks of the pixels up to ``reach`` around one."""
        window = (..., slice(row - reach, row + reach + 1), slice(col - reach, col + reach + 1))
        return [np.ascontiguousarray(b[window]) if self.is_raster(b) else b for b in (self.blocks if blocks is None else blocks)]

    def is_raster(self, block: Any) -> bool:
        """Whether a block is a raster of the grid, and no state."""
        return isinstance(block, np.ndarray) and block.ndim > 1 and block.shape[-2:] == self.trial.shape

    @property
    def label(self) -> str:
        """Name, and where it is written."""
        return f"operation {self.operation.name!r} ({self.operation.__module__})"


def kernels(subject: Subject, *localities: type) -> Iterator[Kernel]:
    """Yield the kernels of a subject that are of these localities and have a raster to look at."""
    for trial, node, operation in subject.operations():
        if not isinstance(operation.locality, localities):
            continue
        blocks = tuple(None if n is None else trial.everything[n.key] for n in node.inputs)
        depth = operation.locality.pixels(node.parameters, trial.grid) if isinstance(operation.locality, Focal) else 0
        kernel = Kernel(trial, node, operation, blocks, depth)
        if any(map(kernel.is_raster, blocks)):
            yield kernel


def kernels_keep_their_dtype(subject: Subject) -> None:
    """Check that what a kernel returns fits its declared data type, without a number becoming another one."""
    for kernel in kernels(subject, Local, Focal):
        made = np.asarray(kernel(kernel.blocks, 0, 0))
        dtype = np.dtype(kernel.node.dtype)
        if made.dtype == dtype or (made.dtype.kind == "f" and dtype.kind == "f"):
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            kept = made.astype(dtype)
        lost = kept.astype("float64") != made.astype("float64")
        if lost.any():
            raise CheckFailed(
                f"{kernel.label} gives {dtype}.",
                f"it returns {made.dtype}, and {int(lost.sum())} numbers do not fit: {made[lost][0]} becomes {kept[lost][0]} (rasters {kernel.trial.title!r}).",
                "Declare the dtype that it returns; put the fill value where there is NaN before you make classes of numbers.",
            )


def inputs_unchanged(subject: Subject) -> None:
    """Check that no kernel writes to a block that it is given: others read it, too. Nor do rasters given to ``mdive.apply`` change."""
    for kernel in kernels(subject, Local, Focal, Reduction, Global):
        blocks = tuple(b.copy() if isinstance(b, np.ndarray) else b for b in kernel.blocks)
        before = [_digest(b) for b in blocks]
        kernel(blocks, 0, 0, copies=False)
        names = [n.label for n in kernel.node.inputs if n is not None]
        for block, was, name in zip([b for b in blocks if b is not None], [d for d in before if d], names, strict=True):
            if _digest(block) != was:
                raise CheckFailed(
                    f"{kernel.label} leaves its blocks as they are.",
                    f"it wrote to the block of {name!r} (rasters {kernel.trial.title!r}).",
                    "Copy before you write: values = values.copy(), or np.where(condition, new, values).",
                )
    for trial in subject.trials:
        given = {key: array.copy() for key, array in trial.numbers.items()}
        trial.apply(trial.data)
        if bad := [f"{source}:{band}" for (source, band), array in trial.numbers.items() if not same(array, given[source, band])]:
            raise CheckFailed(
                f"{subject.name!r} leaves the user's rasters as they are.", f"it changed {', '.join(bad)}.", "Copy before you write."
            )


def halo_is_enough(subject: Subject) -> None:
    """Check that a kernel looks no farther than it declares: a pixel beyond its depth changes nothing."""
    for kernel in kernels(subject, Local, Focal):
        whole = np.asarray(kernel(kernel.blocks, 0, 0))
        depth = kernel.depth
        if not same(np.asarray(kernel(kernel.blocks, 0, 0)), whole):
            raise NotChecked(f"{kernel.label} gives another result each time: see the check 'deterministic'")
        others = (kernel.changed(_rolled), kernel.changed(_extreme))
        for row, col in _targets(subject, kernel, depth):
            want = whole[..., row, col]
            try:
                alone = np.asarray(kernel(kernel.cut(row, col, depth), row - depth, col - depth))[..., depth, depth]
            except Exception as error:
                raise _too_far(
                    kernel, f"on a block of {2 * depth + 1} x {2 * depth + 1} pixels it raises {type(error).__name__}: {error}"
                ) from error
            if not same(alone, want):
                raise _too_far(
                    kernel, f"with the pixels up to {depth} around row {row}, column {col} alone it gives {alone} instead of {want}"
                )
            for other in others:
                changed = _around(kernel, other, row, col, depth)
                got = np.asarray(kernel(changed, 0, 0))[..., row, col]
                if not same(got, want):
                    raise _too_far(kernel, f"pixels more than {depth} away from row {row}, column {col} change it from {want} to {got}")


def halo_is_tight(subject: Subject) -> None:
    """Check that a focal kernel looks as far as it declares: some pixel at its depth changes something. More is read for nothing."""
    try:
        halo_is_enough(subject)
    except CheckFailed as error:
        raise NotChecked("it looks farther than it declares: see its check 'halo_is_enough'") from error
    found: dict[str, tuple[Kernel, int]] = {}
    for kernel in kernels(subject, Focal):
        name = f"{kernel.operation.qualified} {kernel.depth}"
        before = found.get(name, (kernel, 0))[1]
        if kernel.depth > before and _varies(kernel):
            found[name] = (kernel, max(_reach(subject, kernel), before))
    if not found:
        raise NotChecked("there is no focal operation in it that looks at other pixels and gives more than one number")
    for kernel, reach in found.values():
        if reach < kernel.depth:
            raise CheckFailed(
                f"{kernel.label} looks {kernel.depth} pixels far.",
                f"no change at a distance of {kernel.depth} pixels changed anything; the farthest that did was {reach}.",
                f"Declare {f'Focal({reach})' if reach else 'Local()'}, if it never looks farther; else give rasters on which it does, as data=.",
            )


def _varies(kernel: Kernel) -> bool:
    """Whether a kernel gives more than one number on its rasters: of one that does not, nothing can be learned."""
    made = np.asarray(kernel(kernel.blocks, 0, 0))
    return bool(np.unique(made[np.isfinite(made)] if made.dtype.kind == "f" else made).size > 1)


def _targets(subject: Subject, kernel: Kernel, depth: int, count: int = TARGETS) -> list[tuple[int, int]]:
    """Return pixels with a full window: half of them at random places, half where the kernel has more to say than the usual."""
    rows, cols = kernel.trial.shape
    if min(rows, cols) <= 2 * depth:
        raise NotChecked(f"{kernel.label} looks {depth} pixels far; give larger rasters as data= than {rows} x {cols} pixels")
    rng = np.random.default_rng(subject.seed)
    places = list(zip(rng.integers(depth, rows - depth, count).tolist(), rng.integers(depth, cols - depth, count).tolist(), strict=True))
    made = np.asarray(kernel(kernel.blocks, 0, 0)).reshape(-1, rows, cols)[0, depth : rows - depth, depth : cols - depth]
    values, counts = np.unique(made, return_counts=True)
    rare = np.argwhere(made != values[counts.argmax()])
    picked = rng.permutation(rare)[: count // 2] + depth
    return [*places[: count - len(picked)], *map(tuple, picked.tolist())]


def _around(kernel: Kernel, other: Sequence[Any], row: int, col: int, depth: int) -> list[Any]:
    """Return the blocks of a kernel near a pixel, and other ones beyond."""
    near = (..., slice(row - depth, row + depth + 1), slice(col - depth, col + depth + 1))
    blocks = []
    for block, strange in zip(kernel.blocks, other, strict=True):
        if kernel.is_raster(block):
            strange = strange.copy()
            strange[near] = block[near]
        blocks.append(strange)
    return blocks


def _reach(subject: Subject, kernel: Kernel) -> int:
    """Return the largest distance, up to the depth, at which some change of the rasters changes a result."""
    depth = kernel.depth
    strange = [kernel.changed(change) for change in (_extreme, _filled, _rolled, _inverted)]
    targets = _targets(subject, kernel, depth, 3 * TARGETS)
    for distance in range(depth, 0, -1):
        for row, col in targets:
            # Seen against nothing as well: beside many others, one pixel more may not count.
            for base in (kernel.blocks, strange[1]):
                blocks = kernel.cut(row, col, depth, base)
                for other in strange:
                    mixed = [
                        _with_ring(b, o, distance) if _is_block(b) else b
                        for b, o in zip(blocks, kernel.cut(row, col, depth, other), strict=True)
                    ]
                    with suppress(Exception):  # inverted numbers may be none that the kernel knows
                        want, got = (np.asarray(kernel(b, row - depth, col - depth))[..., depth, depth] for b in (blocks, mixed))
                        if not same(want, got):
                            return distance
    return 0


def _is_block(block: Any) -> bool:
    return isinstance(block, np.ndarray) and block.ndim > 1


def _with_ring(block: np.ndarray, other: np.ndarray, distance: int) -> np.ndarray:
    """Return a block whose pixels at one distance from its centre are those of another."""
    rows, cols = np.indices(block.shape[-2:])
    centre = block.shape[-1] // 2
    ring = np.maximum(abs(rows - centre), abs(cols - centre)) == distance
    return np.where(ring, other, block)


def _rolled(block: np.ndarray) -> np.ndarray:
    return np.roll(block, (block.shape[-2] // 2, block.shape[-1] // 2), axis=(-2, -1))


def _filled(block: np.ndarray) -> np.ndarray:
    return np.full_like(block, fill_of(str(block.dtype)))


def _extreme(block: np.ndarray) -> np.ndarray:
    if block.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.where(np.isnan(block), 0.5, block * 10 + 3).astype(block.dtype)
    if block.dtype.kind == "b":
        return ~block
    # Within the numbers that are there: some are indices, and codes have no other meaning.
    mirrored: np.ndarray = (block.max(initial=0) - (block - block.min(initial=0))).astype(block.dtype)
    return mirrored


def _inverted(block: np.ndarray) -> np.ndarray:
    return -block if block.dtype.kind == "f" else ~block


def _digest(block: Any) -> str:
    if isinstance(block, Mapping):
        return "".join(_digest(v) for v in block.values())
    if block is None:
        return ""
    array = np.ascontiguousarray(block)
    return hashlib.sha256(array.tobytes() + str((array.dtype, array.shape)).encode()).hexdigest()


def _too_far(kernel: Kernel, seen: str) -> CheckFailed:
    locality = kernel.operation.locality.name
    declared = "Local(): it looks at one pixel" if locality == "local" else f"Focal({kernel.depth}): it looks {kernel.depth} pixels far"
    return CheckFailed(
        f"{kernel.label} is {declared}.",
        f"{seen} (rasters {kernel.trial.title!r}).",
        "Declare Focal with the depth that it needs; what needs the whole grid is a Reduction or Global. No sums or extremes over a block, "
        "no running sums, no library that takes a window for its own business.",
    )
