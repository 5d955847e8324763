"""Plugins that are broken on purpose: each mistake is caught by the check that is named after it, and none takes the others along."""

import re
import sys
import textwrap

import pytest

from mdive.errors import UsageError
from mdive.plugins.registry import registry
from mdive.testing import check_plugin, run_checks

GOOD = '''
from typing import Annotated
import numpy as np
from pydantic import Field
from mdive.plugins import *
from mdive.plugins import QC_FLAGS, UNOBSERVED, ClassEntry, FlagEntry, hookimpl

mdive_api = 1
EXTENT = RasterSpec(name="extent", long_name="Bright ground", dtype="uint8", nodata=255, classes=(
    ClassEntry(value=0, name="dark", role="background", title="Dark", color="#000000"),
    ClassEntry(value=1, name="bright", role="event", title="Bright", color="#ffffff"),
    ClassEntry(value=255, name="fill", role="unobserved", title="Not observed", color="#777777"),
))
QC = RasterSpec(name="qc", long_name="Quality", dtype="uint16", nodata=None,
    flags=tuple(FlagEntry(mask=m, name=n) for n, m in QC_FLAGS.items()))
Share = Annotated[float, Field(ge=0, le=1, description="reflectance as a share")]


@operation(Local(), dtype="float32", over_time=True)
def seen(green: np.ndarray, mask: np.ndarray, /) -> np.ndarray:
    """Return the brightness of the first scene, NaN where it was not seen."""
    return np.where((mask[0] & UNOBSERVED != 0) | ~np.isfinite(green[0]), np.nan, green[0])


@operation(Focal(1), dtype="float32")
def smooth(values: np.ndarray, /) -> np.ndarray:
    """Return the mean of a pixel and those beside it."""
    wide = np.pad(values, 1, constant_values=np.nan)
    return (wide[1:-1, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 3


@operation(Local(), dtype="uint8")
def classify(values: np.ndarray, /, *, threshold: Share = 0.07) -> np.ndarray:
    """Return the class."""
    return np.where(np.isnan(values), 255, np.where(values > threshold, 1, 0))


@operation(Local(), dtype="uint16", over_time=True)
def why(mask: np.ndarray, extent: np.ndarray, /) -> np.ndarray:
    """Return the reason of each pixel without a class."""
    bits = np.where(extent == 255, mask[0], 0)
    return np.where((extent == 255) & (bits == 0), QC_FLAGS["nodata"], bits)


@algorithm("toy.bright", version="1.0.0", needs={"post": ("green",)}, sensor="optical", outputs=(EXTENT, QC))
def bright(post: Bundle, /, *, threshold: Share = 0.07):
    """Bright ground.

    Parameters
    ----------
    threshold
        From which brightness ground is bright.
    """
    extent = classify(smooth(seen(post.green, post.mask)), threshold=threshold)
    return {"extent": extent, "qc": why(post.mask, extent)}


@hookimpl
def mdive_algorithms():
    return [bright]
'''

SLOW = {"chunks_change_nothing", "declared_equals_computed", "lazy_stays_lazy", "order_changes_nothing", "same_in_another_process"}

