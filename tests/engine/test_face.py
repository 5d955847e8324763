"""What a user may give to the verbs, and what is said to whoever gives something else: two lines, never a trace of ours."""

import time
import types
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import mdive
from mdive.engine import named
from mdive.engine.given import take_catalog, take_event, take_path, take_runtime
from mdive.engine.tiling import MAX_TILES, check_size
from mdive.errors import InputError, PluginError, UsageError
from mdive.model import load_document
from mdive.model.event import Event
from mdive.model.plan import Tiling
from mdive.pipeline import Local, Tiles, operation
from mdive.plugins.offers import Plugin
from mdive.runtime import Serial


def refused(error, function, *given, **named):
    """Return what is said, after checking that it is two lines."""
    with pytest.raises(error) as caught:
        function(*given, **named)
    message, hint = str(caught.value).splitlines()
    return f"{message} / {hint}"


@pytest.fixture(scope="module")
def plan(flood):
    return mdive.plan(flood.event, catalog=flood.catalog, tile_size=128)


@pytest.fixture
def cube():
    values = np.random.default_rng(2).random((3, 20, 30)).astype("float32")
    coords = {"y": 5_000_000.0 - 10 * np.arange(20), "x": 500_000.0 + 10 * np.arange(30)}
    return xr.DataArray(values, dims=("time", "y", "x"), coords=coords)


# What is given to verbs


@pytest.mark.parametrize("verb", ["load", "analyse", "explain"])
def test_a_verb_that_takes_a_plan_says_how_to_get_one(flood, verb):
    function = getattr(mdive, verb)
    said = refused(UsageError, function, flood.event)
    assert said == f"mdive.{verb} takes a Plan; it was given an Event. / Plan the event first: mdive.plan(event)."
    for given, shown in (("event.yaml", "'event.yaml' (str)"), (None, "None (NoneType)"), ({}, "a dict")):
        assert f"it was given {shown}. / Make one with mdive.plan(" in refused(UsageError, function, given)


def test_an_event_is_read_before_it_is_planned(flood, plan, tmp_path):
    assert take_event(flood.event, "plan") is flood.event
    for given in ("fire.yaml", Path("fire.yaml")):
        assert refused(UsageError, take_event, given, "plan").endswith(" / Read it first: mdive.load_event('fire.yaml').")
    assert "It is planned already" in refused(UsageError, take_event, plan, "plan")
    assert "it was given a dict" in refused(UsageError, take_event, {}, "plan")


def test_paths_and_catalogues_may_be_paths():
    assert take_path("out", "run", "out") == take_path(Path("out"), "run", "out") == Path("out")
    for given in (None, "", 3, b"out"):
        assert "mdive.run takes a path as out" in refused(UsageError, take_path, given, "run", "out")
    assert take_catalog(Path("a/catalog.json"), "plan") == "a/catalog.json"
    assert take_catalog("earth-search", "plan") == "earth-search"
    assert take_catalog(None, "plan") is None
    assert "it was given 3 (int)" in refused(UsageError, take_catalog, 3, "plan")


def test_a_runtime_is_connected_to_first():
    runtime = Serial()
    assert take_runtime(runtime, "run") is runtime
    assert take_runtime(None, "run") is None
    assert "mdive.connect('serial')" in refused(UsageError, take_runtime, "serial", "run")
    assert "mdive.connect('threads')" in refused(UsageError, take_runtime, Serial, "run")


@pytest.mark.parametrize("name", ["serial", "threads"])
def test_workers_are_a_whole_number_of_one_or_more_for_every_runtime(name):
    for given in ("2", 2.0, True, [2]):
        assert "takes a whole number of workers" in refused(UsageError, mdive.connect, name, workers=given)
    for given in (0, -1, np.int64(0)):
        assert refused(InputError, mdive.connect, name, workers=given) == f"{given} workers cannot do anything. / Give 1 or more."
    assert mdive.connect(name, workers=np.int64(2)).workers == {"serial": 1, "threads": 2}[name]
    assert "takes the name of a runtime" in refused(UsageError, mdive.connect, None)


def test_explain_checks_its_workers(plan):
    assert "whole number of workers" in refused(UsageError, mdive.explain, plan, workers="2")
    assert "cannot do anything" in refused(InputError, mdive.explain, plan, workers=0)


# What is given to apply


def test_apply_asks_for_a_name_that_is_one():
    assert "the name of an operation" in refused(UsageError, mdive.apply, 3)
    assert "Operations:" in refused(PluginError, mdive.apply, "nothing_like_it")


@pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 11}])
def test_an_operation_on_scenes_is_applied_to_each_time(cube, chunks):
    given = cube if chunks is None else cube.chunk(chunks)
    for name, raster in (("window_mean", given), ("sieve", given > 0.6), ("label", given > 0.6)):
        got = mdive.apply(name, raster)
        assert got.dims == ("time", "y", "x")
        for t in range(3):
            np.testing.assert_array_equal(got[t], mdive.apply(name, raster[t].compute()), err_msg=name)
    assert mdive.apply("label", cube.values > 0.6).shape == (3, 20, 30)


