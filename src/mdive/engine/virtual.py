"""Write what a plan reads as virtual rasters for QGIS and other programs on GDAL: VRT, or a tile index (GTI)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree as ET

import numpy as np

from mdive.cube.virtual import LeftOut, Mosaic, Piece, Rectangle, mosaics
from mdive.engine.derive import is_derived
from mdive.engine.given import take_path, take_plan
from mdive.errors import NoDataError
from mdive.model.plan import Plan
from mdive.products import staged

Form = Literal["vrt", "gti"]

GDAL_TYPES: Final = {"uint8": "Byte", "int8": "Int8", "float32": "Float32", "float64": "Float64"} | {
    f"{kind}int{bits}": f"{kind.upper()}Int{bits}" if kind else f"Int{bits}" for kind in ("u", "") for bits in (16, 32, 64)
}

INDEX: Final = "index.gpkg"
"""The tile index of all `.gti` files of a folder. A vector layer like any other: QGIS shows it, too."""


def write_virtual(plan: Plan, folder: str | Path, form: Form) -> tuple[list[Path], list[LeftOut]]:
    """Write virtual rasters of exactly the files and windows that a plan reads. Headers of files are read, and no pixel.

    Parameters
    ----------
    plan
        The plan.
    folder
        Where to write; created if it is not there. Files of the same names are replaced.
    form
        ``vrt``: one file per observation, with its bands; files in another CRS than the plan's have one of their own. ``gti``: one file per
        observation and band on the plan's grid, and `index.gpkg`, which lists all files; it needs GDAL 3.9.

    Returns
    -------
    list of Path
        What was written.
    list of LeftOut
        Files that could not be opened.

    Raises
    ------
    NoDataError
        If not one file could be opened.
    RunFolderError
        If the folder cannot be written.
    UsageError
        If it is given something else than a plan.
    """
    plan, folder = take_plan(plan, "index"), take_path(folder, "index", "out").resolve()
    made: list[Mosaic] = []
    left_out: list[LeftOut] = []
    for source in (s for s in plan.sources if not is_derived(s)):
        shown, missing = mosaics(source, plan.grid)
        made += shown
        left_out += missing
    if not made:
        raise NoDataError(
            "none of the plan's files can be opened, so there is nothing to show.",
            left_out[0].reason if left_out else "The plan has no observations.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return list((_vrts if form == "vrt" else _gtis)(folder, made, plan)), list(dict.fromkeys(left_out))


def _vrts(folder: Path, made: Sequence[Mosaic], plan: Plan) -> Iterator[Path]:
    for name, mosaic in zip(_distinct([_plain_name(m, plan) for m in made]), made, strict=True):
        yield _write(folder / f"{name}.vrt", _vrt(mosaic))


def _gtis(folder: Path, made: Sequence[Mosaic], plan: Plan) -> Iterator[Path]:
    yield _index(folder / INDEX, made, plan)
    first: dict[str, tuple[str, str, Piece]] = {}
    for mosaic in made:
        for band, pieces in mosaic.bands.items():
            for piece in pieces:
                # One band has one meaning; pieces that mean something else have a file of their own.
                first.setdefault(_row_key(mosaic, band, piece), (f"{_plain_name(mosaic, plan)}-{band}", band, piece))
    names = _distinct([name for name, _, _ in first.values()])
    for name, (key, (_, band, piece)) in zip(names, first.items(), strict=True):
        yield _write(folder / f"{name}.gti", _gti(folder / INDEX, key, band, piece, plan))


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names for files, each one once."""
    taken: dict[str, int] = {}
    made = []
    for name in map(_safe, names):
        taken[name] = taken.get(name, 0) + 1
        made.append(f"{name}-{taken[name]}" if taken[name] > 1 else name)
    return made


def _plain_name(mosaic: Mosaic, plan: Plan) -> str:
    source = next(s for s in plan.sources if (s.name, s.phase) == (mosaic.source, mosaic.phase))
    number = source.observations.index(mosaic.observation) + 1
    when = "" if mosaic.phase == "static" else f"-{mosaic.observation.datetime:%Y%m%dT%H%M%S}"
    return f"{mosaic.source}-{mosaic.phase}{when}{f'-{number}' if len(source.observations) > 1 else ''}"


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")


def _write(path: Path, root: ET.Element) -> Path:
    ET.indent(root)
    with staged(path) as target:
        target.write_bytes(ET.tostring(root, encoding="utf-8") + b"\n")
    return path


def _vrt(mosaic: Mosaic) -> ET.Element:
    rows, cols = mosaic.shape
    root = ET.Element("VRTDataset", rasterXSize=str(cols), rasterYSize=str(rows))
    ET.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = mosaic.crs
    a, b, c, d, e, f = mosaic.transform
    ET.SubElement(root, "GeoTransform").text = ", ".join(map(_number, (c, a, b, f, d, e)))
    for number, (band, pieces) in enumerate(mosaic.bands.items(), 1):
        same = len({p.means for p in pieces}) == 1
        means = pieces[0].means
        element = ET.SubElement(root, "VRTRasterBand", dataType=_type(means.dtype) if same else "Float32", band=str(number))
        _describe(element, band, means if same else means._replace(nodata=float("nan"), scale=1.0, offset=0.0))
        for piece in reversed(pieces):  # the last one that is drawn stays, and the first one counts
            _source(element, piece, converted=not same)
    return root


