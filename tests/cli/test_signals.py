"""Stopped by a person or by a queue: the exit code says which, two lines say what to do, and the run goes on from there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from mdive.testing import make_flood_event

MDIVE = [sys.executable, "-m", "mdive"]


@pytest.mark.parametrize(("sent", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_stopped_run_says_so_and_goes_on(tmp_path, sent, code, word):
    made = make_flood_event(tmp_path / "event", seed=4, size_km=6.0)
    out = tmp_path / "out"
    command = [*MDIVE, "run", "--event", made.event, "--catalog", made.catalog, "--out", out, "--tile-size", "64", "--workers", "1"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    patience = time.monotonic() + 60
    while not list(out.glob(".scratch/p0-t*")) and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.01)
    process.send_signal(sent)
    said, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    assert said == ""
    assert len(told.strip().splitlines()) == 2, told
    assert word in told
    assert "mdive resume" in told
    assert not (out / "manifest.json").exists()
    done = len(list(out.glob(".scratch/p0-t*.mdt")))
    assert done > 0
    again = subprocess.run([*MDIVE, "resume", str(out)], capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr


def test_a_level_that_no_log_has():
    said = subprocess.run(
        [*MDIVE, "algorithms"], capture_output=True, text=True, check=False, env={"MDIVE_LOG": "chatty", "PATH": "/usr/bin"}
    )
    assert said.returncode == 2
    assert len(said.stderr.strip().splitlines()) == 2
    assert "MDIVE_LOG=chatty" in said.stderr
