"""Specifications, grids and a way to write an array as a product."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mdive.model.plan import Grid
from mdive.model.product import ClassEntry, FlagEntry, RasterSpec
from mdive.pipeline.window import Window
from mdive.products import write_cog

CLASSES = (
    ClassEntry(value=0, name="not_affected", role="background", title="Not affected", color="#ffffff"),
    ClassEntry(value=1, name="affected", role="event", title="Affected", color="#0571b0"),
    ClassEntry(value=2, name="known_before", role="reference", title="Known before", color="#92c5de"),
    ClassEntry(value=3, name="partly_affected", role="event", title="Partly affected", color="#ca0020"),
    ClassEntry(value=253, name="cloud", role="unobserved", title="Cloud", color="#999999"),
)


@pytest.fixture(scope="session")
def specs():
    """One specification of each kind."""
    return SimpleNamespace(
        extent=RasterSpec(name="extent", long_name="Extent", dtype="uint8", classes=CLASSES),
        probability=RasterSpec(
            name="probability", long_name="Probability", dtype="float32", nodata="nan", scale=1e-4, valid_min=0, valid_max=1
        ),
        uncertainty=RasterSpec(name="uncertainty", long_name="Uncertainty", dtype="float32", units="dB", nodata="nan"),
        qc=RasterSpec(
            name="qc",
            long_name="Quality flags",
            dtype="uint16",
            nodata=None,
            flags=tuple(FlagEntry(mask=1 << bit, name=f"flag_{bit}") for bit in range(16)),
        ),
        cause=RasterSpec(
            name="cause",
            long_name="Why not observed",
            dtype="uint8",
            classes=tuple(ClassEntry(value=v, name=f"c{v}", role="unobserved", title=f"C{v}", color="#808080") for v in range(8)),
        ),
    )


@pytest.fixture(scope="session")
def make_grid():
    """A grid of a shape, by default 10 m in UTM."""

    def make(shape, crs="EPSG:32630", resolution=10.0, x0=500_000.0, y0=4_400_000.0):
        return Grid(crs=crs, resolution=resolution, x0=x0, y0=y0, shape=shape)

    return make


@pytest.fixture(scope="session")
def save():
    """Write an array as a product."""

    def write(path: Path, spec, grid, array, **options):
        whole = Window(0, 0, *grid.shape)
        write_cog(path, spec, grid, lambda window: array[window.within(whole)], **options)
        return path

    return write


@pytest.fixture(scope="session")
def pictures():
    """Random but smooth rasters of each kind, as an algorithm would give them."""

    def make(shape, seed=0):
        rng = np.random.default_rng(seed)
        rows, cols = np.indices(shape)
        field = (np.sin(rows / 40 + seed) * np.cos(cols / 33) + 1) / 2
        extent = np.select([field > 0.8, field > 0.6, field > 0.55], [1, 3, 2], 0).astype(np.uint8)
        extent[rng.random(shape) < 0.05] = 255
        extent[field < 0.05] = 253
        probability = np.clip(field + rng.normal(0, 0.02, shape), 0, 1).astype(np.float32)
        probability[extent == 255] = np.nan
        return {
            "extent": extent,
            "probability": probability,
            "uncertainty": np.where(extent == 255, np.nan, field * 3 - 5).astype(np.float32),
            "qc": (field * 65535).astype(np.uint16),
        }

    return make
