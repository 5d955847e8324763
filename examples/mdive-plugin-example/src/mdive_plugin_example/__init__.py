"""Snow cover after a snowfall: an example of a plugin for mdive."""

from pathlib import Path

from mdive.plugins import hookimpl

mdive_api = 1


@hookimpl
def mdive_algorithms() -> dict[str, str]:
    """Tell mdive what this package can compute; a module is imported when its algorithm is used."""
    return {
        "snow.ndsi": "mdive_plugin_example.pointwise:ndsi",
        "snow.patches": "mdive_plugin_example.whole_area:patches",
    }


@hookimpl
def mdive_event_classes() -> list[Path]:
    """Tell mdive what it is for."""
    return [Path(__file__).parent / "snow_cover.yaml"]
