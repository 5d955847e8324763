"""Pictures of the report: the map (PNG) and the pipeline (SVG)."""

from __future__ import annotations

import html
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import Resampling

from mdive.model.flags import OUTSIDE_AREA
from mdive.model.plan import Grid, Pipeline
from mdive.model.product import ClassEntry, RasterSpec
from mdive.products.raster import opened

MAP_PIXELS = 1100
"""Longest edge of the map picture: sharp on a common screen, and under 1 MB in the file."""

_OUTSIDE = (255, 255, 255)


def map_picture(path: Path, spec: RasterSpec, grid: Grid, *, cause: Path) -> tuple[bytes, tuple[ClassEntry, ...]]:
    """Draw a class raster; what lies outside the area stays white.

    Parameters
    ----------
    path, spec, grid
        The class raster, its table, and where it lies.
    cause
        The cause raster: it alone tells what is outside the area from what was not observed.

    Returns
    -------
    The PNG, and the classes that occur in it, in the order of the table.
    """
    from matplotlib.figure import Figure

    rows, cols = grid.shape
    step = max(1.0, max(rows, cols) / MAP_PIXELS)
    shape = (max(1, round(rows / step)), max(1, round(cols / step)))
    # The overviews hold the majority class, so a thin picture of a large raster is read from them.
    classes, outside = (_thin(p, shape) for p in (path, cause))
    outside = outside == OUTSIDE_AREA
    table = np.full((256, 3), _OUTSIDE, dtype="uint8")
    for entry in spec.classes:
        table[entry.value] = [int(entry.color[i : i + 2], 16) for i in (1, 3, 5)]
    width = 8.0
    height = min(max(width * shape[0] / shape[1], 2.5), 14.0)
    figure = Figure(figsize=(width, height), dpi=140)
    axes = figure.add_axes((0, 0, 1, 1))
    metres = grid.resolution * step
    picture = table[classes]
    picture[outside] = _OUTSIDE
    axes.imshow(picture, interpolation="nearest", extent=(0, shape[1] * metres, -shape[0] * metres, 0))
    axes.set_axis_off()
    _scale_bar(axes, shape[1] * metres, shape[0] * metres)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    present = set(np.unique(classes[~outside]).tolist())
    return buffer.getvalue(), tuple(e for e in spec.classes if e.value in present)


def _thin(path: Path, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    with opened(path) as dataset:
        values: np.ndarray[Any, Any] = dataset.read(1, out_shape=shape, resampling=Resampling.nearest)
    return values


def _scale_bar(axes: Any, width: float, height: float) -> None:
    """Draw a bar of a round length, about a fifth of the width, and an arrow to the north (grids are north-up)."""
    length = _round_length(width / 5)
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    x, y, thick = width * 0.03, -height * 0.95, height * 0.008
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2}
    axes.fill_between([x, x + length], y, y + thick, color="black", zorder=3)
    axes.text(x, y + 2 * thick, label, fontsize=10, va="bottom", bbox=box, zorder=4)
    arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.5}
    axes.annotate(
        "N", (width * 0.965, -height * 0.03), (width * 0.965, -height * 0.1), ha="center", fontsize=11, arrowprops=arrow, bbox=box
    )


def _round_length(target: float) -> float:
    power = 10.0 ** math.floor(math.log10(target))
    return float(max(m * power for m in (1, 2, 5) if m * power <= target))


_COLORS = {"load": "#dbeafe", "local": "#ffffff", "focal": "#fef3c7", "reduction": "#fde2e4", "global": "#e2d6f5"}


def pipeline_picture(pipeline: Pipeline) -> str:
    """Draw a pipeline graph as SVG: one row of boxes per level, coloured by locality."""
    level: dict[str, int] = {}
    for node in pipeline.nodes:
        level[node.id] = 1 + max((level[i] for i in node.inputs if i is not None), default=-1)
    rows: dict[int, list[str]] = {}
    for name, depth in level.items():
        rows.setdefault(depth, []).append(name)
    wide, high, gap_x, gap_y = 150, 26, 12, 34
    width = max(len(r) for r in rows.values()) * (wide + gap_x) + gap_x
    place = {
        name: ((width - len(r) * (wide + gap_x)) / 2 + gap_x / 2 + i * (wide + gap_x), gap_x + depth * (high + gap_y))
        for depth, r in rows.items()
        for i, name in enumerate(r)
    }
    height = gap_x + len(rows) * (high + gap_y)
    ends: dict[str, list[str]] = {}
    for product, name in pipeline.outputs.items():
        ends.setdefault(name, []).append(product)
    parts = []
    for node in pipeline.nodes:
        x, y = place[node.id]
        for source in node.inputs:
            if source is not None:
                sx, sy = place[source]
                middle = (sy + high + y) / 2
                curve = f"M{sx + wide / 2:.0f} {sy + high:.0f} C{sx + wide / 2:.0f} {middle:.0f} {x + wide / 2:.0f} {middle:.0f} {x + wide / 2:.0f} {y:.0f}"
                parts.append(f'<path d="{curve}" fill="none" stroke="#94a3b8"/>')
    for node in pipeline.nodes:
        x, y = place[node.id]
        text = node.operation.rpartition(":")[2] if node.locality != "load" else node.operation
        short = html.escape(text if len(text) <= 23 else text[:22] + "…")
        edge = "#1d4ed8" if node.id in ends else "#64748b"
        title = html.escape(
            f"{node.operation} ({node.locality}, {node.dtype})" + (f" → {', '.join(ends[node.id])}" if node.id in ends else "")
        )
        parts.append(
            f'<g><title>{title}</title><rect x="{x:.0f}" y="{y:.0f}" width="{wide}" height="{high}" rx="4" fill="{_COLORS[node.locality]}" '
            f'stroke="{edge}"/><text x="{x + wide / 2:.0f}" y="{y + 17:.0f}" text-anchor="middle" font-size="11">{short}</text></g>'
        )
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="pipeline" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