MISTAKES = {
    "wrong dtype of a product": (
        'dtype="uint8", nodata=255, classes',
        'dtype="int16", nodata=255, classes',
        "declared_equals_computed",
        r"'toy.bright': int16.*dtype uint8",
    ),
    "wrong dtype of a kernel": (
        "np.where(np.isnan(values), 255, np.where(values > threshold, 1, 0))",
        "np.where(np.isnan(values), 255, np.where(values > threshold, 1.5, 0.0))",
        "kernels_keep_their_dtype",
        r"'classify'.*1\.5 becomes 1",
    ),
    "too small a halo": (
        "wide = np.pad(values, 1, constant_values=np.nan)\n    return (wide[1:-1, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 3",
        "wide = np.pad(values, 3, constant_values=np.nan)\n    return (wide[3:-3, 3:-3] + wide[3:-3, :-6] + wide[3:-3, 6:]) / 3",
        "halo_is_enough",
        r"'smooth'.*Focal\(1\).*1 around row",
    ),
    "too large a halo": ("Focal(1)", "Focal(4)", "halo_is_tight", r"'smooth'.*looks 4 pixels far.*farthest that did was 1.*Focal\(1\)"),
    "mutating": (
        "    return np.where(np.isnan(values), 255, np.where(values > threshold, 1, 0))",
        "    values[np.isnan(values)] = -1\n    return np.where(values < 0, 255, np.where(values > threshold, 1, 0))",
        "inputs_unchanged",
        r"'classify'.*wrote to the block of 'smooth'",
    ),
    "raising": (
        '    """Return the class."""\n',
        '    """Return the class."""\n    if np.isnan(values).all():\n        raise ValueError("no data")\n',
        "computes",
        r"on rasters 'silent': ValueError: no data \(toy_plugin_module.py, line \d+, in classify\)",
    ),
    "a counter": (
        '    """Return the class."""\n',
        '    """Return the class."""\n    classify.calls = getattr(classify, "calls", 0) + 1\n    threshold = 0.05 + 0.05 * (classify.calls * 0.618 % 1)\n',
        "deterministic",
        r"second time.*'extent' differs",
    ),
    "random numbers": ("/ 3", "/ 3 + np.random.default_rng().normal(0, 0.01, values.shape)", "deterministic", r"'extent' differs"),
    "the hash seed": (
        "threshold=threshold)\n    return",
        "threshold=min(1.0, threshold + (hash('toy') % 7) / 100))\n    return",
        "same_in_another_process",
        "another one there",
    ),
    "nodata as class 0": ("nodata=255, classes", "nodata=0, classes", "class_table", r"nodata 0.0 is a class of role 'background'"),
    "no data, so no event": ("np.where(np.isnan(values), 255,", "np.where(np.isnan(values), 0,", "nodata_stays_nodata", "classes.*'dark'"),
    "silent without a reason": (
        "    return np.where((extent == 255) & (bits == 0), QC_FLAGS",
        "    return bits\n    return np.where((extent == 255) & (bits == 0), QC_FLAGS",
        "silence_has_a_reason",
        "qc 0",
    ),
    "an undocumented parameter": (
        "    threshold\n        From which brightness ground is bright.\n",
        "",
        "parameters_documented",
        "'threshold'.*no words about it",
    ),
    "a parameter without a unit": ('description="reflectance as a share"', 'description="brightness"', "parameters_documented", "no unit"),
    "a parameter without limits": (
        'Field(ge=0, le=1, description="reflectance as a share")',
        'Field(description="share")',
        "parameters_documented",
        "without limits",
    ),
    "a default out of range": ("*, threshold: Share = 0.07):", "*, threshold: Share = 7):", "parameters_checked", "default.*is 7"),
    "unpicklable": (
        "@algorithm(",
        (
            "classify = (lambda inner: inner)(operation(Local(), dtype='uint8')(lambda values, /, *, threshold=0.07: "
            "np.where(np.isnan(values), 255, np.where(values > threshold, 1, 0))))\n\n\n@algorithm("
        ),
        "pickles",
        "Define it at the top of a module",
    ),
    "normalised by the block": (
        "np.where(values > threshold, 1, 0)",
        "np.where(values > threshold * np.max(values, where=np.isfinite(values), initial=1e-6) * 5, 1, 0)",
        "tiles_change_nothing",
        r"first operation that differs is toy_plugin_module:classify \(local\)",
    ),
    "a sum of floats": (
        "@algorithm(",
        (
            "@operation(Reduction(merge=add, finish=lambda total: {'sum': total}), dtype='float64')\ndef total(values, /):\n"
            "    return np.nansum(np.clip(values, 0, 1), dtype='float32')\n\n\n"
            "@operation(Local(), dtype='float32')\ndef less(values, state, /):\n    return values - 0 * state['sum']\n\n\n@algorithm("
        ),
        "parts_merge_exactly",
        "'total'.*another total",
    ),
    "memory": (
        "/ 3",
        "/ 3 + 0 * np.stack([values.astype('float64')] * 20).sum(axis=0)",
        "cost_declared",
        r"explain counts \d+ bytes.*'smooth'.*Declare @operation\(..., working=\d+\)",
    ),
    "a number beyond the table": ("values > threshold, 1, 0", "values > threshold, 2, 0", "values_declared", "none of its classes"),
    "a misnamed phase": ("def bright(post: Bundle, /", "def bright(now: Bundle, /", "declaration", r"phases \('now',\)"),
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Installs packages into a folder in front of ``sys.path``, and takes them away again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = []

    def install(package, body):
        module = package.replace("-", "_") + "_module"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(body))
        info = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mdive]\n{package} = {module}\n")
        modules.append(module)
        registry(refresh=True)

    yield install
    monkeypatch.undo()
    for module in modules:
        sys.modules.pop(module, None)
    registry(refresh=True)


