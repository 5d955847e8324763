"""A reference on a grid of its own lies where the water lies: what is permanent on the same grid is so from degrees and from shifted pixels."""

import json
import shutil

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import reproject, transform_bounds
from scipy import ndimage

import mdive
from mdive.algorithms import flood_tables as tables


def extent_of(report):
    with rasterio.open(report.path("extent")) as dataset:
        return dataset.read(1)


def moved(path, crs, resolution, shift):
    """Rewrite a raster on another grid by nearest neighbour; return what its item must say of it."""
    with rasterio.open(path) as dataset:
        pixels, profile, bounds = dataset.read(1), dataset.profile, dataset.bounds
    west, south, east, north = transform_bounds(profile["crs"], crs, *bounds)
    into = Affine(resolution, 0, west + shift * resolution, 0, -resolution, north - shift * resolution)
    shape = int((north - south) / resolution), int((east - west) / resolution)
    out = np.full(shape, 255, pixels.dtype)
    reproject(
        pixels,
        out,
        src_transform=profile["transform"],
        src_crs=profile["crs"],
        dst_transform=into,
        dst_crs=crs,
        src_nodata=255,
        tolerance=0,
    )
    with rasterio.open(path, "w", **{**profile, "crs": crs, "transform": into, "height": shape[0], "width": shape[1]}) as dataset:
        dataset.write(out, 1)
    return {"proj:code": crs, "proj:transform": list(into)[:6], "proj:shape": list(shape)}


@pytest.mark.parametrize(
    ("crs", "resolution", "shift"),
    [("EPSG:4326", 2.5e-5, 0.3), ("EPSG:32633", 3.0, 0.4), ("EPSG:32632", 4.0, 0.0)],
    ids=["degrees", "shifted", "next zone"],
)
def test_permanent_water_lies_where_it_lies(flood, calm, tmp_path, crs, resolution, shift):
    catalogue = shutil.copytree(flood.made.catalog.parent, tmp_path / "catalogue")
    plan = mdive.plan(flood.event, catalog=str(catalogue / flood.made.catalog.name))
    item = next(s for s in plan.sources if "occurrence" in s.bands).items[0]
    document = next(p for p in catalogue.glob("*.json") if json.loads(p.read_text()).get("id") == item.id)
    raw = json.loads(document.read_text())
    raw["assets"]["occurrence"] |= moved(item.assets["occurrence"].href, crs, resolution, shift)
    document.write_text(json.dumps(raw))

    plan = mdive.plan(flood.event, catalog=str(catalogue / flood.made.catalog.name))
    report = mdive.run(plan, tmp_path / "run", runtime=mdive.connect("serial"))
    there, here = (extent_of(r) == tables.PERMANENT_WATER for r in (calm.report, report))
    assert there.sum() > 1000
    # Nearest neighbours of nearest neighbours are a pixel off at most, to no side.
    grown = ndimage.binary_dilation(there, np.ones((3, 3)))
    assert not (here & ~grown).any()
    assert (there ^ here).sum() < 0.5 * (grown & ~there).sum()
    away = np.subtract(ndimage.center_of_mass(here), ndimage.center_of_mass(there))
    assert np.abs(away).max() < 0.15
