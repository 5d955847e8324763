"""The report: one HTML file for people, with everything in it: no network, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from pyproj import CRS, Transformer

from mdive.model.flags import CAUSES
from mdive.model.plan import Grid, Plan
from mdive.model.product import ClassEntry, RasterSpec
from mdive.model.provenance import Provenance
from mdive.model.quality import Quality
from mdive.products.drawing import pipeline_picture
from mdive.products.files import staged

LEDGER_ROWS = 50
"""Failed reads that are listed; all of them are in ``ledger.parquet``."""

_DECISIONS = {
    "event": ("Event", "event"),
    "no_significant_event": ("No significant event", "none"),
    "not_observable": ("Not observable", "blind"),
}


def write_report(
    path: Path,
    *,
    plan: Plan,
    quality: Quality,
    provenance: Provenance,
    picture: tuple[str, Sequence[ClassEntry]],
    specs: Mapping[str, RasterSpec],
    bounded: bool = False,
    ledger: Sequence[Mapping[str, Any]] = (),
    partial: bool = False,
) -> None:
    """Write the report of a run.

    Parameters
    ----------
    path
        HTML file to write.
    plan, quality, provenance
        What was done, how good it is, and what it was made from.
    picture
        What ``map_picture`` drew, and the classes in it.
    specs
        The tables of the products.
    bounded
        Whether a probability gives the area its bounds.
    ledger
        Reads that failed.
    partial
        Whether more of them failed than the event tolerates.

    Raises
    ------
    RunFolderError
        If the file cannot be written.
    """
    drawn, legend = picture
    title, style = _DECISIONS[quality.decision]
    event: Any = plan.event
    # Everything that comes from outside is escaped; the drawing is ours and escapes its own labels.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("mdive.products").joinpath("report.html.j2").read_text(encoding="utf-8"))
    text = template.render(
        title=event.get("description") or plan.event_class["title"],
        event=event,
        kind=plan.event_class["name"],
        window=f"{event['window']['start'][:10]} to {event['window']['end'][:10]}",
        plan=plan,
        quality=quality,
        provenance=provenance,
        catalog=plan.catalog,
        partial=partial,
        bounded=bounded,
        failed=len({(r["source"], r["item"], r["band"]) for r in ledger}),
        seeks=any(c.role == "event" for c in specs["extent"].classes),
        decision=title,
        decision_style=style,
        unseen=sum(quality.unobserved.values()),
        where=_where(plan.grid),
        picture=Markup(drawn),  # noqa: S704 - made of numbers alone
        legend=legend,
        titles={c.name: c.title for c in specs["extent"].classes},
        causes={name: label for _, name, label in CAUSES},
        references=plan.algorithm.references,
        drawing=Markup(pipeline_picture(plan.pipeline)),  # noqa: S704 - escaped where it is made
        ledger=list(ledger)[:LEDGER_ROWS],
        km2=lambda m2: f"{m2 / 1e6:,.2f}" if m2 < 1e9 else f"{m2 / 1e6:,.0f}",
        percent=lambda share: f"{share:.1%}",
    )
    with staged(path) as part:
        part.write_text(text, encoding="utf-8")


def _where(grid: Grid) -> str:
    """Return the place of a grid in words: its centre, CRS and pixel."""
    crs = CRS.from_user_input(grid.crs)
    x, y = grid.x0 + grid.resolution * grid.shape[1] / 2, grid.y0 - grid.resolution * grid.shape[0] / 2
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    unit = "°" if crs.is_geographic else " m"
    code = grid.crs if grid.crs.startswith("EPSG:") else crs.name
    return f"Centre {abs(lat):.4f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.4f}° {'E' if lon >= 0 else 'W'} · {code}, pixels of {grid.resolution:g}{unit} · north is up"
