"""All that a plugin author imports, and the registry that the rest of mdive asks."""

from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.model.product import ClassEntry, FlagEntry, RasterSpec
from mdive.pipeline import Focal, Global, Local, Reduction, Window, add, operation
from mdive.pipeline.ground import least_pixels, pixel_areas, pixel_metres, pixel_sizes, pixels_within
from mdive.plugins.declare import AlgorithmSpec, Bundle, Decibels, Fraction, Hectares, Metres, algorithm
from mdive.plugins.hookspecs import MDIVE_API, hookimpl
from mdive.plugins.registry import (
    algorithm_spec,
    algorithms,
    event_class,
    event_classes,
    providers,
    runtime_factory,
    runtimes,
    writer,
    writers,
)

__all__ = [
    "MDIVE_API",
    "QC_FLAGS",
    "UNOBSERVED",
    "AlgorithmSpec",
    "Bundle",
    "ClassEntry",
    "Decibels",
    "FlagEntry",
    "Focal",
    "Fraction",
    "Global",
    "Hectares",
    "Local",
    "Metres",
    "RasterSpec",
    "Reduction",
    "Window",
    "add",
    "algorithm",
    "algorithm_spec",
    "algorithms",
    "event_class",
    "event_classes",
    "hookimpl",
    "least_pixels",
    "operation",
    "pixel_areas",
    "pixel_metres",
    "pixel_sizes",
    "pixels_within",
    "providers",
    "runtime_factory",
    "runtimes",
    "writer",
    "writers",
]
