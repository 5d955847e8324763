"""Make ``terrain_*.npz``: what other programs make of small DEMs.

They cannot be dependencies of the tests (three are under the GPL), so what they say is stored. Two steps, in two environments:

    python tests/golden/make_terrain.py directions given.npz        # mdive's environment: the DEMs and mdive's D8 directions
    python tests/golden/make_terrain.py oracles given.npz tests/golden

The second one needs Python 3.11 and

    richdem2==2.4.3 fastscapelib==0.3.0 pyflwdir==0.5.12 pysheds==0.5 scikit-image==0.26.0 numba==0.68.1 numpy==2.4.6

Only fills can be compared as such. Programs differ in how they choose among neighbours, and more in how they cross flats; so accumulation and
height above drainage are those that the others find on *mdive's* directions, as ESRI codes (1 east, 2 south-east, … 128 north-east, 0 outlet).
If mdive's directions change on purpose, make the files again; a test says so.

Traps: richdem fills a hole in the data as if it were a pit, so it says nothing of DEMs with holes. fastscapelib raises each filled pixel by a
unit in the last place over the one before, and is told that holes are outlets far below. pysheds drops what lies on the edge of an array, so
it is given one more pixel on each side. pyflwdir says zero or more where there is no drain downstream, and adds up the drops along the way.

Heights are multiples of 1/1024 m, so that the files are small; a float32 holds them, and the differences of two of them, exactly.
"""

import sys
from pathlib import Path

import numpy as np

STEP = 1 / 1024
"""Unit of the stored heights in m."""
NONE = 65_535
"""Stored height of a hole."""
DRAIN = {"continuous": 150, "holed": 150, "noisy": 12, "flat": 150}
"""Pixels upstream from which a pixel is drainage."""


def fractal(shape, seed, roughness=2.2):
    """Return noise whose power falls with frequency, from 0 to 1."""
    rng = np.random.default_rng(seed)
    wave = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    wave[0, 0] = 1.0
    amplitude = wave ** (-roughness / 2 - 0.5)
    amplitude[0, 0] = 0.0
    made = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(wave.shape)), shape)
    return (made - made.min()) / np.ptp(made)


def dems():
    """Return the DEMs as stored numbers, by name."""
    shape = (150, 190)
    continuous = np.rint(fractal(shape, 1) * 60 / STEP).astype("uint16")
    # Whole metres and a broad valley: four fifths of it is flat.
    flat = (np.rint(fractal((200, 260), 2, 2.8) * 7) * 1024).astype("uint16")
    noisy = np.rint(np.random.default_rng(3).random((90, 110)) * 60 / STEP).astype("uint16")
    holed = np.rint(fractal(shape, 4) * 60 / STEP).astype("uint16")
    for row, col, radius in ((40, 50, 12), (41, 66, 6), (100, 120, 20), (75, 0, 9), (149, 189, 14), (10, 100, 1), (11, 101, 1)):
        rows, cols = np.ogrid[: shape[0], : shape[1]]
        holed[(rows - row) ** 2 + (cols - col) ** 2 < radius * radius] = NONE
    return {"continuous": continuous, "flat": flat, "noisy": noisy, "holed": holed}


def heights(stored):
    """Return stored numbers as heights in m, NaN in holes."""
    return np.where(stored == NONE, np.nan, stored * STEP).astype("float32")


def directions(out):
    """Write the DEMs and mdive's directions."""
    from mdive.algorithms.terrain_direction import esri, steepest_descent
    from mdive.algorithms.terrain_fill import filled
    from mdive.algorithms.terrain_flats import flow_direction

    made = {}
    for name, stored in dems().items():
        made[f"{name}_dem"] = stored
        made[f"{name}_direction"] = esri(flow_direction(steepest_descent(filled(heights(stored)))))
    np.savez_compressed(out, **made)


def filled_by_richdem(height):
    """Return the fill of richdem2, for a DEM without holes."""
    import richdem

    dem = richdem.rdarray(height.astype("float64"), no_data=-9999.0)
    return np.array(richdem.FillDepressions(dem, epsilon=False, in_place=False))


def filled_by_scikit_image(height):
    """Return the morphological reconstruction by erosion from all that is beside the unknown: a fill by its definition."""
    from skimage.morphology import reconstruction

    hole = np.pad(np.isnan(height), 1, constant_values=True)
    height = np.pad(np.nan_to_num(height.astype("float64"), nan=-1e4), 1, constant_values=-1e4)
    seed = np.where(hole, height, height.max())
    made = reconstruction(seed, height, method="erosion", footprint=np.ones((3, 3)))
    return np.where(hole, np.nan, made)[1:-1, 1:-1]