def _source(band: ET.Element, piece: Piece, *, converted: bool) -> None:
    element = ET.SubElement(band, "ComplexSource")
    if piece.resampling != "nearest":
        element.set("resampling", piece.resampling)
    ET.SubElement(element, "SourceFilename", relativeToVRT="0").text = piece.location
    ET.SubElement(element, "SourceBand").text = str(piece.index)
    (rows, cols), (block_rows, block_cols) = piece.header.grid.shape, piece.header.block
    ET.SubElement(
        element,
        "SourceProperties",
        RasterXSize=str(cols),
        RasterYSize=str(rows),
        DataType=_type(piece.means.dtype),
        BlockXSize=str(block_cols),
        BlockYSize=str(block_rows),
    )
    _rectangle(element, "SrcRect", piece.part)
    _rectangle(element, "DstRect", piece.place)
    if converted:
        ET.SubElement(element, "ScaleOffset").text = _number(piece.means.offset)
        ET.SubElement(element, "ScaleRatio").text = _number(piece.means.scale)
    if piece.means.nodata is not None:
        ET.SubElement(element, "NODATA").text = _number(piece.means.nodata)


def _gti(index: Path, key: str, band: str, first: Piece, plan: Plan) -> ET.Element:
    grid = plan.grid
    root = ET.Element("GDALTileIndexDataset")
    for name, text in {
        "IndexDataset": str(index),
        "IndexLayer": index.stem,
        "Filter": f"raster = '{key}'",
        "SortField": "rank",
        "SRS": grid.crs,
        "GeoTransform": ",".join(map(_number, (grid.x0, grid.resolution, 0.0, grid.y0, 0.0, -grid.resolution))),
        "XSize": str(grid.shape[1]),
        "YSize": str(grid.shape[0]),
        "Resampling": first.resampling,
    }.items():
        ET.SubElement(root, name).text = text
    _describe(ET.SubElement(root, "Band", band="1", dataType=_type(first.means.dtype)), band, first.means)
    return root


def _index(path: Path, made: Sequence[Mosaic], plan: Plan) -> Path:
    import geopandas as gpd
    import shapely

    from mdive.cube.grid import transformer

    rows = []
    for mosaic in made:
        a, _, c, _, e, f = mosaic.transform
        for band, pieces in mosaic.bands.items():
            for piece in pieces:
                col, row, width, height = piece.place
                outline = shapely.box(c + col * a, f + (row + height) * e, c + (col + width) * a, f + row * e)
                if mosaic.crs != plan.grid.crs:
                    there = transformer(mosaic.crs, plan.grid.crs)
                    fine = shapely.segmentize(outline, max(outline.length / 200, abs(a)))
                    outline = shapely.transform(fine, lambda p, there=there: np.column_stack(there.transform(p[:, 0], p[:, 1])))
                location = piece.location if piece.header.bands == 1 else f"vrt://{piece.location}?bands={piece.index}"
                rows.append(
                    {
                        "location": location,
                        "raster": _row_key(mosaic, band, piece),
                        "rank": -mosaic.observation.items.index(piece.item),  # the highest is drawn last, and stays
                        "source": mosaic.source,
                        "phase": mosaic.phase,
                        "time": mosaic.observation.datetime.isoformat(),
                        "item": piece.item,
                        "band": band,
                        "geometry": outline,
                    }
                )
    with staged(path) as target:
        gpd.GeoDataFrame(rows, crs=plan.grid.crs).to_file(target, driver="GPKG", layer=path.stem)
    return path


def _row_key(mosaic: Mosaic, band: str, piece: Piece) -> str:
    """Return the name of the virtual raster that shows a piece; good in a filter, for it has no quotes."""
    text = f"{mosaic.source}/{mosaic.phase}/{mosaic.observation.id}/{band}/{piece.means.dtype}/{piece.means[1:]}"
    return text.replace("'", "")


def _describe(element: ET.Element, band: str, means: tuple[str, float | None, float, float, str]) -> None:
    _, nodata, scale, offset, unit = means
    ET.SubElement(element, "Description").text = band
    if nodata is not None:
        ET.SubElement(element, "NoDataValue").text = _number(nodata)
    if (scale, offset) != (1.0, 0.0):
        ET.SubElement(element, "Offset").text = _number(offset)
        ET.SubElement(element, "Scale").text = _number(scale)
    if unit not in ("1", "class", "bits"):
        ET.SubElement(element, "UnitType").text = unit


def _rectangle(element: ET.Element, name: str, rectangle: Rectangle) -> None:
    x, y, width, height = map(_number, rectangle)
    ET.SubElement(element, name, xOff=x, yOff=y, xSize=width, ySize=height)


def _type(dtype: str) -> str:
    return GDAL_TYPES.get(dtype, "Float64")


def _number(value: float) -> str:
    return str(int(value)) if np.isfinite(value) and float(value).is_integer() else repr(float(value))
