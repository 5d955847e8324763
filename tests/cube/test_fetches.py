"""What a pass fetches is a plan: each block once where the budget holds it, the same requests whatever the threads do."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from mdive.cube.ahead import Fetcher, _Turn
from mdive.cube.failures import Unreadable
from mdive.cube.fetches import BandRead, PlannedFile, place_of, plan_fetches
from mdive.cube.native import LocalFile
from mdive.cube.relation import SourceGrid, relate
from mdive.cube.sampling import sample
from mdive.cube.spans import spans
from mdive.cube.store import BlockStore, places_of, reading
from mdive.model.plan import AssetRef, Grid
from mdive.pipeline.window import Window

PLACE = rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)
SIZE = 160


class Far:
    """A file whose ranges are counted; it is slow, and it fails when it is told to."""

    def __init__(self, path):
        self.file = LocalFile(str(path))
        self.key, self.layout = self.file.key, self.file.layout
        self.ranges = []
        self.rng = random.Random(1)
        self.slow = 0.0
        self.fail = 0

    def fetch(self, ranges):
        time.sleep(self.rng.random() * self.slow)
        self.ranges.extend(ranges)
        if self.fail:
            self.fail -= 1
            raise Unreadable("timeout", "too slow")
        return self.file.fetch(ranges)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """One file whose blocks hold a band, and one whose blocks hold all bands."""
    folder = tmp_path_factory.mktemp("blocks")
    pixels = np.random.default_rng(0).integers(0, 999, (3, SIZE, SIZE)).astype("uint16")
    made = {}
    for interleave in ("band", "pixel"):
        made[interleave] = folder / f"{interleave}.tif"
        with rasterio.open(
            made[interleave], "w", driver="GTiff", height=SIZE, width=SIZE, count=3, dtype="uint16", crs="EPSG:32630", transform=PLACE, tiled=True,
            blockxsize=16, blockysize=32, compress="deflate", interleave=interleave,
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
    return made, pixels


def planned(far):
    return PlannedFile(far.key, far.layout, far)


def walk(files, step, halo, bands=(1, 2, 3)):
    """Tiles in rows, with what each of them reads of each file."""
    turns = []
    for top, left in itertools.product(range(0, SIZE, step), repeat=2):
        rows, cols = ((max(e - halo, 0), min(e + step + halo, SIZE)) for e in (top, left))
        turns.append([BandRead(planned(far), band, rows, cols) for far in files for band in bands])
    return turns


walks = st.tuples(st.sampled_from(["band", "pixel", "both"]), st.sampled_from([16, 40, 70, 160]), st.sampled_from([0, 3, 20]))


def far_files(paths, which):
    return [Far(paths[0][name]) for name in (("band", "pixel") if which == "both" else (which,))]


@settings(max_examples=40, deadline=None)
@given(walks, st.sampled_from([0, 1, 5000, 40_000, 10**9]))
def test_a_plan_serves_every_read_and_keeps_to_its_budget(paths, how, budget):
    which, step, halo = how
    files = far_files(paths, which)
    turns = walk(files, step, halo)
    plan = plan_fetches(turns, budget)
    assert plan.kept <= budget
    known, used, here = {}, Counter(), set()
    for turn, reads in zip(plan.turns, turns, strict=True):
        for group in turn.groups:
            layout = plan.files[group.file].layout
            for life, block in enumerate(group.blocks.tolist(), group.first):
                assert life not in known
                known[life] = group.file, block
                here.add(life)
                start, count = (int(table.ravel()[block]) for table in (layout.offsets, layout.counts))
                assert any(a <= start and start + count <= b for a, b in group.ranges)
        asked = Counter()
        for read in reads:
            number = next(n for n, f in enumerate(plan.files) if f.key == read.file.key)
            asked.update((number, place) for place in places_of(read.file.layout, read.index, read.rows, read.cols))
        for need in turn.needs:
            for block, times, life in zip(need.blocks.tolist(), need.times.tolist(), need.lives.tolist(), strict=True):
                assert known[life] == (need.file, block)
                assert life in here, "what a turn needs has been fetched, by it or before"
                assert asked.pop((need.file, place_of(plan.files[need.file].layout, block))) == times
                used[life] += times
        assert not asked
    assert [used[life] for life in range(len(plan.uses))] == plan.uses.tolist()
    if budget == 10**9:
        assert len(set(known.values())) == len(known), "a block is fetched once"


def test_a_larger_budget_never_fetches_more(paths):
    files = far_files(paths, "both")
    turns = walk(files, 40, 3)
    requested = [plan_fetches(turns, budget).bytes for budget in (0, 5000, 20_000, 50_000, 10**9)]
    assert requested == sorted(requested, reverse=True)
    assert requested[0] > 1.5 * requested[-1]
    whole = sum(int(far.layout.counts.sum()) for far in files)
    assert whole <= requested[-1] <= whole + 64 * len(plan_fetches(turns, 10**9).uses)


@pytest.mark.parametrize("budget", [0, 3000, 40_000, 10**9])
@pytest.mark.parametrize("which", ["band", "pixel", "both"])
def test_threads_fetch_what_the_plan_says_and_nothing_else(paths, which, budget):
    files = far_files(paths, which)
    turns = walk(files, 40, 3)
    plan = plan_fetches(turns, budget)
    store = BlockStore(budget)
    rng = random.Random(budget)
    for far in files:
        far.slow = 0.004

    def work(number):
        time.sleep(rng.random() * 0.004)
        fetcher.begin(number)
        turn = _Turn(fetcher, number)
        with reading(turn):
            for read in turns[number]:
                got = store.read(read.file.remote, read.index, read.rows, read.cols)
                np.testing.assert_array_equal(got, paths[1][read.index - 1, slice(*read.rows), slice(*read.cols)])
        turn.end()

    with Fetcher([], plan, store) as fetcher, ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(len(turns))))
    assert sorted(r for far in files for r in far.ranges) == sorted(r for g in plan.groups() for r in g.ranges)
    assert (store.traffic.requests, store.traffic.bytes) == (plan.requests, plan.bytes)
    assert store.held == 0
    assert not any(fetcher.left)


def test_reads_that_are_left_out_free_their_blocks_and_reads_too_many_take_nobody_elses(paths):
    (far,) = far_files(paths, "pixel")
    turns = walk([far], 40, 3)
    store = BlockStore(10**9)
    with Fetcher([], plan_fetches(turns, 10**9), store) as fetcher:
        for number, reads in enumerate(turns):
            fetcher.begin(number)
            turn = _Turn(fetcher, number)
            with reading(turn):
                for read in reads[: number % 4] * 2:
                    store.read(far, read.index, read.rows, read.cols)
            turn.end()
        assert not fetcher.entries
    planned_ranges = Counter(r for g in fetcher.plan.groups() for r in g.ranges)
    assert not planned_ranges - Counter(far.ranges)


def test_what_failed_ahead_fails_for_its_reader_and_is_tried_again_by_the_next(paths):
    (far,) = far_files(paths, "band")
    turns = walk([far], 160, 0, bands=(1,)) * 2
    store = BlockStore(10**9)
    far.fail = 1
    with Fetcher([], plan_fetches(turns, 10**9), store) as fetcher:
        for number, outcome in enumerate(("too slow", None)):
            fetcher.begin(number)
            turn = _Turn(fetcher, number)
            with reading(turn):
                if outcome:
                    with pytest.raises(Unreadable, match=outcome):
                        store.read(far, 1, (0, SIZE), (0, SIZE))
                else:
                    np.testing.assert_array_equal(store.read(far, 1, (0, SIZE), (0, SIZE)), paths[1][0])
            turn.end()
    assert store.held == 0


def test_a_run_that_ends_early_leaves_nothing_behind(paths):
    (far,) = far_files(paths, "band")
    far.slow = 0.05
    store = BlockStore(10**9)
    turns = walk([far], 16, 3)

    def interrupted():
        with Fetcher([], plan_fetches(turns, 10**9), store) as fetcher:
            fetcher.begin(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.held == 0
    assert not any(t.name == "mdive-read-ahead" for t in threading.enumerate())


class Noting:
    """An open raster that notes what is read of it."""

    nodata = (None,)

    def __init__(self, grid):
        self.grid = grid
        self.asked = []

    def block_shape(self, _index):
        return 64, 64

    def read(self, _index, rows, cols):
        self.asked.append((rows, cols))
        return np.ones((rows[1] - rows[0], cols[1] - cols[0]), np.uint8)

    def pieces(self, index, rows, cols):
        return [(rows[0], cols[0], self.read(index, rows, cols))]


GRID = Grid(crs="EPSG:32630", resolution=10.0, x0=600000.0, y0=4000000.0, shape=(3000, 3000))

SOURCES = {
    "the same pixels": ("EPSG:32630", (10, 0, 595000.0, 0, -10, 4003000.0), (4000, 4000)),
    "repeated": ("EPSG:32630", (20, 0, 595000.0, 0, -20, 4003000.0), (1500, 1500)),
    "averaged": ("EPSG:32630", (5, 0, 598000.0, 0, -5, 4003000.0), (5000, 5000)),
    "half a pixel off": ("EPSG:32630", (10, 0, 595005.0, 0, -10, 4003005.0), (4000, 4000)),
    "another zone": ("EPSG:32631", (10, 0, 60000.0, 0, -10, 4010000.0), (5000, 5000)),
    "finer and warped": ("EPSG:32631", (3, 0, 62000.0, 0, -3, 4010000.0), (9000, 9000)),
    "degrees": ("EPSG:4326", (0.0003, 0, -2.0, 0, -0.0003, 36.3), (3000, 4000)),
    "the globe": ("EPSG:4326", (0.05, 0, -180.0, 0, -0.05, 90.0), (3600, 7200)),
    "turned": ("EPSG:32630", (8, 6, 595000.0, 6, -8, 3995000.0), (3000, 3000)),
}


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(-300, 2900), st.integers(-300, 2900), st.integers(1, 1500), st.integers(1, 1500)),
    st.sampled_from(["float32", "int16"]),
)
@pytest.mark.parametrize("name", SOURCES)
def test_what_is_planned_is_what_is_read(name, corner, dtype):
    raster = Noting(SourceGrid(*SOURCES[name]))
    asset = AssetRef(href="/x.tif", dtype="uint8")
    window = Window(*corner)
    found = list(spans(relate(raster.grid, GRID), window, interpolated=dtype == "float32"))
    sample(raster, asset, GRID, window, dtype)
    asked = [(rows, cols) for rows, cols in raster.asked if rows[0] < rows[1] and cols[0] < cols[1]]
    assert len(found) >= len(asked)
    if len(found) == len(asked):
        for (rows, cols), (more_rows, more_cols) in zip(asked, found, strict=True):
            assert more_rows[0] <= rows[0] <= rows[1] <= more_rows[1] <= rows[1] + 1
            assert more_cols[0] <= cols[0] <= cols[1] <= more_cols[1] <= cols[1] + 1
            assert rows[0] - more_rows[0] <= 1
            assert cols[0] - more_cols[0] <= 1
    else:
        assert not asked or name == "finer and warped"


def test_a_window_across_the_date_line_is_planned_from_both_ends_of_the_globe():
    grid = Grid(crs="EPSG:32601", resolution=1000.0, x0=100000.0, y0=2000000.0, shape=(300, 300))
    raster = Noting(SourceGrid(*SOURCES["the globe"]))
    window = Window(0, 0, 300, 300)
    (found,) = spans(relate(raster.grid, grid), window, interpolated=True)
    sample(raster, AssetRef(href="/x.tif", dtype="uint8"), grid, window, "float32")
    (asked,) = raster.asked
    assert found[1] == asked[1] == (0, 7200)


@pytest.mark.parametrize("edge", [100, 1500, 5000])
def test_large_windows_are_halved_as_the_reader_halves_them(edge):
    grid = GRID.model_copy(update={"shape": (edge, edge)})
    for name in ("the same pixels", "averaged", "another zone"):
        crs, transform, _ = SOURCES[name]
        raster = Noting(SourceGrid(crs, transform, (20_000, 20_000)))
        window = Window(0, 0, edge, edge)
        found = list(spans(relate(raster.grid, grid), window, interpolated=True))
        sample(raster, AssetRef(href="/x.tif", dtype="uint8"), grid, window, "float32")
        assert len(found) == len(raster.asked)
        for (rows, cols), (more_rows, more_cols) in zip(raster.asked, found, strict=True):
            assert (more_rows[0] <= rows[0], rows[1] <= more_rows[1], more_cols[0] <= cols[0], cols[1] <= more_cols[1]) == (True,) * 4
