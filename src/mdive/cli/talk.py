"""What the command line says to people, on stderr: messages, tables, progress."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdive.engine.progress import Progress, Watcher

LOG_INTERVAL = 30.0
"""Seconds between log lines where there is no terminal: a batch log stays short and still shows that the run is alive."""

log = logging.getLogger("mdive")


def console(*, data: bool = False) -> Any:
    """Return a rich console on stderr (or stdout, for data that is a table)."""
    from rich.console import Console

    return Console(stderr=not data, highlight=False, soft_wrap=True)


def refuse(message: str, hint: str) -> None:
    """Say in two lines what is wrong and what to do."""
    from rich.text import Text

    out = console()
    out.print(Text.assemble(("mdive: ", "bold red"), " ".join(message.splitlines())))
    if hint:
        out.print(Text("       " + " ".join(hint.splitlines()), style="dim"))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    console(data=True).print(made)


def facts(title: str, values: Mapping[str, str]) -> None:
    """Print names and values to stdout."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in values.items():
        made.add_row(name, Text(value))
    console(data=True).print(made)


@contextmanager
def progress() -> Iterator[Watcher]:
    """Yield a watcher: a bar on a terminal, a log line every 30 s elsewhere."""
    if sys.stderr.isatty():
        with _bar() as watch:
            yield watch
    else:
        yield _logger()


@contextmanager
def _bar() -> Iterator[Watcher]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def watch(event: Progress) -> None:
            bar.update(task, description=event.text if event.stage != "done" else "done", completed=event.done, total=event.total)

        yield watch


def _logger() -> Watcher:
    started = last = time.monotonic()

    def watch(event: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if event.stage == "done" or now - last >= LOG_INTERVAL:
            last = now
            log.info("%d of %d, %s (%.0f s)", event.done, event.total, event.text, now - started)

    return watch
