"""The pictures of the report: what is drawn is what the rasters say."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from rasterio import MemoryFile

from mdive.model.plan import Pipeline, PipelineNode
from mdive.products.drawing import map_picture, pipeline_picture

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def drawn(tmp_path, specs, make_grid, save):
    def make(extent, cause):
        grid = make_grid(extent.shape)
        paths = [save(tmp_path / f"{n}.tif", getattr(specs, n), grid, a) for n, a in (("extent", extent), ("cause", cause))]
        picture, legend = map_picture(paths[0], specs.extent, grid, cause=paths[1])
        ET.fromstring(picture)
        png = base64.b64decode(re.search(r'href="data:image/png;base64,([^"]+)"', picture)[1])
        with MemoryFile(png) as file, file.open() as dataset:
            return np.moveaxis(dataset.read(), 0, 2).astype(int), legend

    return make


def colour(picture, row, col):
    """Colour at a place given as shares of the picture."""
    return tuple(picture[int(row * picture.shape[0]), int(col * picture.shape[1])])


def test_classes_have_their_colours_and_places(drawn):
    extent = np.zeros((400, 600), np.uint8)
    extent[:200, :300] = 1
    extent[200:, 300:] = 253
    picture, legend = drawn(extent, np.where(extent == 253, 4, 0).astype(np.uint8))
    assert colour(picture, 0.3, 0.2) == (0x05, 0x71, 0xB0)
    assert colour(picture, 0.7, 0.7) == (0x99, 0x99, 0x99)
    assert [e.name for e in legend] == ["not_affected", "affected", "cloud"]
    assert picture.shape[1] / picture.shape[0] == pytest.approx(1.5, abs=0.01)


def test_outside_the_area_is_white_and_in_no_legend(drawn):
    extent = np.full((300, 300), 255, np.uint8)
    extent[:, :150] = 1
    picture, legend = drawn(extent, np.where(extent == 255, 255, 0).astype(np.uint8))
    assert colour(picture, 0.5, 0.75) == (255, 255, 255)
    assert [e.name for e in legend] == ["affected"]


def test_a_raster_larger_than_the_picture_is_drawn_whole(drawn):
    extent = np.zeros((3000, 2000), np.uint8)
    extent[1500:] = 1
    picture, _ = drawn(extent, np.zeros_like(extent))
    assert max(picture.shape) < 2500
    assert colour(picture, 0.4, 0.5) == (255, 255, 255)
    assert colour(picture, 0.6, 0.5) == (0x05, 0x71, 0xB0)


def test_every_step_of_the_pipeline_is_drawn_and_escaped():
    nodes = (
        PipelineNode(id="a", operation="src/post:<b>", locality="load", dtype="float32", inputs=()),
        PipelineNode(id="b", operation="m:smooth", locality="focal", dtype="float32", inputs=("a",)),
        PipelineNode(id="c", operation="m:difference", locality="local", dtype="float32", inputs=("a", "b")),
    )
    root = ET.fromstring(pipeline_picture(Pipeline(nodes=nodes, outputs={"extent": "c"})))
    space = "{http://www.w3.org/2000/svg}"
    assert [t.text for t in root.iter(f"{space}text")] == ["src/post:<b>", "smooth", "difference"]
    assert len(list(root.iter(f"{space}path"))) == 3
    assert any("extent" in t.text for t in root.iter(f"{space}title"))
