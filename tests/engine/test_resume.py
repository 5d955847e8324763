"""Kill it at any moment: resume gives the same bytes, and nothing looks complete that is not."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import mdive
from mdive.engine.folder import locked
from mdive.errors import RunFolderError
from mdive.products import write_json_atomic


def start(flood, out):
    command = [sys.executable, "-m", "mdive", "run", "--event", str(flood.made.event), "--catalog", flood.catalog, "--out", str(out)]
    return subprocess.Popen([*command, "--tile-size", "128", "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_run_resumes_to_the_same_bytes(flood, calm, shas, tmp_path, seed):
    out = tmp_path / "run"
    process = start(flood, out)
    while process.poll() is None and not (out / ".scratch").exists():
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0.0, 4.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    complete = (out / "manifest.json").exists()
    if not complete:
        with pytest.raises(RunFolderError, match="no result"):
            mdive.open_run(out)
        with pytest.raises(RunFolderError, match="did not finish"):
            mdive.run(calm.plan, out)
    report = mdive.resume(out)
    assert shas(report.folder) == calm.shas
    assert not (out / ".scratch").exists()


def test_good_checkpoints_are_used_and_bad_ones_set_aside(calm, shas, tmp_path, monkeypatch):
    from mdive.engine import run as engine

    out = tmp_path / "run"
    monkeypatch.setattr("mdive.engine.finish.finish", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("stop")))
    with pytest.raises(RuntimeError, match="stop"):
        mdive.run(calm.plan, out, runtime=mdive.connect("serial"))
    monkeypatch.undo()
    victims = sorted((out / ".scratch").glob("p0-t*.mdt"))[:2]
    data = bytearray(victims[0].read_bytes())
    data[len(data) // 2] ^= 1
    victims[0].write_bytes(data)
    victims[1].write_bytes(victims[1].read_bytes()[:1000])
    redone = []
    original = engine.run_tile
    monkeypatch.setattr(engine, "run_tile", lambda folder, index, tile: redone.append((index, tile)) or original(folder, index, tile))
    report = mdive.resume(out, runtime=mdive.connect("serial"))
    assert redone == [(0, 0), (0, 1)]
    assert shas(report.folder) == calm.shas


def test_a_second_run_in_one_folder_is_refused(calm, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with locked(out), pytest.raises(RunFolderError, match="another run is at work") as caught:
        mdive.run(calm.plan, out)
    assert len(str(caught.value).splitlines()) == 2
    assert not (out / "plan.json").exists()
    with pytest.raises(RunFolderError, match="finished run"):
        mdive.run(calm.plan, calm.report.folder)


def test_a_file_system_without_locks_is_no_other_run(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("mdive.engine.folder.fcntl.flock", no_locks)
    with pytest.raises(RunFolderError, match="cannot be locked: No locks available"), locked(tmp_path):
        pytest.fail("it was entered")


def test_opening_nothing_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="no result"):
        mdive.open_run(tmp_path)
    with pytest.raises(RunFolderError, match="no run"):
        mdive.resume(tmp_path)


def test_a_run_that_ended_between_its_first_two_files_is_finished(flood, calm, shas, tmp_path, monkeypatch):
    plan = mdive.plan(flood.event, catalog=flood.catalog, tile_size=128)
    written = []

    def write(path, document):
        written.append(path.name)
        if len(written) == 2:
            raise KeyboardInterrupt
        write_json_atomic(path, document)

    monkeypatch.setattr("mdive.engine.run.write_json_atomic", write)
    with pytest.raises(KeyboardInterrupt):
        mdive.run(plan, tmp_path / "run", runtime=mdive.connect("serial"))
    assert written == ["plan.json", "event.json"]
    monkeypatch.undo()
    report = mdive.resume(tmp_path / "run", runtime=mdive.connect("serial"))
    assert shas(report.folder) == calm.shas
    assert json.loads((report.folder / "event.json").read_text()) == plan.event