def test_a_missing_raster_or_another_shape_is_said_with_names_and_shapes(cube):
    flat = cube.values[0]
    assert "'ndwi' takes 2 rasters (green, nir); 1 was given" in refused(InputError, mdive.apply, "ndwi", cube)
    assert "'ndwi' takes 2 rasters (green, nir); 0 were given" in refused(InputError, mdive.apply, "ndwi")
    for one, two in ((flat, flat[:, :-1]), (cube[0], flat[:, :-1]), (flat, flat[:1])):
        said = refused(InputError, mdive.apply, "ndwi", one, two)
        assert f"'ndwi' was given rasters of different shapes (y, x): green (20, 30), nir {np.shape(two)}" in said
    assert "rasters of 2 and 3 times" in refused(InputError, mdive.apply, "ndwi", cube.values, cube.values[:2])
    assert "'nir' of operation 'ndwi' is a str" in refused(InputError, mdive.apply, "ndwi", cube, "nir.tif")
    assert "a ndarray of <U1" in refused(InputError, mdive.apply, "ndwi", flat, np.full(flat.shape, "x"))
    said = refused(InputError, mdive.apply, "holes", cube[0], cube[0])
    assert "'holes' cannot work on mask float32 (20, 30), known float32 (20, 30): TypeError" in said
    # Dimensions in another order are no other shape.
    np.testing.assert_array_equal(mdive.apply("ndwi", cube[0], cube[0].T), mdive.apply("ndwi", cube[0], cube[0]))
    assert mdive.apply("ndwi", cube, flat).shape == (3, 20, 30)


def test_hectares_are_counted_in_pixels_that_are_known(cube):
    mask = xr.zeros_like(cube[0], dtype=bool)
    mask[5:15, 5:15] = True  # 100 pixels
    assert int(mdive.apply("sieve", mask, minimum_area=0.9).sum()) == 100
    assert int(mdive.apply("sieve", mask, minimum_area=1.1).sum()) == 0
    half = mask.assign_coords(y=mask.y / 2, x=mask.x / 2)
    assert int(mdive.apply("sieve", half, minimum_area=0.3).sum()) == 0
    assert "not square: 10 in x, 1 in y" in refused(InputError, mdive.apply, "sieve", mask.assign_coords(y=mask.y / 10))
    assert "x does not go in even steps" in refused(InputError, mdive.apply, "sieve", mask.isel(x=[0, 1, 2, 5, 6]))
    assert "no x and y coordinates" in refused(InputError, mdive.apply, "sieve", mask.drop_vars(["x", "y"]))
    assert "which numpy arrays do not tell" in refused(InputError, mdive.apply, "sieve", mask.values)
    # Who counts no metres asks for none.
    assert int(mdive.apply("label", mask.values).max()) == int(mdive.apply("label", mask.isel(x=[0, 1, 2, 5, 6])).max()) == 1


def test_two_crs_are_no_one_grid(cube):
    one, two = (cube.assign_coords(spatial_ref=xr.DataArray(0, attrs={"crs_wkt": f"EPSG:{code}"})) for code in (32633, 32634))
    assert "'nir' of 'ndwi' is in EPSG:32634, the first raster in EPSG:32633" in refused(InputError, mdive.apply, "ndwi", one, two)
    data = xr.Dataset({"vv": one, "vh": two.drop_vars("spatial_ref")})
    data["vh"] = data["vh"].assign_coords(spatial_ref=one.spatial_ref)
    assert "extent" in mdive.apply("flood.sar_threshold", data)
    said = refused(InputError, mdive.apply, "wildfire.dnbr", *(xr.Dataset(dict.fromkeys(("nir", "swir22"), c)) for c in (one, two)))
    assert "EPSG:32634" in said


def test_an_algorithm_takes_datasets(cube):
    for given, told in ((cube, "a DataArray of float32"), (cube.values, "a ndarray of float32"), ("a.tif", "a str")):
        said = refused(InputError, mdive.apply, "flood.sar_threshold", given)
        assert f"'flood.sar_threshold' takes one Dataset per phase; argument 1 is {told}" in said
        assert "Phases in order: post (vv" in said
    words = xr.Dataset({"vv": cube, "vh": cube.astype(str)})
    assert "variable 'vh' is a DataArray of <U32, no raster of numbers" in refused(InputError, mdive.apply, "flood.sar_threshold", words)
    gone = xr.Dataset({"vv": cube, "vh": cube}).drop_vars("x")
    assert "no x and y coordinates" in refused(InputError, mdive.apply, "flood.sar_threshold", gone)


def test_parameters_are_read_strictly(cube, flood):
    data = xr.Dataset({"vv": cube, "vh": cube})
    for given in (True, "0.3", float("nan"), [0.3]):
        said = refused(InputError, mdive.apply, "flood.sar_threshold", data, minimum_mapping_unit=given)
        assert "'minimum_mapping_unit' of 'flood.sar_threshold': Input should be a" in said
        with pytest.raises(InputError, match="minimum_mapping_unit"):
            mdive.plan(flood.event, catalog=flood.catalog, parameters={"minimum_mapping_unit": given})
    assert "'minimum_area' of operation 'sieve'" in refused(InputError, mdive.apply, "sieve", cube > 0.5, minimum_area=-1)
    whole, real = (mdive.plan(flood.event, catalog=flood.catalog, parameters={"minimum_mapping_unit": v}) for v in (1, 1.0))
    assert whole.identity == real.identity


