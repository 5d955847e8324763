"""Overviews: each pixel by the written rule, computed again here one by one."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import rasterio

from mdive.products.encoding import Encoding, encoding_of
from mdive.products.overviews import halve, level_shapes

NONE = None


def oracle(pixels, encoding):
    """The rule as it is written, with Python's own numbers."""
    rows, cols = pixels.shape
    nodata = encoding.nodata
    out = np.empty((-(-rows // 2), -(-cols // 2)), pixels.dtype)
    for r, c in np.ndindex(out.shape):
        lower, right = min(2 * r + 1, rows - 1), min(2 * c + 1, cols - 1)
        four = [pixels[2 * r, 2 * c], pixels[2 * r, right], pixels[lower, 2 * c], pixels[lower, right]]
        valid = [v.item() for v in four if not (math.isnan(v) or (nodata is not None and v == nodata))]
        if encoding.overview == "nearest":
            out[r, c] = four[0]
        elif not valid:
            out[r, c] = math.nan if nodata is None else nodata
        elif encoding.overview == "mode":
            count = Counter(valid)
            out[r, c] = max(valid, key=lambda v: count[v])  # max() takes the first of several
        else:
            mean = sum(valid) / len(valid)
            out[r, c] = mean if pixels.dtype.kind == "f" else round(mean)
    return out


def encoding(dtype, nodata, overview):
    return Encoding(dtype, nodata, 1.0, overview, 1)


CASES = [
    *((d, n, "mode") for d in ("uint8", "uint16", "int16") for n in (NONE, 0, 2)),
    *((d, n, "average") for d in ("uint8", "uint16", "int16") for n in (NONE, 4)),
    *(("float32", n, "average") for n in (NONE, math.nan, 4.0)),
    *((d, n, "nearest") for d in ("uint8", "uint16") for n in (NONE, 0)),
]


@pytest.mark.parametrize(("dtype", "nodata", "overview"), CASES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 7), (64, 64), (63, 65), (31, 2)])
def test_each_pixel_by_the_rule(dtype, nodata, overview, shape):
    # Few values, so that ties and missing neighbours of every kind occur; the largest is the nodata value of means, so that no mean is it.
    pixels = np.random.default_rng(3).integers(0, 5, shape).astype(dtype)
    if dtype == "float32":
        pixels[pixels == 3] = np.nan
        pixels *= np.where(np.isnan(pixels) | (pixels == 4), 1, np.float32(1 / 3))
    rule = encoding(dtype, nodata, overview)
    found = halve(pixels, rule)
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, oracle(pixels, rule))


def four(*values, dtype="uint8"):
    return np.array(values, dtype).reshape(2, 2)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((3, 1, 1, 3), 3),  # a tie: the first
        ((1, 3, 3, 1), 1),
        ((4, 3, 2, 1), 4),
        ((4, 1, 2, 1), 1),  # a majority
        ((255, 3, 1, 255), 3),  # nodata has no vote
        ((255, 255, 255, 7), 7),
        ((255, 255, 255, 255), 255),
        ((255, 255, 2, 253), 2),
    ],
)
def test_the_mode_and_its_ties(values, expected):
    assert halve(four(*values), encoding("uint8", 255, "mode"))[0, 0] == expected


def test_whole_means_are_rounded_as_numbers_are_stored():
    rule = encoding("int16", -32768, "average")
    assert halve(four(0, 1, 0, 1, dtype="int16"), rule)[0, 0] == 0  # half to even
    assert halve(four(1, 2, 1, 2, dtype="int16"), rule)[0, 0] == 2
    assert halve(four(-32768, -3, -32768, -32768, dtype="int16"), rule)[0, 0] == -3
    assert halve(four(32767, 32767, 32767, 32767, dtype="int16"), rule)[0, 0] == 32767


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", 0), ("uint8", 255), ("float32", 0.0)])
def test_a_mean_that_is_nodata_by_chance_is_stored_beside_it(dtype, nodata):
    number = np.dtype(dtype).type
    below, above = (254, 254) if dtype == "uint8" else (-1, 1)
    rule = encoding(dtype, nodata, "average")
    found = halve(np.array([[below, above], [below, above]], dtype), rule)[0, 0]
    assert found == (254 if dtype == "uint8" else 1 if dtype == "int16" else np.nextafter(number(0), number(1)))
    assert found != nodata


def test_missing_floats_become_the_nodata_of_the_file():
    pixels = np.array([[np.nan, -9999], [np.nan, -9999]], np.float32)
    assert halve(pixels, encoding("float32", -9999.0, "average"))[0, 0] == -9999


@pytest.mark.parametrize(
    ("shape", "levels"),
    [((1, 1), 1), ((512, 512), 1), ((512, 513), 2), ((1, 1025), 3), ((10_000, 3), 6)],
)
def test_levels_end_with_a_single_block(shape, levels):
    shapes = level_shapes(shape)
    assert len(shapes) == levels
    assert max(shapes[-1]) <= 512
    assert levels == 1 or max(shapes[-2]) > 512
    assert all(shapes[i + 1] == (-(-r // 2), -(-c // 2)) for i, (r, c) in enumerate(shapes[:-1]))


@pytest.mark.parametrize("kind", ["extent", "probability", "uncertainty", "qc"])
@pytest.mark.parametrize("shape", [(2100, 1301), (513, 2063), (1, 1400), (1201, 1)])
def test_the_levels_of_a_file_are_made_one_from_the_other(tmp_path, specs, make_grid, save, pictures, kind, shape):
    spec, array = getattr(specs, kind), pictures(shape)[kind]
    array[:600, :600] = array[0, 0]  # uniform tiles take a shorter way
    path = save(tmp_path / "a.tif", spec, make_grid(shape), array)
    with rasterio.open(path) as dataset:
        level, count = dataset.read(1), len(dataset.overviews(1))
    assert count == len(level_shapes(shape)) - 1 > 0
    for index in range(count):
        level = halve_whole(level, encoding_of(spec))
        with rasterio.open(path, overview_level=index) as overview:
            np.testing.assert_array_equal(overview.read(1), level)


def halve_whole(pixels, rule):
    """The rule on a whole level at once, in plain numpy."""
    rows, cols = pixels.shape
    padded = np.pad(pixels, ((0, rows % 2), (0, cols % 2)), mode="edge")
    parts = np.stack([padded[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    if rule.overview == "nearest":
        return parts[0]
    valid = ~np.isnan(parts) if pixels.dtype.kind == "f" else parts != rule.nodata
    empty = ~valid.any(axis=0)
    if rule.overview == "mode":
        votes = np.where(valid, (parts[:, None] == parts[None]).sum(axis=0), 0)
        return np.where(empty, rule.nodata, np.take_along_axis(parts, votes.argmax(axis=0)[None], 0)[0]).astype(pixels.dtype)
    total = np.zeros(empty.shape)
    for part, known in zip(parts, valid, strict=True):
        total += np.where(known, part, 0).astype(np.float64)
    mean = total / np.maximum(valid.sum(axis=0), 1)
    return np.where(empty, rule.nodata, mean if pixels.dtype.kind == "f" else np.rint(mean)).astype(pixels.dtype)
