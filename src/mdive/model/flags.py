"""The words for why a pixel is not what it seems: one table for the cause plane, the qc layer, the report and the STAC item."""

from __future__ import annotations

from typing import Final

QC_FLAGS: Final[dict[str, int]] = {
    "nodata": 1 << 0,
    "cloud": 1 << 1,
    "shadow": 1 << 2,
    "snow": 1 << 3,
    "layover_shadow": 1 << 4,
    "incidence": 1 << 5,
    "terrain_shadow": 1 << 6,
    "hand_excluded": 1 << 7,
    "permanent_water": 1 << 8,
    "edge_contaminated": 1 << 9,
    "threshold_fallback": 1 << 10,
    "insufficient_background": 1 << 11,
    "offset_suspect": 1 << 12,
    "low_n_obs": 1 << 13,
    "conflict": 1 << 14,
    "read_failure": 1 << 15,
}
"""Bit of each flag in ``qc`` (uint16), in the order of SCIENCE §1.3; ``read_failure`` takes the last bit."""

UNOBSERVED: Final[int] = QC_FLAGS["nodata"] | QC_FLAGS["cloud"] | QC_FLAGS["shadow"] | QC_FLAGS["layover_shadow"] | QC_FLAGS["read_failure"]
"""The bits that a reader sets and that make a pixel *not observed*: it is never called dry, unburned or undamaged."""

CAUSES: Final[tuple[tuple[int, str, str], ...]] = (
    (0, "observed", "Observed"),
    (1, "no_acquisition", "No acquisition covers it"),
    (2, "nodata", "Nodata in the scene (outside the swath, border)"),
    (3, "read_failure", "The scene could not be read"),
    (4, "cloud", "Cloud"),
    (5, "shadow", "Cloud shadow"),
    (6, "layover_shadow", "Radar layover or shadow"),
    (7, "excluded", "Excluded by the method"),
)
"""Value, name and title of the ``cause`` raster (uint8): why a pixel of the class raster says nothing. 255 is outside the area."""

OUTSIDE_AREA: Final[int] = 255
"""Value of ``cause`` outside the area: nobody asked about it."""
