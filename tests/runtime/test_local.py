"""Tasks in, outcomes out: each once, bounded, failures as data."""

import threading
import time

import pytest

from mdive.errors import UsageError
from mdive.runtime import Serial, Task, Threads, serial, threads


def double(x):
    if x == 3:
        raise ValueError("three")
    return 2 * x


@pytest.fixture(params=[Serial, lambda: Threads(1), lambda: Threads(4)], ids=["serial", "threads-1", "threads-4"])
def runtime(request):
    return request.param()


def test_each_task_once_and_failures_are_outcomes(runtime):
    with runtime:
        outcomes = {o.key: o for o in runtime.run(Task(str(i), double, (i,)) for i in range(8))}
    assert sorted(outcomes) == [str(i) for i in range(8)]
    assert [outcomes[str(i)].value for i in range(8) if i != 3] == [0, 2, 4, 8, 10, 12, 14]
    assert isinstance(outcomes["3"].error, ValueError)
    assert "double" in outcomes["3"].trace


def test_works_without_being_entered(runtime):
    assert {o.value for o in runtime.run([Task("a", double, (1,))])} == {2}


def test_a_long_list_of_tasks_is_never_held():
    pulled, seen = [], []

    def tasks():
        for i in range(100):
            pulled.append(i)
            yield Task(str(i), double, (5,))

    with Threads(3) as runtime:
        for outcome in runtime.run(tasks()):
            seen.append(outcome)
            assert len(pulled) <= len(seen) + 3 + 3


def test_stopping_early_starts_nothing_more_and_ends_what_runs():
    started, ended = [], []
    gate = threading.Event()

    def work(i):
        started.append(i)
        gate.wait(5)
        time.sleep(0.01)
        ended.append(i)

    with Threads(2) as runtime:
        stream = runtime.run([Task("first", double, (1,)), *(Task(str(i), work, (i,)) for i in range(20))])
        next(stream)
        gate.set()
        stream.close()
        after = len(started)
    assert after == len(started) <= 6
    assert sorted(started) == sorted(ended)


def test_factories():
    assert serial().workers == 1
    assert threads(3).workers == 3
    assert threads().workers >= 1
    with pytest.raises(UsageError, match="at least one"):
        Threads(0)
