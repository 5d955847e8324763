"""Open water in one radar scene: the pipeline from power to water bodies that radar flood algorithms share."""

from __future__ import annotations

from typing import Any, NamedTuple

from mdive.algorithms.components import holes
from mdive.algorithms.evidence import log_odds, pooled, terrain_odds
from mdive.algorithms.flood_sar_threshold import CO_BOUNDS, CROSS_BOUNDS, either, likely
from mdive.algorithms.lattice import lattice_histogram
from mdive.algorithms.looks import equivalent_looks
from mdive.algorithms.mosaic import best_observation, cause, pick
from mdive.algorithms.sar import DECISION_REACH, decibel, median_looks, speckle_median, usable_power, variation, window_mean
from mdive.algorithms.threshold import minimum_error_threshold, surface
from mdive.algorithms.water_bodies import darkness_levels, rim_sums, water_bodies
from mdive.algorithms.water_edges import first_guess, only_where, with_rim
from mdive.plugins import Bundle


class RadarWater(NamedTuple):
    """Nodes of what one scene tells; pairs are of VV and VH."""

    choice: Any
    """Which observation each pixel takes."""
    why: Any
    """Cause of each pixel."""
    powers: list[Any]
    """Filtered linear power: means over the window."""
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


def radar_water(
    post: Bundle,
    hand: Any,
    steepness: Any,
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
    hand, steepness
        Nodes of height above the nearest drainage (m) and of slope (degrees), or None.
    minimum_mapping_unit, fallback_vv, fallback_vh, seed_probability, seed_share, grow_probability, looks, maximum_hand
        As in ``flood.sar_threshold``.
    """
    choice = best_observation(post.mask, post.vv, post.vh)
    why = cause(post.mask, choice)
    powers = [usable_power(pick(band, choice), why) for band in (post.vv, post.vh)]
    filtered = [window_mean(power) for power in powers]
    means = [decibel(mean) for mean in filtered]
    around = with_rim(first_guess(*means, fallback_vv=fallback_vv, fallback_vh=fallback_vh, probability=grow_probability))

    odds, support, looking, levels = [], [], [], []
    for power, mean, fallback, (lowest, highest) in zip(powers, means, (fallback_vv, fallback_vh), (CO_BOUNDS, CROSS_BOUNDS), strict=True):
        counts = lattice_histogram(mean, hand, maximum_height=maximum_hand)
        edges = lattice_histogram(only_where(mean, around), hand, maximum_height=maximum_hand)
        nodes = minimum_error_threshold(counts, edges, fallback=fallback, lowest=lowest, highest=highest)
        tau, sigma, below, above, carried = (surface(power, nodes, field=field) for field in ("tau", "sigma", "below", "above", "support"))
        speckle = equivalent_looks(variation(power), looks=looks)
        odds.append(log_odds(decibel(speckle_median(power)), tau, sigma, below, above))
        support.append(carried)
        looking.append(median_looks(power, speckle))
        levels.append((tau, sigma, below, above))

    radar = window_mean(pooled(*odds, *support), reach=DECISION_REACH)
    evidence = terrain_odds(radar, hand, steepness)
    seed, grow, known = (
        likely(evidence, hand, probability=p, maximum_hand=maximum_hand) for p in (seed_probability, grow_probability, 0.0)
    )
    darkness = darkness_levels(*means, known)
    bodies = water_bodies(seed, grow, darkness, rim_sums(darkness, grow), minimum_area=minimum_mapping_unit, seed_share=seed_share)
    water = either(bodies, holes(bodies, known, minimum_area=minimum_mapping_unit))
    return RadarWater(choice, why, filtered, levels, odds, support, looking, radar, evidence, water)
