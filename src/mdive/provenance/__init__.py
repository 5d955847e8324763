"""What a result was made from."""

from __future__ import annotations

from typing import Any

from mdive.model.plan import Plan


def read_inputs(plan: Plan) -> list[dict[str, Any]]:
    """Return one entry per raster that a plan reads, sorted by (item, band): the fields of ``InputEntity``.

    What a derived band was made from stands for it.
    """
    made = {f"{plan.algorithm.name}/static" for plan in plan.derived}
    entries = [entry for derived in plan.derived for entry in read_inputs(derived)]
    entries += [
        {
            "item": item.id,
            "collection": item.collection,
            "band": band,
            "href": asset.href,
            "datetime": item.datetime,
            "checksum": asset.checksum,
        }
        for source in plan.sources
        if source.key not in made
        for item in source.items
        for band, asset in item.assets.items()
    ]
    unique = {(e["item"], e["band"]): e for e in entries}
    return [unique[key] for key in sorted(unique)]
