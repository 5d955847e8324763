"""From a recipe, what one kind of event is, to its files: truth, scenes, catalogue and event document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdive.pipeline.window import Window
from mdive.testing import _catalog as stac
from mdive.testing._cover import COVER_NAMES, Cover
from mdive.testing._landscape import Land
from mdive.testing._raster import Layer, Planes, write_layers
from mdive.testing._scenes import COLLECTIONS, OUTSIDE, Counts, static_scenes
from mdive.testing._setting import Setting, SyntheticEvent

_PLANE_OF = {"dem": "terrain"}
"""Further truth that a static layer of another name is."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one kind of event is made from."""

    event_class: str
    title: str
    window: tuple[str, str]
    baseline: tuple[str, str] | None
    """First and last day of each."""
    layers: Mapping[str, Layer]
    """What can be written beside the scenes, by name; ``truth`` always is."""
    scenes: Sequence[stac.Scene]
    compute: Callable[[Window], Planes]
    """The planes of all layers and scenes; outside the area the truth is masked afterwards."""


def make_event(setting: Setting, recipe: Recipe, layers: Sequence[str], static: Sequence[str]) -> SyntheticEvent:
    """Write the files of an event.

    Parameters
    ----------
    setting
        Where and on which grid.
    recipe
        What happens there.
    layers
        Names of the further truth to write.
    static
        Names of the layers that the catalogue offers.
    """
    sources = {name: _PLANE_OF.get(name, name) for name in static}
    files = {name: layer for name, layer in recipe.layers.items() if name in {"truth", *layers, *sources.values()}}
    area, folder = setting.area, setting.folder

    def compute(window: Window) -> Planes:
        planes = recipe.compute(window)
        return {**planes, "truth": np.where(area.window(window), planes["truth"], np.uint8(OUTSIDE))}

    counts = Counts(recipe.scenes)
    write_layers(
        [*files.values(), *(layer for scene in recipe.scenes for layer in scene.layers.values())],
        setting.grid,
        compute,
        workers=setting.workers,
        observe=counts,
    )
    id_, title = f"synthetic-{recipe.event_class}-{setting.seed}", f"{recipe.title}, seed {setting.seed}"
    stac.write_event(
        folder / "event.yaml",
        id_=id_,
        event_class=recipe.event_class,
        description=title,
        bbox=setting.bbox,
        window=recipe.window,
        baseline=recipe.baseline,
        resolution=setting.grid.resolution,
    )
    offered = [*counts.told(recipe.scenes), *static_scenes(setting, {name: files[source] for name, source in sources.items()})]
    return SyntheticEvent(
        folder=folder,
        event=folder / "event.yaml",
        catalog=stac.write_catalog(folder, id_, title, setting.grid, offered, COLLECTIONS),
        truth=files["truth"].path,
        layers={name: layer.path for name, layer in files.items() if name != "truth"},
        grid=setting.grid,
        bbox=setting.bbox,
        seed=setting.seed,
        event_share=counts.event_share,
    )


def truth_layer(setting: Setting, description: str, flags: Sequence[tuple[int, str]]) -> Layer:
    """Return the layer that the score is taken against; outside the area it knows nothing."""
    table = (*flags, (OUTSIDE, "unknown"))
    return Layer(setting.folder / "truth.tif", "truth", "uint8", description, setting.whole, OUTSIDE, overview="mode", flags=table)


def ground_layers(setting: Setting) -> dict[str, Layer]:
    """Return the layers of the ground itself: its elevation (m) and its cover."""
    here, whole, names = setting.folder, setting.whole, tuple(COVER_NAMES.items())
    cover = Layer(here / "landcover.tif", "landcover", "uint8", "Land cover, WorldCover codes", whole, 0, overview="mode", flags=names)
    return {
        "terrain": Layer(here / "terrain.tif", "terrain", "float32", "Elevation of the ground", whole, unit="m", overview="average"),
        "landcover": cover,
    }


def ground_planes(land: Land, ground: Cover) -> dict[str, NDArray[Any]]:
    """Return the planes of ``ground_layers``; elevations in steps of 1/128 m compress well and are exact in float32."""
    return {"terrain": np.round(land.elevation * 128) / np.float32(128), "landcover": ground.code}
