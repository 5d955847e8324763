"""Open water in one radar scene: the pipeline from power to water bodies that radar flood algorithms share."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from scipy.special import logit

from mdive.algorithms.components import holes
from mdive.algorithms.evidence import log_odds, pooled, terrain_odds
from mdive.algorithms.lattice import lattice_histogram
from mdive.algorithms.looks import equivalent_looks
from mdive.algorithms.mosaic import best_observation, cause, first_valid, pick, unreadable
from mdive.algorithms.sar import DECISION_REACH, decibel, median_looks, speckle_median, usable_power, variation, window_mean
from mdive.algorithms.terrain_slope import slope
from mdive.algorithms.threshold import minimum_error_threshold, surface
from mdive.algorithms.water_bodies import darkness_levels, rim_sums, water_bodies
from mdive.algorithms.water_edges import first_guess, only_where, with_rim
from mdive.plugins import Bundle, Fraction, Local, Metres, operation

CO_BOUNDS: Final = (-28.0, -11.0)
CROSS_BOUNDS: Final = (-28.0, -18.0)
"""dB. Thresholds outside separate two kinds of land, not land and water; those of DSWx-S1."""

FALLBACK_SUPPORT: Final = 0.5
"""Below this share of evidence from the scene's own windows the threshold is essentially the published one, and flagged so."""
FALLBACK_SEED: Final = 0.82
"""Least probability of a seed there (log-odds 1.5, about 3 dB below both published thresholds): ploughed fields and sand are as dark as those, and
no second mode says that the scene has anything darker."""
FALLBACK_QUALITY: Final = 0.6
"""What a class is worth at most where the threshold does not come from the scene."""

BARE: Final = 60
"""WorldCover code of bare ground and sparse vegetation."""
DARK_LAND: Final = (-14.6, -22.8)
"""dB. Sand and other smooth bare ground are as dark as water: what is darker over it in VV and in VH is told by neither (DSWx-S1)."""
NEVER_WATER: Final = 5.0
"""Occurrence (%) below which bare ground was hardly ever seen under water (DSWx-S1)."""

POST_REACH: Final = 25.0
"""Metres over which heights are averaged before they have a slope: elevation models of 30 m make facets, or steps, of finer pixels, and each
is as steep as two neighbouring posts differ. Over level ground with 2 m of noise (trees) a tenth of it would pass for too steep for water;
averaged over 50 m it is 0.01 %, as on the posts themselves. Pixels of more than 25 m are left alone."""


class Ground(NamedTuple):
    """Nodes of what is known of the ground whatever the date; None where nobody offers it."""

    hand: Any
    """Height above the nearest drainage in m."""
    occurrence: Any
    """How often water was seen, in percent."""
    slope: Any
    """Degrees."""
    landcover: Any
    """WorldCover codes."""
    lost: Any
    """Where one of the first two was to be had and could not be read."""


def ground_of(static: Bundle) -> Ground:
    """Return what a phase of static bands tells; slope is made from heights where only those are there."""
    hand, occurrence, steepness, height, landcover = (
        None if band is None else first_valid(band)
        for band in (getattr(static, name, None) for name in ("hand", "occurrence", "slope", "dem", "landcover"))
    )
    if steepness is None and height is not None:
        steepness = slope(window_mean(height, reach=POST_REACH, least=0))
    planned = [band for band in (static.hand, static.occurrence) if band is not None]
    lost = unreadable(static.mask, *planned) if planned and static.mask is not None else None
    return Ground(hand, occurrence, steepness, landcover, lost)


class RadarWater(NamedTuple):
    """Nodes of what one scene tells; pairs are of VV and VH."""

    choice: Any
    """Which observation each pixel takes."""
    why: Any
    """Cause of each pixel."""
    means: list[Any]
    """Means over the filter window, linear power."""
    variations: list[Any]
    """Coefficient of variation of power within the filter window."""
    levels: list[tuple[Any, Any, Any, Any]]
    """Threshold, its deviation, and the spread of water and of land in dB."""
    odds: list[Any]
    """Log-odds of water by each polarisation."""
    support: list[Any]
    """How far windows of the scene carry each threshold."""
    looking: list[Any]
    """Looks after the filter of the decision."""
    radar: Any
    """Log-odds of water by both polarisations."""
    evidence: Any
    """The same with what the terrain says against it."""
    water: Any
    """Water bodies, small ones dropped and small holes closed."""
    doubt: Any
    """Where dark land passes for water; None where nobody can tell."""


