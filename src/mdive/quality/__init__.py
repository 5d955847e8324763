"""How good a result is."""

from mdive.quality.assess import FAILED_READS, HIGH_PROBABILITY, LOW_PROBABILITY, Evidence, assess

__all__ = ["FAILED_READS", "HIGH_PROBABILITY", "LOW_PROBABILITY", "Evidence", "assess"]
