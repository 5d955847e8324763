"""One graph, any partition, any lowering: the same bits."""

import pickle

import dask
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdive.pipeline import Tiles
from mdive.pipeline.graph import Graph
from mdive.pipeline.lower import run_whole, to_dask
from mdive.pipeline.passes import split


def edges(length):
    return st.sets(st.integers(1, length - 1), max_size=6).map(lambda cuts: (0, *sorted(cuts), length))


@pytest.fixture
def truth(outputs, grid, one_tile, world):
    return run_whole(Graph(outputs), grid, one_tile, world)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=edges(61), cols=edges(53))
def test_any_partition_gives_the_same_bits(outputs, grid, world, truth, rows, cols):
    got = run_whole(Graph(outputs), grid, Tiles(rows, cols), world)
    for name, array in truth.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_the_truth_is_not_trivial(truth):
    assert 0 < truth["second"].sum() < truth["second"].size
    assert len(np.unique(truth["wide"])) > 5
    assert np.isfinite(truth["smooth"]).all()


@pytest.mark.parametrize("size", [7, 16, 1000])
def test_dask_equals_the_passes_in_memory(outputs, grid, world, truth, size):
    tiles = Tiles.regular(grid.shape, size, 3, 5)

    def loads(pass_, index):
        return (lambda arguments: world), []

    with dask.config.set(scheduler=_refuse):
        arrays = to_dask(Graph(outputs), grid, tiles, loads, "t")
    got = dask.compute(arrays, scheduler="threads")[0]
    for name, array in truth.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_dask_makes_one_task_per_tile_and_pass(outputs, grid, world):
    tiles = Tiles.regular(grid.shape, 16)
    graph = Graph(outputs)
    passes = split(graph, grid)
    arrays = to_dask(graph, grid, tiles, lambda p, i: ((lambda a: world), []), "t")
    for array in arrays.values():
        assert len(dict(array.__dask_graph__())) <= len(tiles) * (len(passes) + 1) + len(passes)


def test_a_graph_shares_loads_and_prunes_what_nobody_asks_for(outputs):
    graph = Graph({"smooth": outputs["smooth"]})
    assert [n.band for n in graph.loads] == ["v", "mask"]
    assert {n.label for n in graph} == {"s/post:v", "s/post:mask", "first", "box"}
    assert len(Graph(outputs).loads) == 2


def test_passes_add_depths_up_and_end_at_reductions(outputs, grid):
    passes = split(Graph(outputs), grid)
    smooth = outputs["smooth"]
    loads = [n for n in passes[0].nodes if n.is_load]
    assert {passes[0].halo[n.key] for n in loads} == {4}
    assert [r.label for r in passes[0].reductions] == ["histogram"]
    assert any(n.key == smooth.key for n in passes[0].kept)
    assert [m.label for m in passes[1].maps] == ["rowcount"]


def test_documents_of_equal_graphs_are_equal_and_nodes_pickle(outputs):
    again = pickle.loads(pickle.dumps(outputs))
    assert Graph(again).document() == Graph(outputs).document()


def _refuse(*args, **kwargs):
    raise AssertionError("something was computed while the graph was built")
