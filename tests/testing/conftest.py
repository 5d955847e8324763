"""Small synthetic events, written once per session."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from mdive.testing import SyntheticEvent, make_flood_event, make_wildfire_event


@pytest.fixture(scope="session")
def flood(tmp_path_factory) -> SyntheticEvent:
    static = ("dem", "occurrence")
    folder = tmp_path_factory.mktemp("flood")
    return make_flood_event(folder, seed=3, shape_px=(560, 700), sensors=("sar", "optical"), static=static, cloud=0.2, workers=2)


@pytest.fixture(scope="session")
def fire(tmp_path_factory) -> SyntheticEvent:
    return make_wildfire_event(tmp_path_factory.mktemp("fire"), seed=3, shape_px=(600, 600), static=("dem", "landcover"), workers=2)


@pytest.fixture(scope="session")
def band():
    """Return a function that reads one file of an event (by stem) as an array."""

    def read(event: SyntheticEvent, stem: str) -> np.ndarray:
        with rasterio.open(event.folder / f"{stem}.tif") as file:
            return file.read(1)

    return read


@pytest.fixture(scope="session")
def f1():
    """Return a function (mapped, true, counted) -> F1: written without the package's own score."""

    def compute(mapped: np.ndarray, true: np.ndarray, counted: np.ndarray) -> float:
        hit = np.count_nonzero(mapped & true & counted)
        return 2 * hit / (np.count_nonzero(mapped & counted) + np.count_nonzero(true & counted))

    return compute
