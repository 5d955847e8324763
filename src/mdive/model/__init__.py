"""Documents: frozen values that can be written by hand, printed, saved, validated and hashed."""

from mdive.model.area import Area
from mdive.model.base import Document, canonical_json, digest
from mdive.model.datasource import Datasource
from mdive.model.event import Event, load_event
from mdive.model.event_class import EventClass
from mdive.model.intent import Intent
from mdive.model.load import dump_document, load_document, load_mapping
from mdive.model.manifest import Manifest, ProductFile
from mdive.model.plan import Pipeline, Plan
from mdive.model.product import RasterSpec
from mdive.model.provenance import Provenance
from mdive.model.quality import Quality
from mdive.model.timewindow import Baseline, TimeWindow, parse_duration

__all__ = [
    "Area",
    "Baseline",
    "Datasource",
    "Document",
    "Event",
    "EventClass",
    "Intent",
    "Manifest",
    "Pipeline",
    "Plan",
    "ProductFile",
    "Provenance",
    "Quality",
    "RasterSpec",
    "TimeWindow",
    "canonical_json",
    "digest",
    "dump_document",
    "load_document",
    "load_event",
    "load_mapping",
    "parse_duration",
]
