"""Where DataArrays lie: on one grid, in one CRS, at the same times; and with square, even pixels wherever an operation counts metres."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mdive.errors import InputError
from mdive.model.plan import Grid
from mdive.pipeline.evaluate import DEFAULT_GRID

if TYPE_CHECKING:
    import xarray as xr

Rasters = Mapping[tuple[str, str], "xr.DataArray"]
"""By source and band."""

EVEN = 0.05
"""Pixels by which a coordinate may miss its place: rounding moves it by less, a row or column that is missing by at least half of one."""

SQUARE = 1e-3
"""Difference between the two edges of a pixel, as a share, that rounding explains."""

DEGREES = 0.1
"""Steps below this, where no CRS says of what, are degrees: no satellite has pixels of 10 cm."""


def check_together(rasters: Rasters) -> None:
    """Refuse rasters that do not belong together.

    Raises
    ------
    InputError
        If they differ in grid or CRS, or those of one source in time. What one of them does not tell is no difference.
    """
    arrays = list(rasters.items())
    (_, first) = arrays[0]
    if 0 in first.shape:
        raise InputError(f"the rasters are empty: {dict(first.sizes)}.", "Check what was selected: slices of y run from north to south.")
    for (source, band), array in arrays:
        if differs := [d for d in ("y", "x") if _differs(array, first, d)]:
            raise InputError(
                f"{band!r} of {source!r} has another grid ({_extent(array, differs[0])}) than the first raster ({_extent(first, differs[0])}).",
                "Reproject the rasters to one grid first, for instance with rioxarray's reproject_match.",
            )
        other = next((b for (s, b), a in arrays if s == source and "time" in a.dims and "time" in array.dims), band)
        if other != band and _differs(array, rasters[source, other], "time"):
            raise InputError(
                f"{band!r} of {source!r} has other times ({_extent(array, 'time')}) than {other!r} ({_extent(rasters[source, other], 'time')}).",
                "Select the times that they have in common first, for instance with xarray.align.",
            )
    systems = {key: crs for key, array in arrays if (crs := crs_of(array)) is not None}
    for (source, band), crs in systems.items():
        reference = next(iter(systems.values()))
        if not _same_crs(crs, reference):
            raise InputError(
                f"{band!r} of {source!r} is in {_crs_name(crs)}, the first raster in {_crs_name(reference)}.",
                "Reproject the rasters to one CRS first, for instance with rioxarray's reproject_match.",
            )


def grid_of(rasters: Iterable[xr.DataArray], asking: str = "") -> Grid:
    """Return the grid that rasters share.

    Parameters
    ----------
    rasters
        DataArrays of one shape.
    asking
        Operation whose result depends on the size of a pixel. Where none does, any coordinates will do, and none.

    Returns
    -------
    North-up, whatever the order of the rows. Where no CRS is known, x and y are metres.

    Raises
    ------
    InputError
        If an operation asks for the size of a pixel, and there are no coordinates, or they are not those of even, square pixels.
    """
    arrays = list(rasters)
    shape = (arrays[0].sizes["y"], arrays[0].sizes["x"])
    if not asking:
        return DEFAULT_GRID.model_copy(update={"shape": shape})
    told = f"the result of operation {asking!r} depends on the size of a pixel"
    array = next((a for a in arrays if "x" in a.coords and "y" in a.coords), None)
    if array is None or shape == (1, 1):
        raise InputError(
            f"{told}, and the rasters {'have no x and y coordinates' if array is None else 'are a single pixel'}.",
            "Give DataArrays with x and y of the pixels' centres: metres, or any CRS that is written down (raster.rio.write_crs).",
        )
    steps = {d: found for d in ("x", "y") if (found := _step(array[d], told)) is not None}
    (x, x_slack), (y, y_slack) = steps.get("x", steps.get("y")), steps.get("y", steps.get("x"))  # type: ignore[misc]
    if abs(abs(x) - abs(y)) > SQUARE * abs(x) + x_slack + y_slack:
        raise InputError(
            f"{told}, and the pixels are not square: {abs(x):g} in x, {abs(y):g} in y.",
            "Reproject the rasters to square pixels first, for instance with rioxarray's reproject(crs, resolution=...).",
        )
    crs = next((c for a in arrays if (c := crs_of(a)) is not None), None)
    if crs is None and (abs(x) < DEGREES or "degree" in str(array["x"].attrs.get("units", ""))):
        raise InputError(
            f"{told}; x goes in steps of {abs(x):g}, and no CRS says of what.", "Write it down: raster.rio.write_crs('EPSG:4326')."
        )
    left, top = float(array["x"].min()), float(array["y"].max())
    return Grid(crs=crs or DEFAULT_GRID.crs, resolution=abs(x), x0=left - abs(x) / 2, y0=top + abs(x) / 2, shape=shape)


def crs_of(array: xr.DataArray) -> str | None:
    """Return the CRS of a DataArray as its grid-mapping coordinate tells it (CF), as WKT; None where nothing does."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    names = (array.encoding.get("grid_mapping"), array.attrs.get("grid_mapping"), "spatial_ref", "crs")
    for name in names:
        attrs: Mapping[Any, Any] = array.coords[name].attrs if isinstance(name, str) and name in array.coords else {}
        text = attrs.get("crs_wkt") or attrs.get("spatial_ref")
        if text:
            return str(text)
        if "grid_mapping_name" in attrs:
            try:
                return str(CRS.from_cf(dict(attrs)).to_wkt())
            except (CRSError, KeyError):
                continue
    return None


