"""Exact quantiles of rasters of any size, over all pixels or zone by zone: order statistics, found digit by digit in counts.

Numbers are mapped to whole numbers of the same order. A first walk over the raster counts their upper 16 bits, which tells in which bin each
wanted rank lies; a second counts the lower 16 bits inside those bins alone. Counts are whole numbers: so the result is that of a sort of all
pixels, for any tiling, in memory that does not grow with the area. Double precision takes four walks, 16-bit numbers one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from mdive.errors import InputError
from mdive.plugins import Local, Reduction, operation

Shares = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1, description="shares of the pixels that lie below, 0 to 1")
]
ZoneCount = Annotated[int, Field(ge=1, le=65_536, description="number of zones; they are numbered from 0")]
Method = Literal["linear", "lower"]
"""How a rank q (n - 1) between two pixels is read, in the words of ``numpy.quantile``: in proportion (the seventh definition of Hyndman and
Fan 1996, 10.1080/00031305.1996.10473566), or as the lower of the two, which is a number of the raster."""

State = Mapping[str, np.ndarray]

DIGIT: Final = np.uint64(16)
"""Bits counted in one walk: at most 65,536 counts a zone, and two walks for single precision."""
LOW: Final = np.uint64((1 << 16) - 1)
ZONE_SHIFT: Final = np.uint64(48)
"""A slot is known by one 64-bit number: the zone in its upper 16 bits, below it the digits found so far (48 bits at most)."""
COMPACT: Final = 1 << 20
"""Counts are added up when so many have been gathered (16 MB), and then whenever they have doubled."""

DENSE: Final = 16
"""Slots up to which a block counts in an array (8 MB) instead of sorting, which takes twenty times as long; less than 8192 pixels for each are
sorted sooner than the array is looked through."""

NORMAL: Final = 1.4826022185056018
"""Standard deviation of a normal distribution over its median absolute deviation, 1 / Φ⁻¹(3/4)."""


def quantiles(values: Any, zones: Any = None, /, *, q: tuple[float, ...] = (0.5,), method: Method = "linear", zone_count: int = 1) -> Any:
    """Return exact quantiles of a raster, over all its pixels or by zone.

    Parameters
    ----------
    values
        Raster of real or whole numbers, as a node, an array or a DataArray. NaN is not counted; infinities are.
    zones
        Raster of whole numbers, (y, x): the zone of each pixel. Numbers beyond 0 … ``zone_count`` - 1 are no zone, and not counted.
    q
        Shares, 0 to 1; 0.5 is the median.
    method
        ``linear`` or ``lower``, as in ``numpy.quantile``.
    zone_count
        Number of zones; 1 where none are given.

    Returns
    -------
    A state: ``value`` (zones, q) in double precision, NaN where a zone is empty, and ``count`` (zones,), its pixels. These are, bit for bit,
    the numbers that ``numpy.quantile`` gives for the same pixels as float64. Next to an infinity the quantile is that infinity (between both
    of them NaN), about which numpy has no rule.

    Raises
    ------
    InputError
        If the numbers are neither real nor whole.
    """
    state = None
    for digit in range(_digits(values.dtype)):
        state = order_counts(values, zones, state, digit=digit, q=tuple(q), method=method, zone_count=zone_count)
    return state


def median_deviation(values: Any, zones: Any = None, /, *, zone_count: int = 1) -> tuple[Any, Any]:
    """Return the median of a raster and its median absolute deviation (MAD), over all pixels or by zone.

    Parameters
    ----------
    values, zones, zone_count
        As in ``quantiles``.

    Returns
    -------
    Two states like that of ``quantiles``. Deviations are taken in double precision and then rounded to single, which keeps their order: the
    MAD is exact but for that one rounding (6e-8 of it). ``NORMAL`` times it is the standard deviation of normal numbers, and hardly moves
    when a minority of them is something else.
    """
    median = quantiles(values, zones, zone_count=zone_count)
    return median, quantiles(absolute_deviation(values, zones, median), zones, zone_count=zone_count)


@operation(Local(), dtype="float32")
def absolute_deviation(values: np.ndarray, zones: np.ndarray | None, centre: State, /) -> np.ndarray:
    """Return the distance of each pixel's number from that of its zone, without sign.

    Parameters
    ----------
    values
        Any raster.
    zones
        Whole numbers, (y, x), or None where all is one zone.
    centre
        State with ``value``, (zones, quantiles), the first of which is taken.

    Returns
    -------
    NaN where the number is, and where the pixel belongs to no zone.
    """
    at = centre["value"][:, 0]
    numbers, zone, inside = _counted(values, zones, len(at))
    with np.errstate(invalid="ignore"):
        return np.where(inside, np.abs(numbers.astype("float64") - at[np.where(inside, zone, 0)]), np.nan)


# The walks --------------------------------------------------------------------------------------------------------------------------------


def _merge(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up sparse counts: keys in order, and how often each was met."""
    gathered: list[Mapping[str, Any]] = []
    size, limit = 0, COMPACT
    for part in parts:
        gathered.append(part)
        size += len(part["key"])
        if size > limit:
            gathered = [_added(gathered)]
            size = len(gathered[0]["key"])
            limit = max(COMPACT, 2 * size)
    return _added(gathered)