def radar_water(
    post: Bundle,
    ground: Ground,
    *,
    minimum_mapping_unit: float,
    fallback_vv: float,
    fallback_vh: float,
    seed_probability: float,
    seed_share: float,
    grow_probability: float,
    looks: float | None,
    maximum_hand: float,
) -> RadarWater:
    """Compose the operations that find open water in one scene.

    Parameters
    ----------
    post
        Linear power ``vv`` and ``vh``, and its cause plane.
    ground
        From ``ground_of``.
    minimum_mapping_unit, fallback_vv, fallback_vh, seed_probability, seed_share, grow_probability, looks, maximum_hand
        As in ``flood.sar_threshold``.
    """
    choice = best_observation(post.mask, post.vv, post.vh)
    why = cause(post.mask, choice)
    powers = [usable_power(pick(band, choice), why) for band in (post.vv, post.vh)]
    filtered = [window_mean(power) for power in powers]
    means = [decibel(mean) for mean in filtered]
    around = with_rim(first_guess(*means, fallback_vv=fallback_vv, fallback_vh=fallback_vh))

    variations = [variation(power) for power in powers]
    odds, support, looking, levels = [], [], [], []
    bounds = zip((fallback_vv, fallback_vh), (CO_BOUNDS, CROSS_BOUNDS), strict=True)
    for power, mean, varied, (fallback, (lowest, highest)) in zip(powers, means, variations, bounds, strict=True):
        counts = lattice_histogram(mean, ground.hand, maximum_height=maximum_hand)
        edges = lattice_histogram(only_where(mean, around), ground.hand, maximum_height=maximum_hand)
        nodes = minimum_error_threshold(counts, edges, fallback=fallback, lowest=lowest, highest=highest)
        tau, sigma, below, above, carried = (surface(power, nodes, field=field) for field in ("tau", "sigma", "below", "above", "support"))
        speckle = equivalent_looks(varied, looks=looks)
        odds.append(log_odds(decibel(speckle_median(power)), tau, sigma, below, above))
        support.append(carried)
        looking.append(median_looks(power, speckle))
        levels.append((tau, sigma, below, above))

    radar = smoothed(pooled(*odds, *support))
    evidence = terrain_odds(radar, ground.hand, ground.slope)
    seed, grow, known = (
        likely(evidence, ground.hand, probability=p, maximum_hand=maximum_hand) for p in (seed_probability, grow_probability, 0.0)
    )
    darkness = darkness_levels(*means, known)
    bodies = water_bodies(
        seeds(seed, evidence, *support), grow, darkness, rim_sums(darkness, grow), minimum_area=minimum_mapping_unit, seed_share=seed_share
    )
    water = either(bodies, holes(bodies, known, minimum_area=minimum_mapping_unit))
    told = ground.landcover is not None and ground.occurrence is not None
    doubt = dark_land(*means, ground.landcover, ground.occurrence) if told else None
    return RadarWater(choice, why, filtered, variations, levels, odds, support, looking, radar, evidence, water, doubt)


def smoothed(odds: Any) -> Any:
    """Return log-odds averaged over the window of the decision, twice.

    Two means in a row weigh neighbours 1 2 3 2 1: pixels of detected products are twice finer than what the radar resolves.
    """
    return window_mean(window_mean(odds, reach=DECISION_REACH), reach=DECISION_REACH)


@operation(Local(), dtype="bool")
def dark_land(co: np.ndarray, cross: np.ndarray, landcover: np.ndarray, occurrence: np.ndarray, /) -> np.ndarray:
    """Where bare ground that was never seen under water is as dark as water.

    Parameters
    ----------
    co, cross
        Backscatter in dB of both polarisations, (y, x), NaN where not valid.
    landcover
        WorldCover codes.
    occurrence
        Share of looks with water, in percent; unknown is no evidence of dry land.

    References
    ----------
    OPERA DSWx-S1 algorithm, dark land.
    """
    with np.errstate(invalid="ignore"):
        dark: np.ndarray = (co < DARK_LAND[0]) & (cross < DARK_LAND[1]) & (landcover == BARE) & (occurrence < NEVER_WATER)
    return dark


@operation(Local(), dtype="bool")
def likely(evidence: np.ndarray, hand: np.ndarray | None, /, *, probability: Fraction = 0.5, maximum_hand: Metres = 20.0) -> np.ndarray:
    """Where open water is at least this probable and possible at all.

    Parameters
    ----------
    evidence
        Log-odds of water, (y, x), NaN where not observed.
    hand
        Height above the nearest drainage in m, or None; unknown height rules nothing out.
    probability
        Least probability; 0 asks only for a valid pixel.
    maximum_hand
        Water is not possible above it.

    Returns
    -------
    False where not observed.
    """
    with np.errstate(invalid="ignore"):
        good: np.ndarray = evidence >= logit(probability)
        if hand is not None:
            good = good & ~(hand > maximum_hand)
    return good


@operation(Local(), dtype="bool")
def seeds(seed: np.ndarray, evidence: np.ndarray, co_support: np.ndarray, cross_support: np.ndarray, /) -> np.ndarray:
    """Return the seeds that count: without support by the scene those of ``FALLBACK_SEED`` alone, and the more support, the less it takes.

    Parameters
    ----------
    seed
        Seeds, (y, x) bool.
    evidence
        Log-odds of water, NaN where not observed.
    co_support, cross_support
        How far windows of the scene carry the thresholds; from ``FALLBACK_SUPPORT`` on, every seed counts.
    """
    lacking = 1.0 - np.maximum(co_support, cross_support) / np.float32(FALLBACK_SUPPORT)
    with np.errstate(invalid="ignore"):
        sure: np.ndarray = (lacking <= 0.0) | (evidence >= np.float32(logit(FALLBACK_SEED)) * lacking)
    counted: np.ndarray = seed & sure
    return counted


@operation(Local(), dtype="bool")
def either(a: np.ndarray, b: np.ndarray, /) -> np.ndarray:
    """Where one of two masks is true."""
    out: np.ndarray = a | b
    return out
