"""What the numbers of the products mean: read by the GeoTIFFs, their STAC item and the report alike."""

from mdive.plugins import QC_FLAGS, ClassEntry, FlagEntry, RasterSpec

NO_SNOW, SNOW, FILL = 0, 1, 255

EXTENT = RasterSpec(
    name="extent",
    long_name="Snow cover",
    dtype="uint8",
    nodata=FILL,
    classes=(
        ClassEntry(value=NO_SNOW, name="no_snow", role="background", title="No snow", color="#e9e4d4"),
        ClassEntry(value=SNOW, name="snow", role="event", title="Snow", color="#5aa9e6"),
        ClassEntry(value=FILL, name="fill", role="unobserved", title="Not observed", color="#4a4a4a"),
    ),
)
INDEX = RasterSpec(name="ndsi", long_name="Normalised difference snow index", dtype="float32", nodata="nan", scale=1e-4)
QC = RasterSpec(
    name="qc",
    long_name="Quality flags",
    dtype="uint16",
    nodata=None,
    flags=tuple(FlagEntry(mask=bit, name=name) for name, bit in QC_FLAGS.items()),
)