def filled_by_fastscapelib(height):
    """Return the fill of fastscapelib."""
    import fastscapelib as fs

    hole = np.isnan(height)
    status = [fs.RasterNode(int(r), int(c), fs.NodeStatus.FIXED_VALUE) for r, c in np.argwhere(hole)]
    grid = fs.RasterGrid(list(height.shape), [1.0, 1.0], fs.NodeStatus.FIXED_VALUE, {(n.row, n.col): n.status for n in status})
    graph = fs.FlowGraph(grid, [fs.SingleFlowRouter(), fs.PFloodSinkResolver()])
    made = graph.update_routes(np.where(hole, -1e4, height.astype("float64")))
    return np.where(hole, np.nan, made)


def given_pyflwdir(direction, surface, least):
    """Return accumulation, drainage and height above it, by pyflwdir."""
    import pyflwdir

    codes = np.where(direction == 255, 247, direction).astype("uint8")
    flow = pyflwdir.from_array(codes, ftype="d8", check_ftype=True)
    upstream = flow.upstream_area("cell")
    drain = upstream >= least
    hand = flow.hand(drain=drain, elevtn=np.nan_to_num(surface, nan=-9999.0).astype("float64"))
    return np.where(direction == 255, 0, upstream).astype("int32"), drain, hand


def given_pysheds(direction, surface, drain):
    """Return accumulation and height above drainage, by pysheds."""
    np.in1d = np.isin  # noqa: NPY201 - pysheds calls it; numpy 2.4 has it no more
    from affine import Affine
    from pysheds.sview import Raster, ViewFinder

    shape = direction.shape[0] + 2, direction.shape[1] + 2

    def raster(values, nodata, dtype):
        finder = ViewFinder(affine=Affine(1, 0, 0, 0, -1, 0), shape=shape, nodata=dtype(nodata), mask=np.ones(shape, bool))
        return Raster(np.pad(values.astype(dtype), 1, constant_values=dtype(nodata)), finder)

    from pysheds.grid import Grid

    flow = raster(np.where(direction == 255, -1, direction.astype("int64")), -1, np.int64)
    grid = Grid.from_raster(flow)
    upstream = np.asarray(grid.accumulation(flow.copy(), nodata_out=np.float64(0)))[1:-1, 1:-1]
    hand = grid.compute_hand(flow.copy(), raster(surface, np.nan, np.float64), raster(drain, 0, np.bool_))
    return upstream.astype("int32"), np.asarray(hand)[1:-1, 1:-1]


def oracles(given, folder):
    """Write one file for each DEM."""
    with np.load(given) as file:
        names = [key.removesuffix("_dem") for key in file if key.endswith("_dem")]
        cases = {name: (file[f"{name}_dem"], file[f"{name}_direction"]) for name in names}
    for name, (stored, direction) in cases.items():
        height = heights(stored)
        surface = filled_by_scikit_image(height)
        fills = {"scikit_image": surface} | ({} if np.isnan(height).any() else {"richdem": filled_by_richdem(height)})
        upstream, drain, theirs = given_pyflwdir(direction, surface, DRAIN[name])
        also_upstream, hand = given_pysheds(direction, surface, drain)
        made = {
            "dem": stored,
            "direction": direction,
            # A fill as what it adds.
            **{f"raised_by_{who}": (fill - height).astype("float32") for who, fill in fills.items()},
            "fill_by_fastscapelib_less_scikit_image": filled_by_fastscapelib(height) - surface,
            "upstream_by_pyflwdir": upstream,
            "upstream_by_pysheds_less_pyflwdir": also_upstream - upstream,
            "hand_by_pysheds": hand.astype("float32"),
            # Where there is no drain, pyflwdir says something else.
            "hand_by_pyflwdir_less_pysheds": np.where(np.isnan(hand), 0.0, theirs - hand),
        }
        np.testing.assert_array_equal(made["hand_by_pysheds"].astype("float64"), hand)
        for who, fill in fills.items():
            np.testing.assert_array_equal(height.astype("float64") + made[f"raised_by_{who}"], fill)
        path = Path(folder) / f"terrain_{name}.npz"
        np.savez_compressed(path, **made)
        said = [np.nanmax(np.abs(made[k])) for k in made if "_less_" in k]
        print(f"{name}: {path.stat().st_size / 1000:.0f} kB, flat {np.mean(direction == 0):.3f}, differences {said}")


if __name__ == "__main__":
    {"directions": directions, "oracles": oracles}[sys.argv[1]](*sys.argv[2:])
