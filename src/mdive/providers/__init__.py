"""Event to candidate sources: which catalogues there are, what they offer, and how its numbers become physical quantities."""

from mdive.providers._candidates import Candidates, candidates
from mdive.providers._catalog import Catalog
from mdive.providers._items import Rejection
from mdive.providers._library import describe_providers, provider, provider_names
from mdive.providers._open import DEFAULT_PROVIDER, open_catalog
from mdive.providers._sources import SourceFacts

__all__ = [
    "DEFAULT_PROVIDER",
    "Candidates",
    "Catalog",
    "Rejection",
    "SourceFacts",
    "candidates",
    "describe_providers",
    "open_catalog",
    "provider",
    "provider_names",
]
