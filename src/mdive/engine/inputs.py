"""Check the files of a plan before a run: those that are not what their catalogue says are not read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mdive.cube.checking import fault_of
from mdive.engine.derive import is_derived
from mdive.engine.progress import Progress, Watcher
from mdive.model.plan import AssetRef, Fault, Plan, Reason

AT_ONCE: Final = 4
"""Files that are checked at once; each holds one piece."""


def verified(plan: Plan, watch: Watcher) -> Plan:
    """Return a plan whose files have been compared with their checksums and sizes.

    Parameters
    ----------
    plan
        What will be run.
    watch
        Called with ``Progress`` events.

    Returns
    -------
    The same plan; assets that failed the check carry a `Fault`, with which they fail when they are read. A reason says how many files were
    compared, how many differ, and how many could not be compared because the catalogue tells nothing of them.
    """
    files: dict[tuple[str, str | None, int | None], tuple[AssetRef, str | None]] = {}
    for source in (s for s in plan.sources if not is_derived(s)):
        for item in source.items:
            for asset in item.assets.values():
                files.setdefault(_file(asset), (asset, item.href))
    told = {key: file for key, file in files.items() if key[1] is not None or key[2] is not None}
    faults: dict[tuple[str, str | None, int | None], Fault] = {}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mdive-verify") as pool:
        for done, (key, fault) in enumerate(zip(told, pool.map(lambda file: fault_of(*file), told.values()), strict=True), 1):
            if fault is not None:
                faults[key] = fault
            watch(Progress("inputs", done, len(told), "checksums of the inputs"))

    def marked(asset: AssetRef) -> AssetRef:
        fault = faults.get(_file(asset))
        return asset if fault is None else asset.model_copy(update={"fault": fault})

    sources = tuple(
        source.model_copy(
            update={
                "items": tuple(
                    item.model_copy(update={"assets": {band: marked(asset) for band, asset in item.assets.items()}})
                    for item in source.items
                )
            }
        )
        for source in plan.sources
    )
    hashed, sized = sum(key[1] is not None for key in told), sum(key[1] is None for key in told)
    text = f"of {len(files)} files, {hashed} were compared with their checksum and {sized} with their size alone; {len(faults)} failed"
    text += f"; {len(files) - len(told)} could not be compared: their catalogue tells neither." if len(files) > len(told) else "."
    return plan.model_copy(update={"sources": sources, "reasons": (*plan.reasons, Reason(topic="inputs", text=text))})


def _file(asset: AssetRef) -> tuple[str, str | None, int | None]:
    return asset.href, asset.checksum, asset.size
