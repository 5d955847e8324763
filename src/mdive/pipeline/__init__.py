"""The heart: operations on whole rasters, the graph they make, and its exact evaluation tile by tile. Knows no STAC, file or hazard."""

from mdive.pipeline.locality import Focal, Global, Local, Reduction, add
from mdive.pipeline.operation import Node, Operation, load_node, operation
from mdive.pipeline.window import Tiles, Window

__all__ = ["Focal", "Global", "Local", "Node", "Operation", "Reduction", "Tiles", "Window", "add", "load_node", "operation"]
