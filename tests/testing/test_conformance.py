"""mdive's own algorithms and operations pass the checks that plugins are asked to pass; and the kit itself keeps its word."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from mdive.errors import PluginError, UsageError
from mdive.pipeline import Focal, Local, operation
from mdive.plugins import algorithms
from mdive.testing import CheckFailed, NotChecked, check_algorithm, check_plugin, parametrize_checks, parametrize_plugin, run_checks

KNOWN: dict[str, str] = {
    "flood.optical_index::nodata_stays_nodata": "the five tests are a diagnostic layer, given under clouds as well: so is that of DSWx-HLS",
}
"""Checks that mdive's own things fail, and why."""


@parametrize_plugin("builtin", tilings=1, expected_failures=KNOWN)
def test_what_comes_with_mdive_keeps_its_promises(check):
    check()


def test_every_algorithm_is_there():
    subjects = {c.subject for c in check_plugin("mdive")}
    assert set(algorithms()) <= subjects
    assert {"ndvi", "label"} <= subjects


# The kit --------------------------------------------------------------------------------------------------------------------------------


@operation(Local(), dtype="float32")
def stretched(values: np.ndarray, /) -> np.ndarray:
    """Return values from 0 to 1, by the largest of them: wrong, because the largest of a block is meant."""
    return values / np.max(values, where=np.isfinite(values), initial=1e-6)


@operation(Focal(2), dtype="float32")
def far(values: np.ndarray, /) -> np.ndarray:
    """Return the pixel two rows above."""
    return np.pad(values, ((2, 0), (0, 0)), constant_values=np.nan)[:-2]


def by_name(outcomes):
    return {o.check.name: o for o in outcomes}


def test_expected_failures_are_strict():
    reason = "the largest value of a block; ours to mend"
    wrong = {"tiles_change_nothing": reason, "chunks_change_nothing": reason, "halo_is_enough": reason, "computes": "it does compute"}
    found = by_name(run_checks(check_algorithm(stretched, expected_failures=wrong)))
    assert {n for n, o in found.items() if o.status == "expected"} == set(wrong) - {"computes"}
    assert found["computes"].status == "failed"
    assert "Take it out of expected_failures" in found["computes"].text


def test_an_expected_failure_needs_a_check_and_a_reason():
    with pytest.raises(UsageError, match="no check 'tiles_change_nothin' to fail. Did you mean 'tiles_change_nothing'"):
        list(check_algorithm(stretched, expected_failures={"tiles_change_nothin": "x"}))
    with pytest.raises(UsageError, match="has no reason"):
        list(check_algorithm(stretched, expected_failures={"computes": " "}))


def test_a_failure_says_what_was_declared_what_was_seen_and_what_to_do():
    (check,) = [c for c in check_algorithm(stretched) if c.name == "tiles_change_nothing"]
    with pytest.raises(CheckFailed) as caught:
        check()
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["declared", "seen", "to do"]
    assert "(seed 0)" in lines[1]
    assert f"{__name__}:stretched (local)" in lines[1]


def test_rasters_can_be_given():
    small = xr.DataArray(np.arange(120.0, dtype="float32").reshape(10, 12), dims=("y", "x"))
    found = by_name(run_checks(check_algorithm(far, data=[small])))
    assert {n for n, o in found.items() if o.status == "failed"} == set()
    # On a field of one number nothing can be learned of how far it looks.
    flat = by_name(run_checks(check_algorithm(far, data=[small * 0 + 1])))
    assert flat["halo_is_tight"].status in {"skipped", "passed"}


def test_what_nobody_can_guess_is_skipped_with_a_reason():
    @operation(Local(), dtype="float32")
    def odd(strange: np.ndarray, /) -> np.ndarray:
        """Return it."""
        return strange

    (check,) = [c for c in check_algorithm(odd) if c.name == "computes"]
    with pytest.raises(NotChecked, match="nobody knows what the raster 'strange' of operation 'odd' holds: give data="):
        check()


def test_what_is_no_algorithm_is_refused():
    with pytest.raises(UsageError, match="neither an algorithm nor an operation"):
        check_algorithm(len)
    with pytest.raises(PluginError, match="ndvj"):
        check_algorithm("ndvj")


def test_the_decorator_makes_one_test_of_each_check():
    mark = parametrize_checks("ndvi", expected_failures={"computes": "to show it"}).mark
    names = [p.id for p in mark.args[1]]
    assert names == [c.id for c in check_algorithm("ndvi")]
    (known,) = [p for p in mark.args[1] if p.marks]
    assert known.id == "ndvi::computes"
    assert known.marks[0].kwargs["strict"] is True


# pytest --mdive-plugin --------------------------------------------------------------------------------------------------------------------


def ask(folder, *options):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_option_runs_the_kit_and_nothing_else(tmp_path):
    (tmp_path / "test_other.py").write_text("def test_other():\n    assert False\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmdive_expected_failures =\n    ndvi::declaration = to show that it is strict\n")
    done = ask(tmp_path, "-q", "--mdive-plugin", "builtin", "-k", "ndvi and (declaration or parameters)")
    assert done.returncode == 1, done.stdout
    assert "2 passed" in done.stdout
    assert "[XPASS(strict)] to show that it is strict" in done.stdout
    assert "test_other" not in done.stdout


def test_without_the_option_nothing_is_imported(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import sys\n\n\ndef test_it():\n    assert 'mdive.pipeline' not in sys.modules and 'xarray' not in sys.modules\n"
    )
    done = ask(tmp_path, "-q")
    assert done.returncode == 0, done.stdout


def test_an_unknown_plugin_is_a_mistake_of_the_user_in_two_lines(tmp_path):
    done = ask(tmp_path, "--mdive-plugin", "nosuch")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in done.stderr.splitlines() if line]
    assert lines[0] == "ERROR: no plugin 'nosuch' is installed here."
    assert len(lines) == 2
    assert lines[1].startswith("Installed: mdive ")


def test_an_expected_failure_of_no_check_is_a_mistake_of_the_user(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nmdive_expected_failures =\n    ndvi::nosuch = never\n")
    done = ask(tmp_path, "--mdive-plugin", "builtin")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "names checks that there are not: ndvi::nosuch" in done.stdout + done.stderr
