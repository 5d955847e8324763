"""One definition, two executions: a kernel on numpy arrays and its recording as a compiled loop give the same bits."""

from __future__ import annotations

import errno
import importlib
import inspect
import pkgutil
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

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
from mdive.pipeline.operation import constant_node
from mdive.pipeline.passes import split
from mdive.pipeline.strips import Arrays, steps_of
from mdive.pipeline.trace import EXACT, KNOWN, Tape, Traced, Untraceable
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
        few, wide = (rng.integers(*limits, shape, dtype, endpoint=True) for limits in ((0, 8), (info.min, info.max)))
        return np.where(rng.random(shape) < 0.7, few, wide)
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
        except (Exception, Untraceable):  # numpy refuses it as well, or it is not recorded
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


def recorded_and_plain(op, arrays, grid, **bound):
    """Return what the loop of one operation computes (None where it is not recorded), and what its kernel does."""
    nodes = [load_node("s", f"r{i}", dtype=str(a.dtype), timed=a.ndim == 3) for i, a in enumerate(arrays)]
    node = op(*nodes, **bound)
    times = {n.key: len(a) if a.ndim == 3 else None for n, a in zip(nodes, arrays, strict=True)}
    found = fuse.record([node], [node], times, {n.key: a.dtype for n, a in zip(nodes, arrays, strict=True)}, {})
    with np.errstate(all="ignore"):
        expected = op.call([a.copy() for a in arrays], node.parameters, window=Window(0, 0, *SHAPE), grid=grid)
    if found is None:
        return None, expected
    out = np.empty_like(expected)
    given = {n.key: a for n, a in zip(nodes, arrays, strict=True)}
    found.run(fuse.compiled(found.source, worth=True), [given[n.key] for n in found.inputs], [out])
    return out, expected


@operation(Local(), dtype="float32", over_time=True)
def writes_behind_a_view(v, /):
    out = v * 2
    first = out[0]
    out += 1
    return first


@operation(Local(), dtype="float32", over_time=True)
def writes_behind_a_loop(v, /):
    out = v * 2
    scenes = list(out)
    out[v > 0] = 7
    return scenes[0]


@operation(Local(), dtype="float32")
def one_array_by_two_names(a, /):
    out = a * 2
    same = out.astype("float32", copy=False)
    same[a > 0] = 7
    return out


@operation(Local(), dtype="float32")
def swallows_errors(a, /):
    try:
        return a * 0 + a.reshape(-1)[:1].size
    except Exception:
        return a * 3


@operation(Local(), dtype="float32")
def asks_what_it_got(a, /):
    return a * 2 if isinstance(a, np.ndarray) else a * 3


@operation(Local(), dtype="float32")
def makes_sure_of_an_array(a, /):
    return np.asarray(a) * np.float64(0.1) + 0.7


@operation(Local(), dtype="float32")
def half_precision(a, /):
    return np.full_like(a, 0.1, dtype="float16") + a


@operation(Local(), dtype="float32")
def long_double(a, /):
    return a.astype("longdouble") / 3


@operation(Local(), dtype="float32", over_time=True)
def index_of_truth(v, /):
    return v[True][0][-1]


@pytest.mark.parametrize(
    "kernel",
    [
        writes_behind_a_view,
        writes_behind_a_loop,
        one_array_by_two_names,
        swallows_errors,
        asks_what_it_got,
        makes_sure_of_an_array,
        half_precision,
        long_double,
        index_of_truth,
    ],
    ids=lambda k: k.name,
)
def test_a_stand_in_is_an_array_or_nothing(kernel, grid):
    rng = np.random.default_rng(3)
    compiled, plain = recorded_and_plain(kernel, [raster(rng, "float32", 3 if kernel.over_time else None)], grid)
    if compiled is not None:
        same_bits(compiled, plain)


def test_what_numpy_refuses_is_not_recorded():
    @operation(Local(), dtype="float32")
    def all_pixels_into_some(a, b, /):
        out = a * 1
        out[a > 0] = b
        return out

    a, b = (load_node("s", n, timed=False) for n in "ab")
    node = all_pixels_into_some(a, b)
    assert fuse.record([node], [node], {a.key: None, b.key: None}, {a.key: "float32", b.key: "float32"}, {}) is None


