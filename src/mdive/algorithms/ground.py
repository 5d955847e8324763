"""How large a pixel is on the ground; see :mod:`mdive.pipeline.ground`, where depths in metres need it, too."""

from mdive.pipeline.ground import least_pixels, pixel_areas, pixel_metres, pixel_sizes

__all__ = ["least_pixels", "pixel_areas", "pixel_metres", "pixel_sizes"]
