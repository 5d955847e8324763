"""Time windows: whole UTC days, zones, and the baseline."""

import pickle
from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdive.errors import InputError
from mdive.model import Baseline, TimeWindow, parse_duration
from mdive.model.timewindow import format_duration

LAST = timedelta(microseconds=1)


def test_dates_are_whole_utc_days():
    window = TimeWindow(start="2016-07-09", end="2016-07-31")
    assert window.start == datetime(2016, 7, 9, tzinfo=UTC)
    assert window.end == datetime(2016, 8, 1, tzinfo=UTC) - LAST
    assert window.duration == timedelta(days=23)
    assert window == TimeWindow(start=date(2016, 7, 9), end=date(2016, 7, 31))
    assert window.contains(datetime(2016, 7, 31, 23, 59, 59, tzinfo=UTC))
    assert not window.contains(datetime(2016, 8, 1, tzinfo=UTC))
    assert window.interval == "2016-07-09T00:00:00Z/2016-07-31T23:59:59.999999Z"


def test_one_day_is_a_window_and_leap_days_exist():
    assert TimeWindow(start="2024-02-29", end="2024-02-29").duration == timedelta(days=1)
    assert TimeWindow(start="2024-12-31", end="2025-01-01").duration == timedelta(days=2)


@pytest.mark.parametrize(
    "moment",
    ["2024-10-28T06:00Z", "2024-10-28T06:00:00Z", "2024-10-28 06:00:00Z", "2024-10-28T07:00:00+01:00", "2024-10-28T00:30:00.000000-05:30",
     datetime(2024, 10, 28, 6, tzinfo=UTC), datetime(2024, 10, 28, 7, tzinfo=timezone(timedelta(hours=1))), pd.Timestamp("2024-10-28T06:00Z")],
)  # fmt: skip
def test_times_with_a_zone_become_utc(moment):
    window = TimeWindow(start=moment, end="2024-10-29")
    assert window.start == datetime(2024, 10, 28, 6, tzinfo=UTC)
    assert window.start.tzinfo is UTC
    assert type(window.start) is datetime


def test_daylight_saving_changes_nothing():
    """The clocks of Madrid go back on 27 October 2024: 02:30 exists twice, and the offset tells which one is meant."""
    assert TimeWindow(start="2024-10-27T02:30+02:00", end="2024-10-27T02:30+01:00").duration == timedelta(hours=1) + LAST


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2024-10-28T06:00", "has no time zone"), (datetime(2024, 10, 28), "has no time zone"), (pd.Timestamp("2024-10-28"), "has no time zone"),
        ("2024-10-28T24:00Z", "not in the calendar"), ("2024-10-28T06:00:60Z", "not in the calendar"), ("2024-13-01", "not in the calendar"),
        ("20241028", "not a date or time"), ("2024-W44-1", "not a date or time"), ("2024-10", "not a date or time"), ("now", "not a date or time"),
        ("٢٠٢٤-10-28", "not a date or time"), (" 2024-10-28", "not a date or time"), ("1899-12-31", "the year 1899"), ("2200-01-01", "the year 2200"),
        ("0001-01-01T00:00+14:00", "the year 1 "), ("9999-12-31T23:59-14:00", "the year 9999"), ("1900-01-01T00:00+14:00", "the year 1899"),
        (0, "0 is not a date"), (None, "None is not a date"), (True, "True is not a date"), (pd.NaT, "NaT is not a date"), (float("nan"), "nan is not a date"),
    ],
)  # fmt: skip
def test_what_is_no_instant(value, words):
    with pytest.raises(InputError) as caught:
        TimeWindow(start=value, end="2199-12-31")
    assert words in str(caught.value)
    assert str(caught.value).startswith("start: ")
    assert str(caught.value).count("\n") == 1


def test_the_future_is_allowed():
    assert TimeWindow(start="2150-01-01", end="2150-02-01").duration == timedelta(days=32)


@pytest.mark.parametrize("pair", [("2024-11-08", "2024-10-28"), ("2024-10-28T00:00Z", "2024-10-28T00:00Z")])
def test_reversed_and_empty_windows_are_refused(pair):
    with pytest.raises(InputError, match=r"reversed|no length"):
        TimeWindow(start=pair[0], end=pair[1])


moments = st.datetimes(datetime(1901, 1, 1), datetime(2198, 1, 1), timezones=st.just(UTC))


@settings(max_examples=100, deadline=None)
@given(moments, moments)
def test_a_window_is_read_back_as_it_was(a, b):
    if a == b:
        return
    window = TimeWindow(start=min(a, b), end=max(a, b))
    assert TimeWindow.model_validate_json(window.model_dump_json()) == window
    assert pickle.loads(pickle.dumps(window)) == window
    assert TimeWindow.model_validate([window.start, window.end]) == window


@pytest.mark.parametrize(
    ("text", "length"),
    [("P60D", timedelta(60)), ("P2W", timedelta(14)), ("PT24H", timedelta(1)), ("P1DT12H30M5S", timedelta(1, 12 * 3600 + 1805)), ("PT90M", timedelta(0, 5400)),
     ("P036D", timedelta(36))],
)  # fmt: skip
def test_durations(text, length):
    assert parse_duration(text) == length
    assert parse_duration(format_duration(length)) == length


@pytest.mark.parametrize(
    "text", ["P", "PT", "P1Y", "P2M", "P1DT", "60D", "P-1D", "-P1D", "P1.5D", "p60d", "P60D ", "60", 60, None, "P0D", "PT0S", "P999999999D", "P99999999W", "P1W2D", "P٦D"]
)  # fmt: skip
def test_what_is_no_duration(text):
    with pytest.raises(InputError):
        parse_duration(text)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 36_525 * 86_400))
def test_one_text_per_duration(seconds):
    length = timedelta(seconds=seconds)
    assert parse_duration(format_duration(length)) == length


def test_a_baseline_ends_where_the_window_starts():
    window = TimeWindow(start="2024-10-28", end="2024-11-08")
    before = Baseline(before="P60D").resolve(window)
    assert before.start == datetime(2024, 8, 29, tzinfo=UTC)
    assert before.end == window.start - LAST
    assert before.duration == timedelta(days=60)
    assert Baseline(start="2024-08-29", end="2024-10-27").resolve(window) == before
    assert Baseline(before="PT24H") == Baseline(before=timedelta(days=1))
    assert Baseline(before="P2W").model_dump_json(exclude_none=True) == '{"before":"P14D"}'
    assert Baseline.model_validate(before).resolve(window) == before


def test_reprs():
    assert repr(TimeWindow(start="2024-10-28", end="2024-11-08")) == "TimeWindow('2024-10-28', '2024-11-08')"
    assert repr(TimeWindow(start="2024-10-28T06:00Z", end="2024-11-08")) == "TimeWindow('2024-10-28T06:00:00Z', '2024-11-08')"
    assert repr(Baseline(before="P60D")) == "Baseline(before='P60D')"
    assert repr(Baseline(start="2024-01-01", end="2024-01-31")) == "Baseline('2024-01-01', '2024-01-31')"
