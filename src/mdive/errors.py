"""Every error that mdive raises on purpose: one tree, two lines each (what happened; what to do).

All of them survive pickling, because they cross process borders.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BAD_INPUT = 3
EXIT_NO_DATA = 4
EXIT_PARTIAL = 5
EXIT_INTERRUPTED = 130


class MdiveError(Exception):
    """Base of all errors of mdive.

    Parameters
    ----------
    message
        What was asked and what there is, in one sentence.
    hint
        What to do about it, in one sentence.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(MdiveError):
    """A command or function was called in a way that cannot mean anything."""

    exit_code = EXIT_USAGE


class InputError(MdiveError):
    """A document, area, window or parameter that the user gave is wrong."""

    exit_code = EXIT_BAD_INPUT


class NoDataError(MdiveError):
    """The catalogue holds nothing that could answer the question."""

    exit_code = EXIT_NO_DATA


class PluginError(MdiveError):
    """A plugin is missing, broken, or clashes with another."""

    exit_code = EXIT_BAD_INPUT


class CatalogError(MdiveError):
    """A catalogue could not be searched."""


class RunFolderError(MdiveError):
    """A run folder is missing, foreign, damaged, locked or cannot be written."""


class KernelError(MdiveError):
    """An operation broke its own declaration (shape, dtype, locality)."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
