"""Checks for hidden state: the same result a second time, and in another process with another hash seed.

Run as a module it is that other process: requests come on stdin, answers go to stdout, one pickle each.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
from functools import lru_cache
from typing import IO, Any, Final

from mdive.testing._conformance_report import CheckFailed, NotChecked
from mdive.testing._conformance_subject import Subject, Trial, same

HASH_SEED: Final = "20260117"
"""Another one than this process has, which is random, or 0 in tests: the order of sets and dicts of hashes differs."""

_WHY: Final = (
    "Keep nothing between calls, draw no random numbers (use a hash of seed and pixel index instead), read no clock, and sort what comes "
    "from a set."
)


def deterministic(subject: Subject) -> None:
    """Check that computed twice, also after other rasters, it gives the same bits."""
    for trial in subject.trials:
        again = trial.compute()
        if bad := [name for name, want in trial.whole.items() if not same(want, again[name])]:
            raise CheckFailed(
                f"{subject.name!r} depends on its rasters and parameters alone.",
                f"computed a second time on rasters {trial.title!r}, {', '.join(map(repr, bad))} differs.",
                _WHY,
            )


def same_in_another_process(subject: Subject) -> None:
    """Check that a fresh process with another hash seed builds the same pipeline and gives the same bits."""
    for trial in subject.trials[:2]:
        if any(not same(want, trial.compute()[name]) for name, want in trial.whole.items()):
            raise NotChecked(f"{subject.name} gives another result each time: see its check 'deterministic'")
        answer = _ask(subject, trial)
        if isinstance(answer, str):
            raise CheckFailed(
                f"{subject.name!r} computes in another process.",
                answer,
                "Let its module be importable by its name, and need nothing that this process did before.",
            )
        keys, values = answer
        if keys != {name: node.key for name, node in trial.traced[0].items()}:
            raise CheckFailed(f"{subject.name!r} builds the same pipeline in every process.", "it builds another one there.", _WHY)
        if bad := [name for name, want in trial.whole.items() if not same(want, values[name])]:
            raise CheckFailed(
                f"{subject.name!r} depends on its rasters and parameters alone.",
                f"in another process, {', '.join(map(repr, bad))} differs (rasters {trial.title!r}).",
                _WHY,
            )


def _ask(subject: Subject, trial: Trial) -> Any:
    try:
        body = pickle.dumps((subject.target, trial.data, trial.parameters))
    except Exception as error:
        raise NotChecked(f"{subject.name} does not pickle: see its check 'pickles'") from error
    process = _other_process()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump((sys.path, body), process.stdin)
        process.stdin.flush()
        return pickle.load(process.stdout)  # noqa: S301 - our own process
    except (OSError, EOFError) as error:
        _other_process.cache_clear()
        return f"that process ended ({process.poll()}): {error}"


@lru_cache(maxsize=1)
def _other_process() -> subprocess.Popen[bytes]:
    """Start the process that all checks share: importing everything takes it seconds."""
    environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
    process = subprocess.Popen(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _answer(path: list[str], body: bytes) -> Any:
    sys.path[:] = path
    try:
        target, data, parameters = pickle.loads(body)  # noqa: S301 - of the process that started this one
        trial = Trial("there", target, data, parameters)
        return {name: node.key for name, node in trial.traced[0].items()}, trial.whole
    except Exception as error:  # noqa: BLE001 - whatever it is, the asking process has to hear it
        return f"{type(error).__name__}: {error}"


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there is nothing more to read."""
    while True:
        try:
            path, body = pickle.load(requests)  # noqa: S301 - of the process that started this one
        except EOFError:
            return
        pickle.dump(_answer(path, body), answers)
        answers.flush()


if __name__ == "__main__":
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What kernels print must not get between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, out)
