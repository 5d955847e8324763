"""The check of what is declared about memory: what ``mdive.explain`` promises, and the size of tiles, rest on it."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any, Final

import numpy as np

from mdive.engine.tiling import KERNEL_TEMPORARIES
from mdive.pipeline import Focal, Global, Reduction
from mdive.testing._conformance_kernels import Kernel, kernels
from mdive.testing._conformance_report import CheckFailed, NotChecked
from mdive.testing._conformance_subject import Subject

PIXELS: Final = 160
"""Rows and columns at least of the block on which memory is measured: below, what every call costs weighs too much."""

SLACK: Final = 1.5
"""The estimate is one number for all kernels; a kernel above it by less than this does not move the size of a tile."""

EDGES: Final = 64
"""Bytes per pixel of a tile's edge that the parts of a global operation may take beside what it keeps."""


def cost_declared(subject: Subject) -> None:
    """Check that kernels that work on whole tiles take no more memory than ``mdive.explain`` counts; what a global one keeps is declared."""
    seen = False
    for kernel in kernels(subject, Focal, Global, Reduction):
        if kernel.trial.title not in {"full", "given"}:
            continue
        seen = True
        blocks = _enlarged(kernel)
        rows, cols = next(b.shape[-2:] for b in blocks if isinstance(b, np.ndarray) and b.ndim > 1)
        result, peak = _measured(kernel, blocks)
        locality = kernel.operation.locality
        counted = _counted(kernel, blocks, rows * cols)
        if isinstance(locality, Global):
            kept = sum(a.nbytes for a in (result[0] if isinstance(result[0], tuple) else (result[0],)))
            if kept > locality.kept_bytes * rows * cols + EDGES * 2 * (rows + cols):
                raise CheckFailed(
                    f"{kernel.label} keeps {locality.kept_bytes:g} bytes per pixel for its apply.",
                    f"{kept / rows / cols:.1f} bytes per pixel, on {rows} x {cols} pixels.",
                    f"Declare Global(..., kept_bytes={np.ceil(kept / rows / cols):g}), or keep less.",
                )
        if peak > SLACK * counted * rows * cols:
            raise CheckFailed(
                f"mdive.explain counts {counted:g} bytes per pixel for {kernel.label}.",
                f"it takes {peak / rows / cols:.0f} bytes per pixel at its worst moment, on {rows} x {cols} pixels.",
                f"Declare @operation(..., working={np.ceil(peak / rows / cols):g}), or take less: keep to the type of the raster, reuse arrays (out=).",
            )
    if not seen:
        raise NotChecked("it has only local operations; they run in strips, whose memory does not count")


def _enlarged(kernel: Kernel) -> list[Any]:
    rows, cols = kernel.trial.shape
    times = (-(-PIXELS // rows), -(-PIXELS // cols))
    return [np.tile(b, (*(1,) * (b.ndim - 2), *times)) if kernel.is_raster(b) else b for b in kernel.blocks]


def _measured(kernel: Kernel, blocks: list[Any]) -> tuple[Any, int]:
    """Return what a kernel gives, and the bytes that Python and numpy allocate for it at the worst moment; compiled code hides its own."""
    kernel(kernel.blocks, 0, 0)  # compiles
    gc.collect()
    tracemalloc.start()
    try:
        result = kernel(blocks, 0, 0, copies=False)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _counted(kernel: Kernel, blocks: list[Any], pixels: int) -> float:
    """Return the bytes per pixel that the engine counts beside the rasters that are there already."""
    if kernel.operation.working is not None:
        return kernel.operation.working
    largest = max(b.nbytes / pixels for b in blocks if isinstance(b, np.ndarray) and b.ndim > 1)
    result = np.dtype(kernel.node.dtype).itemsize if kernel.node.kind == "raster" else 0
    locality = kernel.operation.locality
    return KERNEL_TEMPORARIES * (locality.kept_bytes if isinstance(locality, Global) else largest) + result
