"""How far a DEM must reach: height above drainage inside an area is that of a larger DEM wherever it is not flagged (mistake 18).

The flags speak of what the edge cuts off upstream, and of water that leaves before it meets a stream. What lies *downstream* of the edge they
cannot know: ground beyond it may be higher than the outlet at the edge and hold the water back, which raises the surface inside. So the DEMs
here fall toward their edge, as a padded basin does, or are padded by more than such a lake is long.
"""

import numpy as np
import pytest
import rioxarray  # noqa: F401 - the accessor
import xarray as xr

import mdive
from mdive.model.flags import QC_FLAGS

EDGE = QC_FLAGS["edge_contaminated"]


def hand_of(height, resolution, crs, place, **parameters):
    """Apply ``terrain.hand`` to heights whose upper left corner lies at ``place``."""
    rows, cols = height.shape
    y, x = place[1] - (np.arange(rows) + 0.5) * resolution, place[0] + (np.arange(cols) + 0.5) * resolution
    dem = xr.DataArray(height, dims=("y", "x"), coords={"y": y, "x": x}).rio.write_crs(crs)
    return mdive.apply("terrain.hand", xr.Dataset({"dem": dem}), **parameters)


def compare(height, area, pads, resolution=30.0, crs="EPSG:32631", place=(5e5, 5e6), **parameters):
    """Return for each pad which pixels of an area are flagged, and in which HAND differs from that of the whole DEM."""
    top, bottom, left, right = area
    found = []
    for pad in (*pads, max(height.shape)):
        rows, cols = (max(low - pad, 0) for low in (top, left))
        cut = height[rows : bottom + pad, cols : right + pad]
        made = hand_of(cut, resolution, crs, (place[0] + cols * resolution, place[1] - rows * resolution), **parameters)
        inside = np.s_[top - rows : bottom - rows, left - cols : right - cols]
        found.append((made["qc"].values[inside] & EDGE != 0, made["hand"].values[inside]))
    whole = found[-1][1]
    assert np.isfinite(whole).mean() > 0.95
    return [(flagged, ~((hand == whole) | (np.isnan(hand) & np.isnan(whole)))) for flagged, hand in found[:-1]]


def hillside(seed, shape=(260, 260)):
    """Return rough ground on a slope to the south-east, with hollows of a few pixels."""
    rng = np.random.default_rng(seed)
    row, col = np.indices(shape)
    waves = sum(
        a * np.sin(row * rng.uniform(-k, k) + col * rng.uniform(-k, k) + rng.uniform(0, 6)) for a, k in ((8, 0.1), (4, 0.2), (0.5, 0.5))
    )
    return (2.2 * (shape[0] - row) + 2.0 * (shape[1] - col) + waves + rng.normal(0, 0.7, shape)).astype("float32")


@pytest.mark.parametrize("seed", range(6))
def test_a_larger_pad_changes_only_what_is_flagged(seed):
    results = compare(hillside(seed), (100, 160, 100, 160), (5, 20, 40), drain_area=0.2)
    for flagged, changed in results:
        assert not (changed & ~flagged).any()
    # The flags are not idle: without a pad to speak of streams are missing or false; and they are not everywhere.
    flagged, changed = results[0]
    assert changed.sum() > 100
    assert (~flagged).sum() > 100


REAL = {
    "taudem_enogeo/enogeo.tif": ("EPSG:4269", (300, 500, 250, 450), (20, 50, 100), 0.09),
    "pysheds/dem.tif": ("EPSG:4326", (130, 230, 130, 230), (10, 40), 0.5),
    "dem_stitcher/golden_datasets/los_angeles_dem_geoid.tif": ("EPSG:4326", (130, 230, 130, 230), (40, 80), 0.05),
}


@pytest.mark.parametrize("name", REAL)
def test_a_larger_pad_of_a_real_dem_changes_only_what_is_flagged(real_data, name):
    import rasterio

    path = real_data / "raw" / "terrain" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    with rasterio.open(path) as file:
        height, transform = file.read(1), file.transform
    crs, area, pads, drain_area = REAL[name]
    results = compare(height, area, pads, transform.a, crs, (transform.c, transform.f), drain_area=drain_area)
    for flagged, changed in results:
        assert not (changed & ~flagged).any()
        assert flagged.mean() < 0.2
    if name.startswith("taudem"):
        assert results[0][1].sum() > 1000