def test_a_source_without_a_time_is_not_recorded():
    v = load_node("s", "v", timed=True)
    mask = load_node("s", "mask", dtype="uint16", timed=True)
    node = through_time(v, mask)
    assert fuse.record([node], [node], {v.key: 0, mask.key: 0}, {v.key: "float32", mask.key: "uint16"}, {}) is None


@operation(Local(), dtype="float32")
def exponential(v, /):
    return np.exp(np.minimum(np.abs(v), np.float32(20)))


@operation(Local(), dtype="float32", over_time=True)
def last_of_all(v, /):
    return v[-1] * 2


@operation(Local(), dtype="float32")
def first_without_saying_so(v, /):
    return np.exp(np.minimum(np.abs(v[0]), np.float32(20)))


@operation(Local(), dtype="float32")
def doubled(v, /):
    return v * 2


def run_stretch(outputs, arrays, grid, monkeypatch):
    """Return a pipeline's results from numpy kernels alone, and from the loops that there are."""
    graph = Graph(outputs)
    tiles = Tiles.regular(SHAPE, max(SHAPE))
    where = grid.model_copy(update={"shape": SHAPE})

    def load(source, bands, _window):
        return Arrays({b: arrays[source, b] for b in bands})

    compiled = run_whole(graph, where, tiles, load)
    with monkeypatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr("mdive.pipeline.evaluate.fused", lambda stretch, *_, **__: stretch.nodes)
        plain = run_whole(graph, where, tiles, load)
    return plain, compiled


def test_sources_with_different_numbers_of_scenes(grid, monkeypatch):
    rng = np.random.default_rng(6)
    arrays = {("s", "v"): raster(rng, "float32", 2), ("t", "v"): raster(rng, "float32", 3)}
    short, long = load_node("s", "v"), load_node("t", "v")
    outputs = {
        "short": last_of_all(exponential(short)),
        "long": last_of_all(exponential(long)),
        "each": doubled(short),
        "more": doubled(long),
    }
    plain, compiled = run_stretch(outputs, arrays, grid, monkeypatch)
    for name, expected in plain.items():
        assert compiled[name].shape == expected.shape, name
        same_bits(compiled[name], expected)


def test_an_operation_that_returns_another_shape_than_its_graph_says(grid, monkeypatch):
    rng = np.random.default_rng(7)
    v = load_node("s", "v")
    plain, compiled = run_stretch({"out": doubled(first_without_saying_so(v))}, {("s", "v"): raster(rng, "float32", 3)}, grid, monkeypatch)
    assert plain["out"].shape == SHAPE
    same_bits(compiled["out"], plain["out"])


NUMBERS = (True, 3, 0.1, np.float64(0.1), np.uint8(7), np.int64(-7), np.inf, np.nan)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "uint64", "float32"])
def test_each_ufunc_on_each_kind_of_number(dtype):
    """No step that numba cannot compile, or compiles to something else than numpy does."""
    rng = np.random.default_rng(8)
    arrays = [raster(rng, dtype), raster(rng, dtype), raster(rng, "bool")]
    tape = Tape()
    stand_ins = [Traced(tape, [tape.add("input", (), a.dtype, i, None)], timed=False, fixed=True) for i, a in enumerate(arrays)]
    functions = {name: lambda a, b, _, name=name: getattr(np, name)(*(a, b)[: getattr(np, name).nin]) for name in sorted(EXACT)}
    functions |= {f"as {other}": lambda a, _b, _m, other=other: a.astype(other) for other in sorted(KNOWN, key=str)}
    for n in NUMBERS:
        functions |= {f"times {n!r}": lambda a, *_, n=n: a * n, f"or {n!r}": lambda _, b, m, n=n: np.where(m, b, n)}
    results, expected = {}, {}
    for name, function in functions.items():
        with suppress(Exception, Untraceable), np.errstate(all="ignore"):
            results[name] = (function(*stand_ins).at[0],)
            expected[name] = np.ascontiguousarray(function(*arrays))
    assert len(results) > 20
    assert results.keys() == expected.keys()
    nodes = tuple(load_node("s", str(i), dtype=str(a.dtype), timed=False) for i, a in enumerate(arrays))
    found = fuse.Recorded(nodes, nodes[:1] * len(results), tape, tuple(results.values()), (False,) * len(results))
    outs = {name: np.empty(SHAPE, tape.entries[at].dtype) for name, (at,) in results.items()}
    namespace = {}
    exec(found.source.replace("cache=True", "cache=False"), namespace)
    found.run(namespace["loop"], arrays, list(outs.values()))
    for name, right in expected.items():
        same_bits(outs[name], right)


