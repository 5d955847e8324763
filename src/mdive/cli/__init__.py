"""The command line: stdout is data, stderr is talk, and the exit code says how it went."""

from mdive.cli.app import main

__all__ = ["main"]