def failed(name, wanted):
    """Run the quick checks of a plugin and the one that is wanted; return what failed, by name of the check."""
    checks = [c for c in check_plugin(name, tilings=1) if c.name not in SLOW - {wanted}]
    return {o.check.name: o.text for o in run_checks(checks) if o.status == "failed"}


def mistaken(kind):
    good, bad, _, _ = MISTAKES[kind]
    assert good in GOOD
    body = GOOD.replace(good, bad)
    if kind == "a misnamed phase":
        body = body.replace('needs={"post"', 'needs={"now"').replace("post.", "now.")
    if kind == "a sum of floats":
        body = body.replace(
            "classify(smooth(seen(post.green, post.mask))",
            "classify(less(smooth(seen(post.green, post.mask)), total(seen(post.green, post.mask)))",
        )
    return body


def test_without_a_mistake_every_check_passes(site):
    site("toy-plugin", GOOD)
    outcomes = run_checks(check_plugin("toy-plugin", tilings=1))
    assert [str(o) for o in outcomes if o.status == "failed"] == []
    assert {o.check.name for o in outcomes if o.status == "skipped"} <= {"parts_merge_exactly"}


CONSEQUENCES = {
    "wrong dtype of a product": {"values_declared"},
    "too small a halo": {"tiles_change_nothing"},
    "normalised by the block": {"halo_is_enough"},
    "random numbers": {"cost_declared"},
    "a default out of range": {"computes"},
}
"""Checks that have to fail with the one that is named after a mistake."""


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_caught_by_the_check_of_its_name(site, kind):
    site("toy-plugin", mistaken(kind))
    _, _, name, text = MISTAKES[kind]
    found = failed("toy-plugin", name)
    assert name in found
    assert re.search(text, found[name].replace("\n", " ")), found[name]
    assert "broke" not in "".join(found.values())
    assert set(found) <= {name} | CONSEQUENCES.get(kind, set()), found


def test_a_plugin_that_cannot_be_imported_is_named_and_takes_nobody_along(site):
    site("toy-plugin", GOOD)
    site("lost-plugin", "import a_library_that_is_not_there\n")
    found = {o.check.id: o for o in run_checks(check_plugin("lost-plugin"))}
    assert found["lost-plugin::plugin_loads"].status == "failed"
    assert "No module named 'a_library_that_is_not_there'" in found["lost-plugin::plugin_loads"].text
    assert set(found) == {"lost-plugin::plugin_loads", "lost-plugin::names_are_its_own"}
    others = [c for c in check_plugin("toy-plugin") if c.name in {"plugin_loads", "declaration", "computes"}]
    assert [o.status for o in run_checks(others)] == ["passed"] * 3


def test_a_name_that_somebody_else_has_is_told(site):
    site("toy-plugin", GOOD)
    site("copy-plugin", GOOD)
    found = {o.check.name: o for o in run_checks(check_plugin("copy-plugin"))}
    assert found["names_are_its_own"].status == "failed"
    assert "toy-plugin" in found["names_are_its_own"].text


def test_an_event_class_has_to_be_served(site, tmp_path):
    (tmp_path / "glare.yaml").write_text(
        "id: glare\ntitle: Glare\ndescription: It glares.\nneeds: [{any_of: [sar], phase: post}]\nbaseline: {before: P1D}\n"
        "recipe: [{algorithm: toy.bright}]\nproducts: [extent, depth]\nlimits: {}\n"
        "significance: {min_area_ha: 1.0, min_share: 0.1}\ndefault_resolution: 10\n"
    )
    hook = "\n\n@hookimpl\ndef mdive_event_classes():\n    from pathlib import Path\n    return [Path(__file__).with_name('glare.yaml')]\n"
    site("toy-plugin", GOOD + hook)
    (check,) = [c for c in check_plugin("toy-plugin") if c.name == "event_class_works"]
    (outcome,) = run_checks([check])
    assert outcome.status == "failed"
    assert "works on optical; the class needs ['sar']" in outcome.text


def test_a_plugin_that_is_not_there_is_a_mistake_of_the_user():
    with pytest.raises(UsageError, match="no plugin 'builtinn' is installed here. Did you mean 'builtin'"):
        list(check_plugin("builtinn"))
