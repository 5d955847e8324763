"""``load`` and ``apply``: lazy until asked, and the same numbers."""

import dask
import numpy as np
import pytest

import mdive
from mdive.errors import InputError, PluginError


def test_load_is_lazy_and_apply_works_on_it(fire):
    plan = mdive.plan(fire.event, catalog=fire.catalog, tile_size=128)
    with dask.config.set(scheduler=lambda *a, **k: pytest.fail("computed while it was built")):
        cube = mdive.load(plan)
        repr(cube)
        cube._repr_html_()
        name = next(s.key for s in plan.sources if s.phase == "post")
        node = cube[name].to_dataset()
        index = mdive.apply("nbr", node)
    assert index.dims == ("time", "y", "x")
    values = node[["nir08", "swir22"]].isel(time=0).compute(scheduler="threads")
    eager = mdive.apply("nbr", values.nir08, values.swir22)
    np.testing.assert_array_equal(index.isel(time=0).compute(scheduler="threads"), eager)
    assert np.isfinite(eager).mean() > 0.9


def test_an_algorithm_applies_to_datasets(fire):
    plan = mdive.plan(fire.event, catalog=fire.catalog, tile_size=200)
    cube = mdive.load(plan)
    pre, post = (cube[next(s.key for s in plan.sources if s.phase == p)].to_dataset() for p in ("pre", "post"))
    lazy = mdive.apply("wildfire.dnbr", pre, post)
    eager = mdive.apply("wildfire.dnbr", pre.compute(), post.compute())
    np.testing.assert_array_equal(lazy.extent.compute(scheduler="threads"), eager.extent)


def test_unknown_names_and_bands_are_refused(fire):
    plan = mdive.plan(fire.event, catalog=fire.catalog)
    node = mdive.load(plan)[plan.sources[0].key].to_dataset()
    with pytest.raises(PluginError, match="ndwi"):
        mdive.apply("ndwy", node)
    with pytest.raises(InputError, match="no variable"):
        mdive.apply("nbr", node[["nir08"]])
