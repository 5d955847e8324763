"""A classifier that each scene trains itself: from pixels that are known beforehand to be water, and others known to be land.

Any features serve that are roughly normal within a class: water indices, backscatter in dB. The statistics are exact sums (`mdive.algorithms.moments`), the
classifier is Fisher's linear discriminant. Some of the land is under water today: what a published limit calls water does not teach land, and one more
round leaves out what the first one contradicts. A linear score, because a flood is muddier than the river that it comes from: it lies between the two classes, where ellipses
fitted to each would give it to the wider one, which is land.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mdive.algorithms.flood_tables import Percent
from mdive.algorithms.moments import moments
from mdive.model.plan import Grid
from mdive.pipeline.ground import least_pixels
from mdive.plugins import Hectares, Local, operation

Spread = Annotated[
    float, Field(ge=0, description="standard deviation by which classes differ from place to place, in units of the features")
]

WATER: Final = 0
LAND: Final = 1
NONE: Final = 255
"""Zones of training: the two classes, and what teaches nothing."""

SEPARATION: Final = 2.0
"""Distance of the classes' means in standard deviations (Mahalanobis), below which they are not told apart: the error of the best linear rule
is then 16 %."""


def self_trained(
    occurrence: Any, suspect: Any, *features: Any, step: float, spread: float, minimum_area: float, permanent_water: float
) -> tuple[Any, Any]:
    """Return the log-odds of water and the classifier, as pipeline nodes.

    Parameters
    ----------
    occurrence
        Node of the share of looks with water, in percent.
    suspect
        Node, (y, x) bool: where a published limit says water today, so that nobody knows what it teaches of land; or None.
    features
        Nodes, each (y, x), NaN where a pixel was not seen.
    step, spread, minimum_area, permanent_water
        As in the operations.
    """
    zones = training_zones(occurrence, suspect, permanent_water=permanent_water)
    first = discriminant(moments(zones, *features, step=step, zone_count=2), spread=spread, minimum_area=minimum_area)
    kept = undisputed(zones, discriminant_odds(first, *features))
    second = discriminant(moments(kept, *features, step=step, zone_count=2), spread=spread, minimum_area=minimum_area)
    return discriminant_odds(second, *features), second


@operation(Local(), dtype="uint8", fill=NONE)
def training_zones(occurrence: np.ndarray, suspect: np.ndarray | None, /, *, permanent_water: Percent = 90.0) -> np.ndarray:
    """Return which class a pixel teaches.

    Parameters
    ----------
    occurrence
        Share of looks with water, in percent, (y, x), NaN where unknown.
    suspect
        Where there seems to be water today, (y, x) bool, or None: that is no lesson about land.
    permanent_water
        Occurrence from which a pixel teaches water: higher than what a map calls permanent, to be sure.

    Returns
    -------
    0 where water is permanent, 1 where it was never seen, 255 where it comes and goes or nobody knows, (y, x).
    """
    with np.errstate(invalid="ignore"):
        land = (occurrence == 0) if suspect is None else (occurrence == 0) & ~suspect
        return np.where(occurrence >= permanent_water, WATER, np.where(land, LAND, NONE))


@operation(Local(), dtype="float64")
def discriminant(
    classes: Mapping[str, np.ndarray], /, *, grid: Grid, spread: Spread = 0.06, minimum_area: Hectares = 5.0
) -> dict[str, np.ndarray]:
    """Turn the statistics of both classes into a linear rule.

    Parameters
    ----------
    classes
        From ``moments`` with two zones, water and land.
    spread
        Added to the features' own deviation: what lies under water today differs from what taught water.
    minimum_area
        Least area that each class must show.

    Returns
    -------
    ``weights`` and ``offset`` of the log-odds of water for equal classes; ``usable``, 1 if enough of both was seen and they differ, else 0.

    References
    ----------
    Fisher (1936), 10.1111/j.1469-1809.1936.tb02137.x.
    """
    count, mean, covariance = classes["count"], classes["mean"], classes["covariance"]
    nothing = {"weights": np.zeros(mean.shape[1]), "offset": np.array(0.0), "usable": np.array(0)}
    if count.min() < max(least_pixels(minimum_area, grid), mean.shape[1] + 1):
        return nothing
    # Each class counts alike, however much of it there is: a river is one percent of its scene.
    pooled = covariance.mean(axis=0) + spread * spread * np.eye(mean.shape[1])
    apart = mean[WATER] - mean[LAND]
    try:
        weights = np.linalg.solve(pooled, apart)
    except np.linalg.LinAlgError:
        return nothing
    if not weights @ apart >= SEPARATION * SEPARATION:
        return nothing
    return {"weights": weights, "offset": np.array(-weights @ (mean[WATER] + mean[LAND]) / 2), "usable": np.array(1)}


@operation(Local(), dtype="float32")
def discriminant_odds(rule: Mapping[str, np.ndarray], /, *features: np.ndarray) -> np.ndarray:
    """Return the log-odds of water by a linear rule, each feature (y, x); NaN where one is, and everywhere if the rule is not usable."""
    if not rule["usable"]:
        return np.full(features[0].shape, np.nan, dtype="float32")
    odds = np.full(features[0].shape, float(rule["offset"]))
    for weight, feature in zip(rule["weights"], features, strict=True):
        odds += float(weight) * feature
    return odds


@operation(Local(), dtype="float32")
def discriminant_sigma(rule: Mapping[str, np.ndarray], /, *sigmas: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the score, weights scaled to length 1, that follows from those of its features, each (y, x)."""
    weights = rule["weights"]
    length = float(np.sqrt((weights * weights).sum())) or 1.0
    variance = np.zeros(sigmas[0].shape)
    for weight, sigma in zip(weights, sigmas, strict=True):
        variance += (float(weight) / length * sigma) ** 2
    return np.sqrt(variance)


@operation(Local(), dtype="uint8", fill=NONE)
def undisputed(zones: np.ndarray, odds: np.ndarray, /) -> np.ndarray:
    """Return the zones of training, (y, x), without the pixels that the log-odds, (y, x), give to the other class."""
    with np.errstate(invalid="ignore"):
        other = ((zones == WATER) & (odds <= 0)) | ((zones == LAND) & (odds > 0))
    return np.where(other, NONE, zones)
