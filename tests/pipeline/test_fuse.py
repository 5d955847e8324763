"""One definition, two executions: a kernel on numpy arrays and its recording as a compiled loop give the same bits."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdive.algorithms
import mdive.engine.pipelines as engine_operations
from mdive.errors import MdiveError
from mdive.pipeline import Local, Operation, Window, fuse, load_node, operation
from mdive.pipeline.graph import Graph
from mdive.pipeline.lower import run_whole
from mdive.pipeline.passes import split
from mdive.pipeline.strips import Arrays, steps_of
from mdive.pipeline.trace import EXACT, Tape, Traced
from mdive.pipeline.window import Tiles

SHAPE = (37, 53)
ODD = np.array([0.0, -0.0, 1.0, -1.0, 0.1, 1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan, 65535.0, 255.0], dtype="float32")


@pytest.fixture(autouse=True)
def loops(tmp_path, monkeypatch):
    """Every loop is compiled, in a folder of this test's own."""
    monkeypatch.setattr(fuse, "WORTH", 0)
    monkeypatch.setattr(fuse, "kernel_folder", lambda: tmp_path)
    fuse.compiled.cache_clear()
    fuse._fused_once.cache_clear()
    yield tmp_path
    fuse.compiled.cache_clear()
    fuse._fused_once.cache_clear()


def raster(rng, dtype, times=None):
    shape = SHAPE if times is None else (times, *SHAPE)
    if dtype == "bool":
        return rng.random(shape) < 0.4
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        few, wide = rng.integers(0, 9, shape), rng.integers(info.min, info.max, shape, endpoint=True)
        return np.where(rng.random(shape) < 0.7, few, wide).astype(dtype)
    return np.where(rng.random(shape) < 0.1, rng.choice(ODD, shape), rng.normal(0.2, 0.5, shape)).astype(dtype)


def run_both(node_of, arrays, grid, monkeypatch):
    """Return an operation's result from numpy kernels alone, and from the compiled loop; None where it is not recorded."""
    nodes = [load_node("s", name, dtype=str(a.dtype), timed=a.ndim == 3) for name, a in arrays.items()]
    graph = Graph({"out": node_of(*nodes)})
    tiles = Tiles.regular(SHAPE, max(SHAPE))

    def load(_source, bands, window):
        assert window == Window(0, 0, *SHAPE)
        return Arrays({b: arrays[b] for b in bands})

    where = grid.model_copy(update={"shape": SHAPE})
    compiled = run_whole(graph, where, tiles, load)["out"]
    (pass_,) = split(graph, where)
    (stretch,) = steps_of(pass_).order
    plan = fuse.fused(stretch, arrays_by_key(stretch, arrays), {}, pixels=1)
    with monkeypatch.context() as patch:
        patch.setattr("mdive.pipeline.evaluate.fused", lambda stretch, *_, **__: stretch.nodes)
        with np.errstate(all="ignore"):
            plain = run_whole(graph, where, tiles, load)["out"]
    return plain, compiled if all(isinstance(step, fuse.Fused) for step in plan) else None


def arrays_by_key(stretch, arrays):
    return {n.key: arrays[n.band] for n in stretch.given}


def same_bits(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.isnan(a) if a.dtype.kind == "f" else a, np.isnan(b) if b.dtype.kind == "f" else b)
    if a.dtype.kind == "f":
        bits = f"u{a.itemsize}"
        real = ~np.isnan(a)
        np.testing.assert_array_equal(np.ascontiguousarray(a).view(bits)[real], np.ascontiguousarray(b).view(bits)[real])


@operation(Local(), dtype="float32")
def arithmetic(a, b, k, m, /, *, low: float = 0.25, bit: int = 8):
    with np.errstate(all="ignore"):
        ratio = (a - b) / (a + b)
        out = np.where(ratio > low, np.sqrt(np.abs(a)) * 2.5 - 1, -b / 3)
    out[np.isnan(a) | ~np.isfinite(b)] = np.nan
    out[(k & np.uint16(bit)) != 0] = 7
    out += m
    out *= 0.5
    return out


@operation(Local(), dtype="uint16")
def wrapping(k, m, /):
    first = k + np.uint16(60_000)
    second = first * np.uint16(3) - m.astype("uint16")
    return np.minimum(second ^ np.uint16(0x5555), ~k) | (np.maximum(k, 7) & 0xFF)


