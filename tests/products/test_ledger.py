"""The ledger: a fixed schema, one order, no secrets; empty is valid."""

from __future__ import annotations

import hashlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdive.errors import RunFolderError
from mdive.products import read_ledger, write_ledger
from mdive.products.ledger import SCHEMA


def row(**changes):
    return {
        "pass": 0,
        "tile": 3,
        "source": "s/post",
        "item": "i1",
        "band": "green",
        "href": "https://x.org/a.tif",
        "row": 0,
        "col": 512,
        "height": 512,
        "width": 512,
        "cause": "truncated",
        "message": "read failed",
        "attempts": 3,
        "pixels": 17,
    } | changes


def test_rows_come_back_sorted_whatever_their_order(tmp_path):
    rows = [row(**{"pass": p, "tile": t, "item": i}) for p in (0, 1) for t in (2, 10) for i in ("a", "b", None)]
    sums = set()
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        assert write_ledger(tmp_path / "ledger.parquet", iter(rows)) == 12
        sums.add(hashlib.sha256((tmp_path / "ledger.parquet").read_bytes()).hexdigest())
    assert len(sums) == 1
    found = read_ledger(tmp_path / "ledger.parquet")
    assert [(r["pass"], r["tile"], r["item"]) for r in found] == [(p, t, i) for p in (0, 1) for t in (2, 10) for i in (None, "a", "b")]
    assert found[1] == row(tile=2, item="a")


def test_an_empty_ledger_is_a_file_of_the_same_schema(tmp_path):
    assert write_ledger(tmp_path / "ledger.parquet", []) == 0
    assert read_ledger(tmp_path / "ledger.parquet") == []
    assert pq.read_schema(tmp_path / "ledger.parquet").equals(SCHEMA)


def test_no_secret_is_kept(tmp_path):
    path = tmp_path / "ledger.parquet"
    write_ledger(path, [row(href="https://u:CANARY@x.org/a.tif?sig=CANARY", message="403 for https://x.org/a.tif?sig=CANARY")])
    assert b"CANARY" not in path.read_bytes()
    assert read_ledger(path)[0]["href"] == "https://x.org/a.tif"
    assert read_ledger(path)[0]["message"] == "403 for https://x.org/a.tif"


def test_an_unknown_field_is_a_fault_of_the_caller(tmp_path):
    with pytest.raises(KeyError, match="colour"):
        write_ledger(tmp_path / "ledger.parquet", [row(colour="red")])
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_ledger_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_ledger(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_ledger(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(RunFolderError, match="is no ledger"):
        read_ledger(tmp_path / "other.parquet")