def _added(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    key, place = np.unique(np.concatenate([p["key"] for p in parts]), return_inverse=True)
    met = np.zeros(len(key), dtype="int64")
    np.add.at(met, place, np.concatenate([p["met"] for p in parts]))
    return {**parts[0], "key": key, "met": met}


def _descend(total: Mapping[str, Any], *, digit: int, q: tuple[float, ...], method: Method, zone_count: int) -> dict[str, np.ndarray]:
    """Find in which bin each wanted rank lies; after the last digit, the numbers."""
    key, met, known = total["key"], total["met"], total["known"]
    bin_slot, low = (key >> DIGIT).astype("int64"), key & LOW
    if digit == 0:
        pixels = np.zeros(zone_count, dtype="int64")
        np.add.at(pixels, bin_slot, met)
        known = {"count": pixels, **_ranks(pixels, q), "prefix": np.arange(zone_count, dtype="uint64") << ZONE_SHIFT}
    full = known["count"] > 0
    # Ranks count from the first bin of their slot, bins from the first of all.
    starts = np.cumsum(met) - met
    rank = known["rank"][full] + starts[np.searchsorted(bin_slot, known["slot"][full])]
    at = np.searchsorted(starts, rank, side="right") - 1
    rank -= starts[at]
    # Several ranks may share a bin: it is one slot of the next walk.
    found, slot = np.unique(at, return_inverse=True)
    slot = slot.reshape(rank.shape)
    prefix = known["prefix"][bin_slot[found]]
    digits = (prefix << DIGIT) | low[found]
    if digit == _digits(total["dtype"]) - 1:
        value = np.full((zone_count, len(q)), np.nan)
        lower, upper = _numbers(digits, total["dtype"])[slot].transpose(1, 0, 2)
        value[full] = lower if method == "lower" else _between(lower, upper, known["share"][full])
        return {"value": value, "count": known["count"]}
    state = {**known, "slot": np.zeros_like(known["slot"]), "rank": np.zeros_like(known["rank"])}
    state["slot"][full], state["rank"][full] = slot, rank
    zone = prefix >> ZONE_SHIFT << ZONE_SHIFT
    return {**state, "prefix": zone | digits & (np.uint64(1) << ZONE_SHIFT) - np.uint64(1)}


def _ranks(pixels: np.ndarray, q: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Return the ranks on both sides of each quantile, (zones, 2, q), their slots, and how far between them it lies, (zones, q)."""
    last = np.maximum(pixels - 1, 0)[:, None]
    wanted = last * np.array(q, dtype="float64")
    lower = np.floor(wanted).astype("int64")
    rank = np.stack([lower, np.minimum(lower + 1, last)], axis=1)
    slot = np.broadcast_to(np.arange(len(pixels))[:, None, None], rank.shape)
    return {"rank": rank, "slot": slot, "share": wanted - lower}


def _between(lower: np.ndarray, upper: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate from the nearer end: then both ends are met, and more of a share never gives less."""
    with np.errstate(invalid="ignore", over="ignore"):
        step = upper - lower
        value = np.where(share >= 0.5, upper - step * (1.0 - share), lower + step * share)
        value = np.where(np.isfinite(lower) & np.isfinite(upper), value, lower + upper)
    return np.where((share == 0.0) | (lower == upper), lower, value)


@operation(Reduction(merge=_merge, finish=_descend), dtype="int64")
def order_counts(
    values: np.ndarray,
    zones: np.ndarray | None,
    known: State | None,
    /,
    *,
    digit: Annotated[int, Field(ge=0, le=3, description="which 16 bits are counted, from the upper end")] = 0,
    q: Shares = (0.5,),  # noqa: ARG001
    method: Method = "linear",  # noqa: ARG001
    zone_count: ZoneCount = 1,
) -> dict[str, Any]:
    """Count one digit of those pixels whose upper digits are those of a wanted rank: one of the walks that ``quantiles`` chains.

    Parameters
    ----------
    values, zones, q, method, zone_count
        As in ``quantiles``.
    known
        State of the walk before; None for the first.
    digit
        Number of the walk.

    Returns
    -------
    One block's counts. After the last digit the state is that of ``quantiles``.
    """
    numbers, zone, inside = _counted(values, zones, zone_count)
    ordered, slot = _ordered(numbers[inside]), zone[inside].astype("uint64")
    shift = np.uint64(int(DIGIT) * (_digits(numbers.dtype) - 1 - digit))
    if known is not None:
        place = slot << ZONE_SHIFT | ordered >> shift >> DIGIT
        slot = np.minimum(np.searchsorted(known["prefix"], place), len(known["prefix"]) - 1).astype("uint64")
        match = known["prefix"][slot] == place
        slot, ordered = slot[match], ordered[match]
    key, met = _tally(slot << DIGIT | ordered >> shift & LOW, zone_count if known is None else len(known["prefix"]))
    return {"key": key, "met": met, "dtype": str(numbers.dtype), "known": {} if known is None else dict(known)}


def _tally(keys: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct keys in order, and how often each occurs."""
    if slots > DENSE or len(keys) < slots << 13:
        return np.unique(keys, return_counts=True)
    met = np.bincount(keys.view("int64"))
    key = np.flatnonzero(met)
    return key.astype("uint64"), met[key]


# Numbers of the same order ----------------------------------------------------------------------------------------------------------------


def _digits(dtype: Any) -> int:
    """Return how many digits the numbers of a type have."""
    kind = np.dtype(dtype)
    if kind.kind not in "fiub" or kind.itemsize > 8:
        raise InputError(f"quantiles were asked of numbers of type {kind}.", "Give real or whole numbers of at most 64 bits.")
    return max(int(kind.itemsize) // 2, 2 if kind.kind == "f" else 1)


def _counted(values: np.ndarray, zones: np.ndarray | None, zone_count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return numbers, zone, and whether the pixel counts, all of one shape."""
    inside = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)
    if zones is None:
        return values, np.zeros(values.shape, dtype="uint16"), inside
    zone = np.broadcast_to(zones, values.shape)
    return values, zone, inside & (zone >= 0) & (zone < zone_count)


def _ordered(numbers: np.ndarray) -> np.ndarray:
    """Return whole numbers (uint64) of the same order."""
    if numbers.dtype.kind != "f":
        least = np.iinfo(numbers.dtype).min if numbers.dtype.kind == "i" else 0
        return numbers.astype("int64").view("uint64") - np.uint64(least % 2**64)
    # Adding zero makes -0.0 the zero that it equals.
    single = numbers.dtype.itemsize < 8
    bits = (numbers + np.float32(0.0)).astype("float32" if single else "float64").view("uint32" if single else "uint64")
    sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign).astype("uint64")


def _numbers(ordered: np.ndarray, dtype: str) -> np.ndarray:
    """Invert ``_ordered``; float64."""
    kind = np.dtype(dtype)
    if kind.kind != "f":
        least = np.iinfo(kind).min if kind.kind == "i" else 0
        whole = ordered + np.uint64(least % 2**64)
        return whole.astype("float64") if kind.kind == "u" else whole.view("int64").astype("float64")
    single = kind.itemsize < 8
    bits = ordered.astype("uint32" if single else "uint64")
    sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
    numbers: np.ndarray = np.where(bits & sign, bits ^ sign, ~bits).view("float32" if single else "float64").astype("float64")
    return numbers