@operation(Local(), dtype="uint8", over_time=True)
def through_time(v, mask, /):
    seen = np.isfinite(v) & (mask == 0)
    first = np.where(seen[0], v[0], v[-1]) > 0.2
    out = np.where(first, np.uint8(1), np.uint8(0))
    out[~seen.any(axis=0)] = 255
    out[np.all(seen, axis=0) & ~first] = 2
    many = np.bitwise_or.reduce(mask, axis=0)
    return np.where(many > 1000, np.uint8(9), out)


@operation(Local(), dtype="float32")
def each_time(v, one, /):
    return np.where(v > one, v * np.float32(2), one)


@pytest.mark.parametrize("seed", range(4))
def test_recorded_arithmetic_equals_numpy(grid, monkeypatch, seed):
    rng = np.random.default_rng(seed)
    kinds = {"a": "float32", "b": "float32", "k": "uint16", "m": "bool"}
    arrays = {name: raster(rng, dtype) for name, dtype in kinds.items()}
    plain, compiled = run_both(lambda *n: arithmetic(*n, low=0.1), arrays, grid, monkeypatch)
    same_bits(compiled, plain)
    plain, compiled = run_both(wrapping, {"k": arrays["k"], "m": arrays["m"]}, grid, monkeypatch)
    same_bits(compiled, plain)
    timed = {"v": raster(rng, "float32", 3), "mask": raster(rng, "uint16", 3)}
    plain, compiled = run_both(through_time, timed, grid, monkeypatch)
    same_bits(compiled, plain)
    plain, compiled = run_both(each_time, {"v": timed["v"], "one": arrays["a"]}, grid, monkeypatch)
    assert compiled.shape == (3, *SHAPE)
    same_bits(compiled, plain)


def test_another_parameter_needs_no_other_loop(grid, monkeypatch, loops):
    rng = np.random.default_rng(5)
    arrays = {"a": raster(rng, "float32"), "b": raster(rng, "float32"), "k": raster(rng, "uint16"), "m": raster(rng, "bool")}
    results = [run_both(lambda *n, low=low: arithmetic(*n, low=low), arrays, grid, monkeypatch) for low in (0.1, 0.4)]
    for plain, compiled in results:
        same_bits(compiled, plain)
    assert not np.array_equal(results[0][0], results[1][0], equal_nan=True)
    assert len(list(loops.glob("mdive_fused_*.py"))) == 1


@operation(Local(), dtype="float32")
def logarithm(a, /):
    return np.log(np.abs(a))


@operation(Local(), dtype="float32")
def spoils_its_input(a, /):
    a[a > 0] = 1
    return a


@operation(Local(), dtype="uint8")
def floats_as_codes(a, /):
    return np.where(a > 0, a, 0)


@operation(Local(), dtype="float32")
def looks_at_all(a, /):
    return a - 1 if (a > 0).any() else a


@operation(Local(), dtype="float32")
def neighbour(a, /):
    return a[:, ::-1]


@operation(Local(), dtype="float32")
def lesser(a, /):
    return np.minimum(a, 0.0)


@pytest.mark.parametrize("kernel", [logarithm, spoils_its_input, floats_as_codes, looks_at_all, neighbour, lesser], ids=lambda k: k.name)
def test_what_has_no_single_answer_stays_with_numpy(kernel):
    node = load_node("s", "a", timed=False)
    assert fuse.record([kernel(node)], [kernel(node)], {node.key: None}, {node.key: "float32"}, {}) is None


def builtin_operations():
    modules = [importlib.import_module(f"mdive.algorithms.{m.name}") for m in pkgutil.iter_modules(mdive.algorithms.__path__)]
    found = {v.qualified: v for m in (*modules, engine_operations) for v in vars(m).values() if isinstance(v, Operation)}
    return [o for o in found.values() if isinstance(o.locality, Local)]


KINDS = (["float32"], ["uint8", "uint16", "bool"], ["uint8"], ["uint16"], ["bool"])


