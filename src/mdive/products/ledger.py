"""The ledger: every read that failed, as a table that outlives the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mdive.errors import RunFolderError
from mdive.model.address import redact, without_query
from mdive.products.files import staged, writing

SCHEMA = pa.schema(
    [
        pa.field("pass", pa.int32(), nullable=False),
        pa.field("tile", pa.int32(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("item", pa.string()),
        pa.field("band", pa.string()),
        pa.field("href", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("col", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("width", pa.int64()),
        pa.field("cause", pa.string()),
        pa.field("message", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("pixels", pa.int64()),
    ]
)
"""One row per failed read: which pass and tile asked, for what, where (pixels of the grid), why it failed, how often it was tried, and how
many pixels of the tile were lost by it. In this order rows are sorted, too."""


def write_ledger(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write the ledger; with no rows it is a valid file that says so.

    Addresses lose their query and messages their secrets on the way: a ledger is shown to others.

    Parameters
    ----------
    path
        Parquet file to write; it appears complete or not at all.
    rows
        Mappings with the fields of ``SCHEMA``; a field that is left out is null.

    Returns
    -------
    The number of rows.

    Raises
    ------
    KeyError
        A row has a field that the ledger does not know.
    RunFolderError
        The file cannot be written.
    """
    clean = sorted((_clean(row) for row in rows), key=_rank)
    with staged(path) as target, writing(path):
        # Arrow looks for pandas wherever it is given lists: 150 ms that most runs need not spend.
        table = pa.Table.from_pylist(clean, schema=SCHEMA) if clean else pa.Table.from_batches([], schema=SCHEMA)
        pq.write_table(table, target, compression="zstd")
    return len(clean)


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a ledger.

    Raises
    ------
    RunFolderError
        It is missing, no Parquet file, or has other columns.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise RunFolderError(
            f"The ledger {path} cannot be read: {error}.", "Run `mdive verify` on the folder, then `mdive resume`."
        ) from error
    if table.schema.names != SCHEMA.names:
        message = f"{path} is no ledger: its columns are {table.schema.names}."
        raise RunFolderError(message, "It was written by another program or another version of mdive.")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(row) - set(SCHEMA.names))
    if unknown:
        raise KeyError(unknown[0])
    clean = {name: row.get(name) for name in SCHEMA.names}
    if clean["href"] is not None:
        clean["href"] = without_query(clean["href"])
    if clean["message"] is not None:
        clean["message"] = redact(clean["message"])
    return clean


def _rank(row: Mapping[str, Any]) -> tuple[tuple[bool, Any], ...]:
    """Sort key over all fields, nulls first: equal ledgers give equal files."""
    return tuple((value is not None, value if value is not None else 0) for value in row.values())
