"""What a lazy result says of itself in CF's words: codes and fill in the type of the raster, as whoever masks by them compares them."""

import numpy as np
import pytest

from mdive.engine.lazy import cf_attributes
from mdive.plugins.registry import algorithms

RASTERS = [(name, output) for name, spec in sorted(algorithms().items()) for output in spec.outputs if output.classes or output.flags]


@pytest.mark.parametrize(("name", "output"), RASTERS, ids=lambda v: getattr(v, "name", v))
def test_codes_and_fill_are_of_the_rasters_type(name, output):
    attributes = cf_attributes(output)
    kind = np.dtype(output.dtype)
    table = attributes["flag_values" if output.classes else "flag_masks"]
    assert table.dtype == kind
    assert len(table) == len(attributes["flag_meanings"].split())
    # Where all bits of a flag word mean something, none of its numbers can stand for nothing.
    assert ("_FillValue" in attributes) == (output.nodata is not None)
    if output.nodata is not None:
        assert attributes["_FillValue"].dtype == kind
        assert attributes["_FillValue"] == output.nodata