def test_mdives_own_operations_are_recorded_or_left_alone(grid):
    """Each local operation, on rasters of a kind that it takes: the loop, where there is one, gives numpy's bits."""
    recorded = set()
    rng = np.random.default_rng(11)
    for op in builtin_operations():
        bound = {k: [1, 255] if v is inspect.Parameter.empty else v for k, v in op.defaults.items()}
        for kinds in KINDS:
            arrays = [raster(rng, kinds[i % len(kinds)], 2 if op.over_time else None) for i, _ in enumerate(op.rasters)]
            nodes = [load_node("s", f"r{i}", dtype=str(a.dtype), timed=op.over_time) for i, a in enumerate(arrays)]
            try:
                node = op(*nodes, **bound)
            except MdiveError:  # parameters that it does not take
                continue
            times = dict.fromkeys([n.key for n in nodes], 2 if op.over_time else None)
            found = fuse.record([node], [node], times, {n.key: n.dtype for n in nodes}, {})
            if found is None:
                continue
            with np.errstate(all="ignore"):
                expected = op.call(arrays, node.parameters, window=Window(0, 0, *SHAPE), grid=grid)
            out = np.empty_like(expected)
            given = {n.key: a for n, a in zip(nodes, arrays, strict=True)}
            found.run(fuse.compiled(found.source, worth=True), [given[n.key] for n in found.inputs], [out])
            same_bits(out, expected)
            recorded.add(op.name)
            break
    assert {"cause_plane", "clip_class", "clip_bits", "clip_float"} <= recorded
    assert len(recorded) >= 10, sorted(recorded)


TREES = st.recursive(
    st.sampled_from(["a", "b", "k", "m"]),
    lambda inner: st.tuples(st.sampled_from(sorted(EXACT) + ["where", "astype"]), inner, inner, inner),
    max_leaves=12,
)


def value_of(tree, leaves):
    if isinstance(tree, str):
        return leaves[tree]
    name, *inner = tree
    x, y, z = (value_of(t, leaves) for t in inner)
    if name == "where":
        return np.where(x != 0, y, z)
    if name == "astype":
        return x.astype("float64")
    ufunc = getattr(np, name)
    return ufunc(x) if ufunc.nin == 1 else ufunc(x, y)


@settings(max_examples=6, deadline=None)
@given(trees=st.lists(TREES, min_size=15, max_size=15), seed=st.integers(0, 99))
def test_any_expression(trees, seed):
    rng = np.random.default_rng(seed)
    arrays = {"a": raster(rng, "float32"), "b": raster(rng, "float32"), "k": raster(rng, "uint16"), "m": raster(rng, "bool")}
    tape = Tape()
    places = [tape.add("input", (), a.dtype, i, None) for i, a in enumerate(arrays.values())]
    stand_ins = {n: Traced(tape, [at], timed=False, fixed=True) for n, at in zip(arrays, places, strict=True)}
    results, expected = [], []
    for tree in trees:
        try:
            traced = value_of(tree, stand_ins)
        except Exception:  # numpy refuses it as well, or it is not recorded
            continue
        with np.errstate(all="ignore"):
            expected.append(np.ascontiguousarray(value_of(tree, arrays)))
        assert traced.dtype == expected[-1].dtype, tree
        results.append((traced.at[0],))
    if not results:
        return
    nodes = tuple(load_node("s", n, dtype=str(a.dtype), timed=False) for n, a in arrays.items())
    found = fuse.Recorded(nodes, nodes[:1] * len(results), tape, tuple(results), (False,) * len(results))
    outs = [np.empty(SHAPE, e.dtype) for e in expected]
    namespace = {}
    exec(found.source.replace("cache=True", "cache=False"), namespace)
    found.run(namespace["loop"], list(arrays.values()), outs)
    for out, right in zip(outs, expected, strict=True):
        same_bits(out, right)


def test_a_folder_that_others_may_write_is_not_used(monkeypatch, tmp_path):
    from mdive import config

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    folder = config.kernel_folder()
    assert folder == tmp_path / "fused"
    folder.chmod(0o777)
    assert config.kernel_folder() is None


def test_a_file_of_a_loop_that_was_changed_is_written_again(loops):
    node = load_node("s", "a", timed=False)
    found = fuse.record([each_time(node, node)], [each_time(node, node)], {node.key: None}, {node.key: "float32"}, {})
    assert fuse.compiled(found.source, worth=True) is not None
    (path,) = loops.glob("mdive_fused_*.py")
    path.write_text("loop = None\n")
    fuse.compiled.cache_clear()
    assert fuse.compiled(found.source, worth=False) is None
    fuse.compiled.cache_clear()
    assert fuse.compiled(found.source, worth=True) is not None
    assert path.read_text() == found.source