def _step(coordinate: xr.DataArray, told: str) -> tuple[float, float] | None:
    """Return the step of a coordinate and what its data type leaves open of it; None for a single pixel."""
    if coordinate.size == 1:
        return None
    values, last = np.asarray(coordinate), coordinate.size - 1
    if values.dtype.kind in "iuf":
        exact = values.astype("float64")
        step = float(exact[-1] - exact[0]) / last
        coarse = 2 * float(np.abs(exact).max()) * np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0.0
        missed = np.abs(exact - (exact[0] + step * np.arange(last + 1)))
        if step and np.isfinite(exact).all() and missed.max() <= EVEN * abs(step) + coarse:
            return step, coarse / last
        gaps = np.abs(np.diff(exact))
        found = f"in steps of {gaps.min():g} to {gaps.max():g}"
    else:
        found = f"as {values.dtype}"
    raise InputError(
        f"{told}, and {coordinate.name} does not go in even steps of a number (it goes {found}).",
        "Reproject the rasters to a regular grid first, for instance with rioxarray's reproject_match.",
    )


def _differs(a: xr.DataArray, b: xr.DataArray, dim: str) -> bool:
    if a.sizes[dim] != b.sizes[dim] or dim not in a.coords or dim not in b.coords:
        return a.sizes[dim] != b.sizes[dim]
    return not a[dim].variable.equals(b[dim].variable)  # type: ignore[no-untyped-call]


def _extent(array: xr.DataArray, dim: str) -> str:
    size = f"{array.sizes[dim]} in {dim}"
    return f"{size}, from {array[dim].values[0]} to {array[dim].values[-1]}" if dim in array.coords and array.sizes[dim] else size


@lru_cache(maxsize=64)
def _same_crs(a: str, b: str) -> bool:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    if a == b:
        return True
    try:
        one, two = CRS.from_user_input(a), CRS.from_user_input(b)
    except CRSError:
        return False
    # The order of the axes is what the dimensions say; versions of WKT differ in it.
    return bool(one.equals(two, ignore_axis_order=True)) or (one.to_epsg() is not None and one.to_epsg() == two.to_epsg())


def _crs_name(text: str) -> str:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_user_input(text)
    except CRSError:
        return "an unknown CRS"
    return ":".join(crs.to_authority() or ()) or str(crs.name)
