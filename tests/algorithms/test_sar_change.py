"""Tests of change between radar scenes of one geometry: known quantiles, fields of constant mean, flooded references, any chunks."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, fdtrc, stdtr

from mdive.algorithms.evidence import MISLED
from mdive.algorithms.harmonic import LEAST_SCENES, phases, season, year_phase
from mdive.algorithms.sar import variation, window_mean
from mdive.algorithms.sar_change import (
    FILTERED_LOOKS,
    change_deviation,
    change_odds,
    critical_drop,
    filtered_looks,
    filtered_variation,
    pairs_of,
    reference,
)
from mdive.algorithms.uncertainty import decibel_std
from mdive.errors import InputError
from mdive.model.plan import Grid
from mdive.plugins import Bundle

HERE = np.zeros((1, 1), "int16")


def looks(number):
    return {"looks": np.array([number])}


def looks_of(scene):
    """Looks of a filtered scene, by patches of windows and of pixels."""
    return float(filtered_looks(filtered_variation(window_mean(scene)), variation(scene))["looks"][0])


def power(db):
    return (10.0 ** (np.asarray(db, dtype="float64") / 10)).astype("float32")


def stack_of(*db):
    return power(db).reshape(-1, 1, 1)


def odds(after, level, spread, count, one=30.0, other=30.0, **parameters):
    arrays = (np.atleast_2d(np.asarray(v, dtype="float32")) for v in (power(after), level, spread, count))
    return change_odds(*arrays, looks(one), looks(other), **parameters)


def probability(log_odds):
    """The probability that bounded log-odds were made of."""
    return (expit(np.asarray(log_odds, dtype="float64")) - MISLED / 2) / (1 - MISLED)


# Closed forms


@pytest.mark.parametrize(
    ("of", "drops"),
    [(4.4, (5.09, 7.38, 10.19)), (30.0, (1.86, 2.64, 3.53)), (60.0, (1.31, 1.86, 2.47)), (100.0, (1.01, 1.43, 1.91))],
)
def test_critical_drops_of_the_ratio_of_two_speckled_powers(of, drops):
    """One-sided 5, 1 and 0.1 %, as published for these looks."""
    for drop, share in zip(drops, (0.05, 0.01, 0.001), strict=True):
        got = critical_drop(2 * of, 2 * of, -stats.norm.ppf(share))
        assert got == pytest.approx(drop, abs=0.005)
        assert got == pytest.approx(-10 * np.log10(stats.f.ppf(share, 2 * of, 2 * of)), abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("drop", [-2.0, 0.0, 3.0, 4.5, 12.0])
def test_few_references_are_tested_by_the_ratio_of_powers(n, drop):
    got = probability(odds(-12.0 - drop, -12.0, np.nan, n, one=20.0, other=25.0))
    least = max(3.0, -10 * np.log10(stats.f.ppf(stats.norm.sf(2.5), 40.0, 50.0 * n)))
    assert got[0, 0] == pytest.approx(stats.f.sf(10 ** ((least - drop) / 10), 40.0, 50.0 * n), abs=2e-6)


@pytest.mark.parametrize(("n", "spread"), [(5, 0.4), (5, 3.0), (8, 1.5), (40, 2.0)])
@pytest.mark.parametrize("drop", [-2.0, 0.0, 4.0, 12.0])
def test_a_stack_is_tested_by_student(n, spread, drop):
    got = probability(odds(-12.0 - drop, -12.0, spread, n))
    sigma = spread * np.sqrt(1 + 1 / n)
    assert got[0, 0] == pytest.approx(stats.t.cdf((drop - max(3.0, 2.5 * sigma)) / sigma, n - 1), abs=2e-6)


def test_a_fall_of_just_the_least_change_is_as_likely_as_not_and_a_rise_is_its_mirror():
    assert odds(-20.0, -10.0, 4.0 / np.sqrt(1.2), 5, deviations=2.5)[0, 0] == pytest.approx(0.0, abs=1e-5)
    for n in (1, 6):
        fall = odds(-16.0, -10.0, 1.0, n)
        rise = odds(-10.0, -16.0, 1.0, n, rise=True)
        assert fall[0, 0] > 2
        np.testing.assert_allclose(rise, fall, rtol=1e-3 if n == 1 else 1e-6)


def test_what_is_not_known_stays_so():
    nan = np.nan
    got = odds([nan, -10, -10, -10], [-10, nan, nan, -10], [1, nan, nan, 0.0], [6, 0, 6, 6])
    assert np.isnan(got[0, :3]).all()
    assert got[0, 3] < -2.9  # references that are all equal: the least change decides
    assert np.isnan(change_deviation(*(np.full((1, 1), v) for v in (0.1, nan, 0.0)), looks(30), looks(30)))


def test_the_deviation_of_no_change():
    def of(spread, count):
        return change_deviation(*(np.full((1, 1), v, "float32") for v in (0.1, spread, count)), looks(20), looks(30))[0, 0]

    assert of(1.5, 6) == pytest.approx(1.5 * np.sqrt(7 / 6), rel=1e-6)
    assert of(np.nan, 2) == pytest.approx(np.hypot(decibel_std(20), decibel_std(60)), rel=1e-6)


@pytest.mark.parametrize("kernel", [lambda x: fdtrc(60.0, 120.0, x), lambda x: stdtr(4.0, x), lambda x: stdtr(np.full_like(x, 7.0), x)])
def test_distribution_functions_give_equal_bits_on_any_slice(kernel):
    """They are not among the functions that chunks are known to leave alone, so it is seen here."""
    values = np.random.default_rng(0).normal(0.6, 0.8, (97, 61))
    whole = kernel(values)
    for cut in (np.s_[3:40:2, ::3], np.s_[::-1, 5:], np.s_[:, 7:8]):
        np.testing.assert_array_equal(kernel(values[cut]), whole[cut])
        np.testing.assert_array_equal(kernel(np.ascontiguousarray(values[cut])), whole[cut])
    np.testing.assert_array_equal(kernel(np.asfortranarray(values)), whole)


# References


def test_references_are_counted_per_pixel_and_averaged_in_power_or_decibels():
    db = np.array([[-10.0, -12.0, np.nan, -11.0, -9.0, -10.0, -13.0]]).T.reshape(7, 1, 1)
    assert reference(power(db), HERE, field="count")[0, 0] == 6
    known = db[np.isfinite(db)]
    assert reference(power(db), HERE)[0, 0] == pytest.approx(known.mean(), abs=1e-5)
    assert reference(power(db), HERE, field="spread")[0, 0] == pytest.approx(known.std(ddof=1), abs=1e-5)
    assert reference(power(db), HERE, field="mean")[0, 0] == pytest.approx(10 * np.log10((10 ** (known / 10)).mean()), abs=1e-5)
    few = reference(power(db[:3]), HERE)[0, 0]
    assert few == pytest.approx(10 * np.log10((10**-1.0 + 10**-1.2) / 2), abs=1e-5)
    assert np.isnan(reference(power(db[:3]), HERE, field="spread")[0, 0])
    assert reference(power(db[2:3]), HERE, field="count")[0, 0] == 0
    assert np.isnan(reference(power(db[2:3]), HERE)[0, 0])
    assert reference(power(db), np.full((1, 1), -1, "int16"), field="count")[0, 0] == 0


def test_the_level_has_no_bias_of_averaged_decibels_against_the_scene_that_it_is_compared_with(speckle):
    """A field of constant mean: few references are averaged in power, many and the scene itself are both decibels of filtered power."""
    field = np.full((120, 120), 0.1)
    scenes = [window_mean(speckle(field, seed=k)) for k in range(9)]
    after = scenes.pop()
    choice = np.zeros(field.shape, "int16")
    for n in (1, 4, 8):
        level = reference(np.stack(scenes[:n]), choice)
        assert np.nanmean(10 * np.log10(after) - level) == pytest.approx(0.0, abs=0.06)


def test_references_that_are_flooded_themselves_are_none():
    flooded = stack_of(-10, -10.5, -20, -9.5, -10, -21, -10)
    assert reference(flooded, HERE, field="count")[0, 0] == 5
    assert reference(flooded, HERE)[0, 0] == pytest.approx(-10, abs=1e-5)
    lake = stack_of(-20, -19, -20, -10, -21, -20)
    assert reference(lake, HERE, field="count")[0, 0] == 6
    one_of_two = stack_of(-10, -20)
    assert reference(one_of_two, HERE, field="count")[0, 0] == 2
    dry_out = stack_of(-8, -12.5, -9, -8.5, -12)  # a fall, but not as dark as water
    assert reference(dry_out, HERE, field="count")[0, 0] == 5


def test_only_references_of_the_geometry_of_the_chosen_scene_count():
    pre = Bundle(geometry=[(15, "ascending"), (22, "descending"), (15, None), (15, "ascending")])
    post = Bundle(geometry=[(22, "descending"), (15, "ascending")])
    pairs = pairs_of(pre, post)
    assert pairs == [[False, True, False, False], [True, False, True, True]]
    choice = np.array([[0, 1, -1]], "int16")
    stack = np.broadcast_to(stack_of(-8, -14, -9, -10), (4, 1, 3))
    assert reference(stack, choice, pairs=pairs, field="count").tolist() == [[1, 3, 0]]
    assert reference(stack, choice, pairs=pairs)[0, 0] == pytest.approx(-14, abs=1e-5)


@pytest.mark.parametrize("other", [(22, "ascending"), (15, "descending"), (22, None)])
def test_mixing_geometries_raises(other):
    with pytest.raises(InputError, match=f"relative orbit {other[0]}.*relative orbit 15 ascending"):
        pairs_of(Bundle(geometry=[(15, "ascending"), other]), Bundle(geometry=[(15, "ascending")]))


def test_what_nobody_told_is_taken_as_one_geometry():
    assert pairs_of(Bundle(), Bundle(geometry=[(15, "ascending")])) is None
    assert pairs_of(Bundle(geometry=[(None, "ascending")]), Bundle(geometry=[(15, "ascending")])) == [[True]]


# Looks


@pytest.mark.parametrize("of", [1.0, 4.4, 12.0])
def test_looks_after_filtering_are_those_of_the_filtered_scene(speckle, of):
    """Means over 25 independent pixels have 25 times the looks; the windows that are compared do not overlap."""
    scene = speckle(np.full((300, 300), 0.1), looks=of)
    even, got = window_mean(scene), looks_of(scene)
    assert got == pytest.approx(25 * of, rel=0.15)
    independent = even[2::5, 2::5]
    assert got == pytest.approx(independent.mean() ** 2 / independent.var(), rel=0.2)


def test_correlated_speckle_has_fewer_looks_after_filtering(speckle):
    single = speckle(np.full((300, 300), 0.1))
    pairwise = np.repeat(np.repeat(single[:150, :150], 2, axis=0), 2, axis=1)
    got = [looks_of(s) for s in (single, pairwise)]
    assert got[1] < 0.45 * got[0]


def test_fields_that_change_from_window_to_window_are_no_speckle(speckle):
    """Pixels of 100 m: no three windows lie on one field, but a filter never leaves fewer looks than a pixel has."""
    fields = np.kron(np.random.default_rng(2).uniform(0.03, 0.3, (50, 50)), np.ones((5, 5)))
    coarse = Grid(crs="EPSG:32631", resolution=100.0, x0=0.0, y0=0.0, shape=fields.shape)
    scene = speckle(fields, looks=60.0)
    patches = filtered_variation.kernel(window_mean.kernel(scene, grid=coarse), grid=coarse)
    known = np.full((1, 1), np.nan, "float32"), variation.kernel(scene, grid=coarse)
    alone, told = (filtered_looks.locality.finish(filtered_looks.kernel(patches, pixels), grid=coarse)["looks"][0] for pixels in known)
    assert alone < 10.0
    assert told > 40.0


def test_the_test_is_as_often_wrong_as_it_says(speckle):
    """Nothing changes, and a ratio falls below its critical value as often as the normal deviate says."""
    scene = speckle(np.full((400, 400), 0.1), seed=6)
    one, other, of = window_mean(speckle(np.full((400, 400), 0.1), seed=5)), window_mean(scene), looks_of(scene)
    fell = 10 * np.log10(other / one) > critical_drop(2 * of, 2 * of, 1.645)
    assert fell.mean() == pytest.approx(0.05, abs=0.02)


def test_a_scene_without_a_patch_gets_the_usual_looks():
    assert looks_of(np.full((40, 40), np.nan, "float32")) == FILTERED_LOOKS


# The year


def test_the_year_is_a_whole_one_in_leap_years_too():
    assert year_phase(datetime(2023, 1, 1, tzinfo=UTC)) == year_phase(datetime(2024, 1, 1, tzinfo=UTC)) == 0.0
    assert year_phase(datetime(2023, 7, 2, 12, tzinfo=UTC)) == pytest.approx(0.5)
    assert year_phase(datetime(2024, 7, 2, tzinfo=UTC)) == pytest.approx(0.5)
    last = [year_phase(datetime(y, 12, 31, 23, 59, 59, tzinfo=UTC)) for y in (2023, 2024)]
    assert max(last) < 1.0
    assert last == pytest.approx([1.0, 1.0], abs=1e-7)
    days = np.diff(phases([datetime(2024, 2, d, tzinfo=UTC) for d in (27, 28, 29)] + [datetime(2024, 3, 1, tzinfo=UTC)]))
    np.testing.assert_allclose(days, 1 / 366, rtol=1e-6)


def moments(n, seed=0):
    return sorted(np.random.default_rng(seed).uniform(0, 1, n).tolist())


def test_the_season_is_the_least_squares_fit():
    before, after = moments(50), [0.37]
    t = 2 * np.pi * np.array(before)
    rng = np.random.default_rng(4)
    db = (-11 + 2 * np.sin(t) - np.cos(2 * t) + 0.7 * np.sin(3 * t) + rng.normal(0, 0.5, 50)).astype("float32")
    db[[4, 9, 30]] = np.nan
    good = np.isfinite(db)

    def design(x):
        x = 2 * np.pi * np.atleast_1d(x)[:, None]
        return np.hstack([np.ones_like(x), *(f(k * x) for f in (np.sin, np.cos) for k in (1, 2, 3))])

    found, residual, *_ = np.linalg.lstsq(design(np.array(before)[good]), db[good].astype("float64"), rcond=None)
    stack = db.reshape(-1, 1, 1)
    limits = {"before": before, "after": after}
    assert season(stack, HERE, **limits)[0, 0] == pytest.approx((design(after) @ found).item(), abs=1e-5)
    assert season(stack, HERE, **limits, field="deviation")[0, 0] == pytest.approx(np.sqrt(residual[0] / (good.sum() - 7)), abs=1e-5)
    assert season(stack, HERE, **limits, field="count")[0, 0] == good.sum()


def test_a_year_that_is_hardly_seen_has_no_model():
    rng = np.random.default_rng(0)
    enough = rng.normal(-10, 1, (LEAST_SCENES, 1, 1)).astype("float32")
    assert np.isfinite(season(enough, HERE, before=moments(LEAST_SCENES), after=[0.1]))
    assert np.isnan(season(enough[1:], HERE, before=moments(LEAST_SCENES)[1:], after=[0.1]))
    one_month = [0.5 + 0.08 * p for p in moments(LEAST_SCENES)]
    assert np.isnan(season(enough, HERE, before=one_month, after=[0.1]))


# Exactness


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_operations_do_not_see_chunks(tiled, data):
    """Float and integer, flat, noisy and with holes: the same bits on any rows and columns."""
    from mdive.pipeline import Tiles

    rows, cols, times = 23, 17, data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    kind = data.draw(st.sampled_from(["noise", "flat", "whole"]))
    stack = {"noise": rng.gamma(4.4, 0.02, (times, rows, cols)), "flat": np.full((times, rows, cols), 0.1)}.get(
        kind, rng.integers(1, 4, (times, rows, cols))
    )
    stack = stack.astype("float32")
    stack[rng.random(stack.shape) < data.draw(st.sampled_from([0.0, 0.2, 1.0]))] = np.nan
    choice = rng.integers(-1, 2, (rows, cols)).astype("int16")
    edges = [data.draw(st.sets(st.integers(1, n - 1), max_size=4).map(lambda s, n=n: (0, *sorted(s), n))) for n in (rows, cols)]
    pairs = rng.random((2, times)) < 0.7
    for run in (
        lambda **t: tiled(reference, stack, choice, pairs=pairs.tolist(), field="level", **t),
        lambda **t: tiled(reference, stack, choice, pairs=pairs.tolist(), field="spread", **t),
        lambda **t: tiled(filtered_variation, stack[0], resolution=25.0, **t),
    ):
        np.testing.assert_array_equal(run(tiles=Tiles(*edges)), run())