@operation(Local(), dtype="float32")
def by_a_state(a, state, table=None, /):
    out = a * state["factor"] if state["factor"] > 1 else a - state["factor"]
    return out if table is None else np.where(table > 0, out, state["other"])


@pytest.mark.parametrize("factor", [0.1, np.float32(3.3), np.float64(3.3), 7])
@pytest.mark.parametrize("optional", [False, True])
def test_states_and_rasters_that_are_missing(factor, optional, grid):
    rng = np.random.default_rng(9)
    a, table = raster(rng, "float32"), raster(rng, "uint8")
    state = {"factor": factor, "other": np.int16(4)}
    left, given_state, right = load_node("s", "a", timed=False), constant_node("c"), load_node("s", "t", dtype="uint8", timed=False)
    node = by_a_state(left, given_state, right if optional else None)
    found = fuse.record(
        [node], [node], {left.key: None, right.key: None}, {left.key: "float32", right.key: "uint8"}, {given_state.key: state}
    )
    with np.errstate(all="ignore"):
        expected = by_a_state.call([a, state, table if optional else None], {}, window=Window(0, 0, *SHAPE), grid=grid)
    out = np.empty_like(expected)
    found.run(fuse.compiled(found.source, worth=True), [a, table][: len(found.inputs)], [out])
    same_bits(out, expected)


def sources(count):
    """Return sources of loops that nobody has compiled."""
    v = load_node("s", "v", timed=False)
    steps = [v]
    for _ in range(count):
        steps.append(doubled(steps[-1]))
    return [fuse.record(steps[1:n], [steps[n - 1]], {v.key: None}, {v.key: "float32"}, {}).source for n in range(2, count + 2)]


def test_threads_that_write_the_same_loop_at_once(loops, monkeypatch):
    texts = sources(25)
    replace = fuse.Path.replace

    def slowly(path, target):
        time.sleep(random.random() / 1000)  # another thread is in the middle of its file
        return replace(path, target)

    monkeypatch.setattr(fuse.Path, "replace", slowly)
    gate = threading.Barrier(6, timeout=5)

    def all_of_them(_):
        found = []
        for text in texts:
            gate.wait()
            found.append(fuse.compiled(text, worth=True) is not None)
        return found

    with ThreadPoolExecutor(6) as pool:
        assert all(all(found) for found in pool.map(all_of_them, range(6)))
    assert {p.read_text() for p in loops.glob("mdive_fused_*.py")} == set(texts)
    assert not list(loops.glob(".mdive_fused_*")), "nothing half written is left"


def test_a_folder_that_is_full_or_gone_leaves_the_work_to_numpy(loops, monkeypatch):
    (text,) = sources(1)

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fuse.Path, "replace", full)
        assert fuse.compiled(text, worth=True) is None
    assert list(loops.iterdir()) == []
    monkeypatch.setattr(fuse, "kernel_folder", lambda: loops / "gone")
    fuse.compiled.cache_clear()
    assert fuse.compiled(text, worth=True) is None


def test_what_runs_is_the_text_that_was_recorded_not_a_file(loops):
    (text,) = sources(1)
    assert fuse.compiled(text, worth=True) is not None
    (path,) = loops.glob("mdive_fused_*.py")
    path.write_bytes(b"\xff\xfe no text")
    fuse.compiled.cache_clear()
    a = raster(np.random.default_rng(10), "float32")
    out = np.empty_like(a)
    fuse.compiled(text, worth=True)(a, np.array([2.0]), np.array([0]), out)
    with np.errstate(all="ignore"):
        same_bits(out, a * 2)
