"""The wildfire: severity and truth agree, burned land looks burned, and a season's change does not."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from scipy import ndimage, stats

from mdive.testing import make_wildfire_event
from mdive.testing._cover import BARE, BUILT, TREE, WATER


def dnbr(event, band):
    def nbr(phase):
        nir, swir = (band(event, f"optical_{phase}_{b}").astype(float) for b in ("nir08", "swir22"))
        return (nir - swir) / np.maximum(nir + swir, 1)

    return nbr("pre") - nbr("post")


def clear(event, band):
    return ((band(event, "optical_pre_fmask") | band(event, "optical_post_fmask")) & 0b1110) == 0


def test_truth_is_where_severity_is(fire, band):
    truth, severity, code = band(fire, "truth"), band(fire, "severity"), band(fire, "landcover")
    asked = truth != 255
    assert np.array_equal(truth[asked] == 1, severity[asked] > 0)
    assert severity[severity > 0].min() >= 12
    assert severity.max() <= 100
    assert not (severity[np.isin(code, (WATER, BUILT, BARE))] > 0).any()
    assert set(np.unique(truth)) == {0, 1, 255}
    assert fire.event_share == pytest.approx((truth[asked] == 1).mean())


def test_fire_has_islands_and_a_ragged_front(fire, band):
    burned = band(fire, "severity") > 0
    parts, _ = ndimage.label(burned)
    largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    islands = ndimage.binary_fill_holes(largest) & ~largest
    assert islands.sum() > 0.005 * largest.sum()
    perimeter = largest & ~ndimage.binary_erosion(largest)
    assert perimeter.sum() > 1.5 * 2 * np.sqrt(np.pi * largest.sum())


def test_burn_index_rises_with_severity(fire, band):
    severity = band(fire, "severity")
    here = clear(fire, band) & (band(fire, "landcover") == TREE)
    change = dnbr(fire, band)
    burned = here & (severity > 0)
    assert stats.spearmanr(severity[burned], change[burned]).statistic > 0.9
    assert np.median(change[here & (severity > 85)]) > 0.6
    nir, swir = (
        (band(fire, f"optical_{phase}_nir08") for phase in ("pre", "post")),
        (band(fire, f"optical_{phase}_swir22") for phase in ("pre", "post")),
    )
    (nir_pre, nir_post), (swir_pre, swir_post) = nir, swir
    hard = here & (severity > 60)
    assert np.median(nir_post[hard]) < 0.7 * np.median(nir_pre[hard])
    assert np.median(swir_post[hard]) > 1.3 * np.median(swir_pre[hard])


def test_season_moves_the_whole_scene(fire, tmp_path, band):
    here = clear(fire, band) & (band(fire, "landcover") == TREE) & (band(fire, "severity") == 0)
    assert 0.02 < np.median(dnbr(fire, band)[here]) < 0.08
    still = make_wildfire_event(tmp_path, seed=3, shape_px=(256, 256), burn=False, phenology=0.0, cloud=0.0, workers=2)
    assert still.event_share == 0
    assert (band(still, "optical_post_fmask") & 0b1110 == 0).all()
    change = dnbr(still, band)[band(still, "landcover") == TREE]
    assert abs(np.median(change)) < 0.01
    assert change.std() < 0.05


@pytest.mark.parametrize("seed", [0, 1])
def test_one_threshold_maps_the_burn_well(seed, tmp_path, band, f1):
    event = make_wildfire_event(tmp_path, seed=seed, shape_px=(600, 600), workers=2)
    change, severity, seen = dnbr(event, band), band(event, "severity"), clear(event, band)
    offset = np.median(change[seen])
    mapped = ndimage.median_filter(change, 3) - offset > 0.12
    quality = f1(mapped, severity > 0, seen)
    assert 0.94 < quality < 0.998
    assert 0.02 < event.event_share < 0.25


def test_large_land_has_several_fires(tmp_path):
    event = make_wildfire_event(tmp_path, seed=0, shape_px=(900, 1300), resolution=80.0, layers=("severity",), cloud=0.0, workers=2)
    with rasterio.open(event.layers["severity"]) as file:
        parts, count = ndimage.label(ndimage.binary_dilation(file.read(1) > 0, iterations=5))
    assert count > 4
