"""How good a result is."""

from mdive.quality.assess import HIGH_PROBABILITY, LOW_PROBABILITY, Evidence, assess

__all__ = ["HIGH_PROBABILITY", "LOW_PROBABILITY", "Evidence", "assess"]
