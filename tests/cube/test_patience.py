"""How much a process bears: with a clock that the tests turn."""

from __future__ import annotations

import pytest

from mdive.cube.patience import COOL_DOWN, EARNED, FAILURES, STREAK_SECONDS, Patience


@pytest.fixture
def clock():
    class Clock:
        now = 100.0
        slept: list[float]

        def sleep(self, seconds):
            self.slept.append(seconds)
            self.now += seconds

    made = Clock()
    made.slept = []
    return made


@pytest.fixture
def patience(clock):
    return Patience(3, clock=lambda: clock.now, sleep=clock.sleep)


def fail(patience, clock, times, *, over):
    for n in range(times):
        if n:
            clock.now += over / (times - 1)
        patience.silent("h")


def test_a_host_is_down_after_a_streak(patience, clock):
    fail(patience, clock, FAILURES - 1, over=STREAK_SECONDS + 1)
    assert patience.admits("h")
    patience.silent("h")
    assert not patience.admits("h")
    assert patience.admits("other")


def test_many_failures_at_one_moment_are_one_event(patience, clock):
    fail(patience, clock, 10 * FAILURES, over=STREAK_SECONDS - 0.1)
    assert patience.admits("h")
    clock.now += 0.2
    patience.silent("h")
    assert not patience.admits("h")


def test_an_answer_ends_the_streak(patience, clock):
    fail(patience, clock, FAILURES - 1, over=STREAK_SECONDS + 1)
    patience.answered("h")
    fail(patience, clock, FAILURES - 1, over=STREAK_SECONDS + 1)
    assert patience.admits("h")


def test_one_probe_after_the_cool_down(patience, clock):
    fail(patience, clock, FAILURES, over=STREAK_SECONDS + 1)
    clock.now += COOL_DOWN - 0.1
    assert not patience.admits("h")
    clock.now += 0.1
    assert patience.admits("h")
    assert not patience.admits("h")
    patience.silent("h")  # the probe failed: closed at once, without another streak
    clock.now += COOL_DOWN - 0.1
    assert not patience.admits("h")
    clock.now += 0.1
    assert patience.admits("h")
    patience.answered("h")
    assert patience.admits("h")
    assert patience.admits("h")


def test_a_probe_that_never_reports_does_not_close_the_host_for_ever(patience, clock):
    fail(patience, clock, FAILURES, over=STREAK_SECONDS + 1)
    clock.now += COOL_DOWN
    assert patience.admits("h")
    clock.now += COOL_DOWN
    assert patience.admits("h")


def test_pauses_are_bounded_and_earned_back(patience, clock):
    assert [patience.pause(s) for s in (1.0, 2.0, 3.0, 4.0)] == [True, True, True, False]
    assert clock.slept == [1.0, 2.0, 3.0]
    for _ in range(round(1 / EARNED) + 1):
        patience.served()
    assert [patience.pause(5.0), patience.pause(5.0)] == [True, False]


def test_earning_never_exceeds_the_budget(patience):
    for _ in range(1000):
        patience.served()
    assert [patience.pause(0.0) for _ in range(4)] == [True, True, True, False]
