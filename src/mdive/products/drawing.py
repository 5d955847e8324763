"""Pictures of the report, as SVG: the map and the pipeline."""

from __future__ import annotations

import base64
import html
import math
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import Affine

from mdive.model.flags import OUTSIDE_AREA
from mdive.model.plan import Grid, Pipeline
from mdive.model.product import ClassEntry, RasterSpec
from mdive.products.raster import opened

MAP_PIXELS = 1100
"""Longest edge of the map picture: sharp on a common screen, and under 1 MB in the file."""

_OUTSIDE = (255, 255, 255)


def map_picture(path: Path, spec: RasterSpec, grid: Grid, *, cause: Path) -> tuple[str, tuple[ClassEntry, ...]]:
    """Draw a class raster, with a scale bar and an arrow to the north; what lies outside the area stays white.

    Parameters
    ----------
    path, spec, grid
        The class raster, its table, and where it lies.
    cause
        The cause raster: it alone tells what is outside the area from what was not observed.

    Returns
    -------
    An SVG that holds the pixels as a PNG, and the classes that occur in it, in the order of the table.
    """
    rows, cols = grid.shape
    step = max(1.0, max(rows, cols) / MAP_PIXELS)
    shape = (max(1, round(rows / step)), max(1, round(cols / step)))
    # The overviews hold the majority class, so a thin picture of a large raster is read from them.
    classes, outside = (_thin(p, shape) for p in (path, cause))
    outside = outside == OUTSIDE_AREA
    table = np.full((256, 3), _OUTSIDE, dtype="uint8")
    for entry in spec.classes:
        table[entry.value] = [int(entry.color[i : i + 2], 16) for i in (1, 3, 5)]
    picture = table[classes]
    picture[outside] = _OUTSIDE
    present = set(np.unique(classes[~outside]).tolist())
    return _framed(_png(picture), shape, grid.resolution * step), tuple(e for e in spec.classes if e.value in present)


def _png(picture: np.ndarray[Any, Any]) -> bytes:
    """Return a picture (rows, columns, red-green-blue) as a PNG."""
    rows, cols, bands = picture.shape
    # A picture lies nowhere. rasterio warns of one that says so, and what keeps warnings quiet keeps those of other threads quiet as well.
    somewhere = Affine.scale(2.0, -2.0)
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.MemoryFile(ext=".png") as file:
        with file.open(driver="PNG", height=rows, width=cols, count=bands, dtype="uint8", transform=somewhere) as dataset:
            dataset.write(np.moveaxis(picture, 2, 0))
        return bytes(file.read())


def _framed(png: bytes, shape: tuple[int, int], metres: float) -> str:
    """Put a picture whose pixels are so many metres large into a frame with a scale bar and an arrow to the north (grids are north-up)."""
    width = 1000.0
    height = min(max(width * shape[0] / shape[1], 0.3 * width), 1.75 * width)
    scale = min(width / shape[1], height / shape[0])
    wide, high = shape[1] * scale, shape[0] * scale
    left, top = (width - wide) / 2, (height - high) / 2
    # The bar belongs to the picture's own scale, but a strip of a picture is too narrow to hold it.
    length = _round_length(max(wide, 0.3 * width) / 5 / scale * metres)
    bar = length / metres * scale
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    data = base64.b64encode(png).decode()
    panel = 'fill="#fff" fill-opacity=".85" rx="3"'
    y = height - 22
    return (
        f'<svg class="map" viewBox="0 0 {width:g} {height:.1f}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f'<image x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
        f'<rect x="16" y="{y - 34:.1f}" width="{max(bar, 70.0) + 20:.1f}" height="46" {panel}/>'
        f'<text x="26" y="{y - 12:.1f}" font-size="20">{label}</text><rect x="26" y="{y - 4:.1f}" width="{bar:.1f}" height="6"/>'
        f'<rect x="{width - 52:g}" y="14" width="36" height="66" {panel}/>'
        f'<text x="{width - 34:g}" y="36" font-size="20" text-anchor="middle">N</text>'
        f'<path d="M{width - 34:g} 74V46M{width - 41:g} 56L{width - 34:g} 44L{width - 27:g} 56" fill="none" stroke="#000" stroke-width="3"/></svg>'
    )


def _thin(path: Path, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    with opened(path) as dataset:
        values: np.ndarray[Any, Any] = dataset.read(1, out_shape=shape, resampling=Resampling.nearest)
    return values


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
