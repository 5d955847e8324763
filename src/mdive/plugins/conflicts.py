"""Names that several plugins claim: nobody may win by being first, so each is told with its owners and the ways out."""

from __future__ import annotations

from dataclasses import dataclass

from mdive.errors import PluginError
from mdive.plugins.offers import Plugin

GROUP = "mdive"
"""Entry-point group, and pluggy's project name."""

BUILTIN = "builtin"
"""Entry point of mdive's own plugin, which cannot be switched off."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A name that several plugins claim: nobody gets it until one of them goes."""

    noun: str
    name: str
    owners: tuple[Plugin, ...]
    places: tuple[str, ...] = ()
    """Where each owner has it, if that says more."""

    def __str__(self) -> str:
        owners = [f"{place} of {owner}" for place, owner in zip(self.places, self.owners, strict=True)] if self.places else self.owners
        return f"{self.noun} {self.name!r} has {len(owners)} owners: {' and '.join(map(str, owners))}."

    @property
    def way_out(self) -> str:
        """What to do about it."""
        removable = [plugin for plugin in dict.fromkeys(self.owners) if not is_builtin(plugin)]
        if len(set(self.owners)) == 1:
            return f"Report this to the authors of {self.owners[0].package}."
        ways = " or ".join(f"MDIVE_DISABLE_PLUGINS={plugin.name}" for plugin in removable)
        return f"Uninstall {' or '.join(plugin.package for plugin in removable)}, or switch one off with {ways}."

    def error(self) -> PluginError:
        """Return the error for whoever asks for the name."""
        return PluginError(str(self), self.way_out)


def is_builtin(plugin: Plugin) -> bool:
    """Whether it is mdive's own plugin."""
    return plugin.name == BUILTIN and plugin.package == GROUP