def test_a_parameter_of_no_kind_is_said_once():
    text = "event_class: flood\narea: {bbox: [0, 0, 1, 1]}\nwindow: {start: 2024-01-01, end: 2024-01-02}\nintent: {parameters: {a: %s}}\n"
    for given, shown in (("null", "None"), ("{b: 1}", "{'b': 1}"), ("[1, null]", "[1, None]")):
        said = refused(InputError, load_document, text % given, Event)
        assert f"<text>:4:26: intent.parameters.a: {shown} is no value for a parameter. / Give a number, a text" in said
    event = load_document(text % "[1, 2.5]", Event)
    assert event.intent.parameters == {"a": (1, 2.5)}


# Names of operations


def module_with(name, **operations):
    module = types.ModuleType(name)
    for function, value in operations.items():
        value.__module__ = name
        setattr(module, function, value)
    return module


def make(name):
    def kernel(values, /):
        return values

    kernel.__name__ = kernel.__qualname__ = name
    return operation(Local(), dtype="float32")(kernel)


def test_an_operation_with_two_owners_belongs_to_nobody(monkeypatch, cube):
    strangers = [Plugin("alpha", "alpha-plugin", "1.0"), Plugin("beta", "beta-plugin", "2.0")]
    modules = [
        (module_with("alpha_operations", ndwi=make("ndwi"), shade=make("shade"), mine=make("mine")), strangers[0]),
        (module_with("beta_operations", shade=make("shade")), strangers[1]),
        (module_with("alpha_more", mine=make("mine")), strangers[0]),
    ]
    modules[0][0].other = modules[0][0].ndwi  # a second name of one object is no clash
    known = list(named._modules())
    monkeypatch.setattr(named, "_modules", lambda: iter([*modules, *known]))
    with pytest.raises(PluginError) as caught:
        mdive.apply("ndwi", cube, cube)
    assert "operation 'ndwi' has 2 owners: alpha_operations of alpha-plugin 1.0" in caught.value.message
    assert "mdive.algorithms.optical of mdive " in caught.value.message
    assert caught.value.hint == "Uninstall alpha-plugin, or switch one off with MDIVE_DISABLE_PLUGINS=alpha."
    assert "Uninstall alpha-plugin or beta-plugin" in refused(PluginError, mdive.apply, "shade", cube)
    assert "Report this to the authors of alpha-plugin" in refused(PluginError, mdive.apply, "mine", cube)
    assert not {"ndwi", "shade", "mine"} & set(named.operations())
    assert mdive.apply("ndvi", cube, cube).shape == cube.shape


def test_an_algorithm_with_two_owners_cannot_be_applied(monkeypatch, cube):
    from mdive.plugins import registry as registry_module

    found = registry_module.registry()
    (offer,) = found.offers("algorithm")["flood.sar_threshold"]
    twice = [offer, type(offer)(offer.value, Plugin("alpha", "alpha-plugin", "1.0"))]
    monkeypatch.setitem(found.offers("algorithm"), "flood.sar_threshold", twice)
    assert "has 2 owners" in refused(PluginError, mdive.apply, "flood.sar_threshold", xr.Dataset({"vv": cube, "vh": cube}))
    assert "flood.sar_threshold" not in registry_module.algorithms()


# Plans that nobody could compute


def huge(plan, shape, size):
    return plan.model_copy(update={"grid": plan.grid.model_copy(update={"shape": shape}), "tiling": Tiling(size=size)})


@pytest.mark.parametrize("verb", ["explain", "load", "analyse"])
@pytest.mark.parametrize(
    ("shape", "size", "said"),
    [
        ((10**7, 10**7), 4096, "10000000 x 10000000 pixels; the most is 100,000,000,000"),
        ((10**14, 1), 16, "the most is 100,000,000,000"),
        ((300_000, 300_000), 16, "351,562,500 tiles of 16 pixels; the most is 400,000"),
    ],
)
def test_a_plan_without_measure_is_refused_at_once(plan, monkeypatch, verb, shape, size, said):
    monkeypatch.setattr(Tiles, "__getitem__", lambda *_: pytest.fail("it walks along the tiles"))
    start = time.perf_counter()
    assert said in refused(InputError, getattr(mdive, verb), huge(plan, shape, size))
    assert time.perf_counter() - start < 5


def test_the_largest_grid_is_taken_in_tiles_of_512_pixels():
    check_size((316_227, 316_227), 512)
    check_size((316_227, 316_227))
    with pytest.raises(InputError, match="tiles of 256"):
        check_size((316_227, 316_227), 256)
    with pytest.raises(InputError, match="the most is 100,000,000,000"):
        check_size((316_228, 316_228))
    assert -((-316_227 // 512) ** 2) <= MAX_TILES
