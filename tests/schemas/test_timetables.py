"""Timetables: which moments a cron or an interval names, above all on the days when clocks are moved."""

import datetime as dt
import itertools
import uuid
import zoneinfo
from collections.abc import Iterator

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import Invalid
from schemas.timetables import Timetable, jittered

MINUTE = dt.timedelta(minutes=1)
ZONES = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",  # moves by half an hour
    "Africa/Casablanca",  # moves back for Ramadan
    "Africa/Cairo",  # skips midnight
    "America/Havana",  # shows midnight twice
    "Asia/Kathmandu",  # +05:45, never moves
    "Pacific/Chatham",
)


def fires(cron: str, zone: str, day: str, *, days: int = 1) -> list[str]:
    """List the wall clocks, with their offset, at which `cron` fires on the days that begin with `day` in `zone`."""
    first = dt.datetime.fromisoformat(day).replace(tzinfo=zoneinfo.ZoneInfo(zone))
    last = first + dt.timedelta(days=days)  # as the wall clock says
    found = Timetable.parse(cron=cron, timezone=zone).between(first, last.astimezone(dt.UTC), 1000)
    return [slot.astimezone(first.tzinfo).strftime("%H:%M%z") for slot in found if slot < last.astimezone(dt.UTC)]


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "day", "expected"),
    [
        ("30 2 * * *", "Europe/Paris", "2026-03-29", ["03:00+0200"]),
        ("0 2 * * *", "Europe/Paris", "2026-03-29", ["03:00+0200"]),
        ("15,45 2 * * *", "Europe/Paris", "2026-03-29", ["03:00+0200"]),
        ("30 2,3 * * *", "Europe/Paris", "2026-03-29", ["03:00+0200", "03:30+0200"]),
        ("0 3 * * *", "Europe/Paris", "2026-03-29", ["03:00+0200"]),
        ("30 2 * * *", "Europe/Paris", "2026-10-25", ["02:30+0200"]),
        ("0,30 2,3 * * *", "Europe/Paris", "2026-10-25", ["02:00+0200", "02:30+0200", "03:00+0100", "03:30+0100"]),
        ("30 1 * * *", "America/New_York", "2026-11-01", ["01:30-0400"]),
        ("30 2 * * *", "America/New_York", "2026-03-08", ["03:00-0400"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["02:30+1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["01:45+1100"]),
        ("30 2 * * *", "Africa/Casablanca", "2026-02-15", ["02:30+0100"]),
        ("30 2 * * *", "Africa/Casablanca", "2026-03-22", ["03:00+0100"]),
        ("0 0 * * *", "Africa/Cairo", "2026-04-24", ["01:00+0300"]),
        ("0 0 * * *", "America/Havana", "2026-11-01", ["00:00-0400"]),
        ("30 2 * * *", "Asia/Kathmandu", "2026-03-29", ["02:30+0545"]),
    ],
)
def test_a_fixed_time_fires_once_a_day_also_when_the_clocks_skip_it_or_show_it_twice(
    cron: str, zone: str, day: str, expected: list[str]
) -> None:
    assert fires(cron, zone, day) == expected


@pytest.mark.parametrize(
    ("zone", "day", "hours", "missing", "twice"),
    [
        ("Europe/Paris", "2026-03-29", 23, "02:10", None),
        ("Europe/Paris", "2026-10-25", 25, None, "02:10"),
        ("America/New_York", "2026-03-08", 23, "02:10", None),
        ("America/New_York", "2026-11-01", 25, None, "01:10"),
        ("Africa/Casablanca", "2026-02-15", 25, None, "02:10"),
        ("Africa/Casablanca", "2026-03-22", 23, "02:10", None),
        ("Asia/Kathmandu", "2026-03-29", 24, None, None),
    ],
)
def test_an_hourly_job_fires_every_real_hour(
    zone: str, day: str, hours: int, missing: str | None, twice: str | None
) -> None:
    found = [clock[:5] for clock in fires("10 * * * *", zone, day)]
    assert len(found) == hours
    assert missing not in found
    assert [clock for clock in set(found) if found.count(clock) == 2] == ([twice] if twice else [])


def test_half_an_hour_is_skipped_and_shown_twice_where_the_clocks_move_by_it() -> None:
    assert fires("45 * * * *", "Australia/Lord_Howe", "2026-10-04")[:3] == ["00:45+1030", "01:45+1030", "02:45+1100"]
    assert fires("15 * * * *", "Australia/Lord_Howe", "2026-10-04")[:3] == ["00:15+1030", "01:15+1030", "03:15+1100"]
    assert fires("45 * * * *", "Australia/Lord_Howe", "2026-04-05")[:3] == ["00:45+1100", "01:45+1100", "01:45+1030"]


def test_after_the_second_showing_of_a_time_a_fixed_job_waits_for_the_next_day() -> None:
    table = Timetable.parse(cron="30 2 * * *", timezone="Europe/Paris")
    assert table.next(utc("2026-10-25T01:10")) == utc("2026-10-26T01:30")


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 0 31 * *", "2026-01-31", ["2026-03-31", "2026-05-31"]),
        ("0 0 L * *", "2026-01-31", ["2026-02-28", "2026-03-31"]),
        ("0 0 29 2 *", "2026-01-01", ["2028-02-29", "2032-02-29"]),
        ("0 0 29 2 *", "2097-01-01", ["2104-02-29", "2108-02-29"]),
        ("0 0 * * 0", "2026-11-20", ["2026-11-22", "2026-11-29"]),
        ("0 0 * * 7", "2026-11-20", ["2026-11-22", "2026-11-29"]),
        ("0 0 * * SUN", "2026-11-20", ["2026-11-22", "2026-11-29"]),
        ("0 0 1 * MON", "2026-11-20", ["2026-11-23", "2026-11-30"]),
        ("0 0 * * 1#1", "2026-11-20", ["2026-12-07", "2027-01-04"]),
        ("@yearly", "2026-11-20", ["2027-01-01", "2028-01-01"]),
        ("@monthly", "2026-11-20", ["2026-12-01", "2027-01-01"]),
        ("@weekly", "2026-11-20", ["2026-11-22", "2026-11-29"]),
        (" @Daily ", "2026-11-20", ["2026-11-21", "2026-11-22"]),
        ("@hourly", "2026-11-20", ["2026-11-20T01:00", "2026-11-20T02:00"]),
        ("*/20 0 0 * * *", "2026-11-20", ["2026-11-20T00:00:20", "2026-11-20T00:00:40"]),
    ],
)
def test_a_cron_names_the_days_that_people_mean(cron: str, after: str, expected: list[str]) -> None:
    assert Timetable.parse(cron=cron).upcoming(utc(after), 2) == [utc(text) for text in expected]


def test_an_interval_counts_from_its_start_or_from_the_epoch_in_real_seconds() -> None:
    start = utc("2026-03-28T23:00:07")
    assert Timetable.parse(every_s=5400, start_at=start).upcoming(utc("2020-01-01"), 3) == [
        start,
        utc("2026-03-29T00:30:07"),
        utc("2026-03-29T02:00:07"),
    ]
    assert Timetable.parse(every_s=900, timezone="Asia/Kathmandu").next(utc("2026-01-01T00:01")) == utc(
        "2026-01-01T00:15"
    )
    assert Timetable.parse(every_s=7).next(utc("1969-12-31T23:59:59")) == utc("1970-01-01")


def test_both_ends_belong_to_a_timetable() -> None:
    table = Timetable.parse(cron="0 * * * *", start_at=utc("2026-01-01T01:00"), end_at=utc("2026-01-01T03:00"))
    slots = [utc("2026-01-01T01:00"), utc("2026-01-01T02:00"), utc("2026-01-01T03:00")]
    assert table.upcoming(utc("2000-01-01"), 10) == slots
    assert table.between(slots[0], slots[2], 10) == slots
    assert table.between(slots[0], slots[2], 2) == slots[:2]
    assert table.next(slots[2]) is None
    assert table.latest(utc("2000-01-01"), utc("2030-01-01")) == slots[2]
    assert table.latest(utc("2026-01-01T01:00"), utc("2026-01-01T02:59")) == slots[1]
    assert table.latest(utc("2026-01-01T01:01"), utc("2026-01-01T01:59")) is None


def test_there_is_no_slot_at_the_end_of_time() -> None:
    assert Timetable.parse(cron="@yearly").next(dt.datetime.max.replace(tzinfo=dt.UTC)) is None
    assert Timetable.parse(every_s=60).next(dt.datetime.max.replace(tzinfo=dt.UTC)) is None


@pytest.mark.parametrize(
    ("fields", "pointer", "message"),
    [
        ({}, "/cron", "a time schedule has either cron or every_s, and not both"),
        ({"cron": "@daily", "every_s": 5}, "/cron", "a time schedule has either cron or every_s, and not both"),
        (
            {"cron": "0 25 * * *"},
            "/cron",
            "the hour '25' is not valid; it takes 0-23, lists a,b, ranges a-b and steps */n",
        ),
        (
            {"cron": "0 0 30 2 *"},
            "/cron",
            "the day-of-month '30' is not valid, or its months have no such day; "
            "it takes 1-31, L or LW, lists a,b, ranges a-b and steps */n",
        ),
        (
            {"cron": "0 0 * *"},
            "/cron",
            "it has 4 fields; it takes minute hour day-of-month month day-of-week, and perhaps seconds before them",
        ),
        (
            {"cron": "@reboot"},
            "/cron",
            "there is no '@reboot'; there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually",
        ),
        ({"every_s": 0}, "/every_s", "it is a number of seconds above 0"),
        (
            {"cron": "@daily", "timezone": "Europe/Pariss"},
            "/timezone",
            "there is no time zone 'Europe/Pariss'; did you mean Europe/Paris?",
        ),
        (
            {"cron": "@daily", "timezone": "../../etc/passwd"},
            "/timezone",
            "there is no time zone '../../etc/passwd'; it takes an IANA name such as Europe/Paris",
        ),
        (
            {"every_s": 60, "start_at": utc("2026-01-02"), "end_at": utc("2026-01-01")},
            "/end_at",
            "it is before start_at",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_field(fields: dict[str, object], pointer: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        Timetable.parse(**fields)  # type: ignore[arg-type]
    assert [(error.pointer, error.message) for error in caught.value.errors] == [(pointer, message)]


_PARTS = {
    "minute": ["*", "*/15", "0", "30", "15,45", "0-5", "59", "7/20"],
    "hour": ["*", "*/2", "0", "1", "2", "2,3", "1-4", "23"],
    "day": ["*", "*", "*", "1", "L", "28,31", "25-31", "*/7"],
    "month": ["*", "*", "3,4,10,11", "2"],
    "weekday": ["*", "*", "0", "7", "MON-FRI", "SUN#1"],
}
_CRONS = st.tuples(*map(st.sampled_from, _PARTS.values())).map(" ".join)
_MOMENTS = st.one_of(
    st.integers(0, 4 * 366 * 1440).map(lambda minutes: utc("2026-01-01") + minutes * MINUTE),
    st.tuples(
        st.sampled_from(["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-10-04", "2026-04-05",
                         "2026-02-15", "2026-03-22", "2026-04-24", "2026-10-30"]),
        st.integers(-36 * 60, 36 * 60),
    ).map(lambda pair: utc(pair[0]) + pair[1] * MINUTE),
)  # fmt: skip


@given(_CRONS, st.sampled_from(ZONES), _MOMENTS)
@settings(max_examples=150, deadline=None)
def test_a_cron_fires_as_a_walk_over_every_minute_says(cron: str, zone: str, start: dt.datetime) -> None:
    start = start.replace(second=0, microsecond=0)
    last = start + dt.timedelta(days=2)
    table = Timetable.parse(cron=cron, timezone=zone)
    found = table.between(start, last, 10_000)
    assert found == _walk(cron, zone, start, last)
    assert found == list(itertools.takewhile(lambda slot: slot <= last, _iterate(table, start - MINUTE / 2)))
    assert all(earlier < later for earlier, later in itertools.pairwise(found))
    assert table.latest(start, last) == (found[-1] if found else None)


@given(st.integers(1, 10_000), st.datetimes(timezones=st.just(dt.UTC)), _MOMENTS)
def test_an_interval_never_drifts(every_s: int, anchor: dt.datetime, start: dt.datetime) -> None:
    table = Timetable.parse(every_s=every_s, start_at=min(anchor, start))
    slots = table.upcoming(start, 5)
    assert all(later - earlier == dt.timedelta(seconds=every_s) for earlier, later in itertools.pairwise(slots))
    assert dt.timedelta() < slots[0] - start <= dt.timedelta(seconds=every_s)
    assert table.latest(slots[0], slots[-1]) == slots[-1]


@given(st.uuids(), _MOMENTS, st.integers(0, 86_400))
def test_jitter_is_bounded_and_the_same_for_everybody(schedule_id: uuid.UUID, slot: dt.datetime, jitter_s: int) -> None:
    due_at = jittered(slot, schedule_id, jitter_s)
    assert slot <= due_at <= slot + dt.timedelta(seconds=jitter_s)
    assert jittered(slot.astimezone(zoneinfo.ZoneInfo("Asia/Kathmandu")), schedule_id, jitter_s) == due_at


def test_jitter_spreads_schedules_and_slots() -> None:
    slots = Timetable.parse(every_s=3600).upcoming(utc("2026-01-01"), 20)
    dues = {jittered(slot, uuid.UUID(int=number), 600) - slot for slot in slots for number in range(20)}
    assert len(dues) > 390
    assert max(dues) > dt.timedelta(seconds=550)
    assert min(dues) < dt.timedelta(seconds=50)


@given(st.text(alphabet="0123456789*/,-#LWSUNMO @", max_size=24), st.sampled_from(ZONES))
@settings(max_examples=500, deadline=None)
def test_whatever_is_written_is_a_timetable_or_says_what_is_wrong(cron: str, zone: str) -> None:
    try:
        table = Timetable.parse(cron=cron, timezone=zone)
    except Invalid:
        return
    slots = table.upcoming(utc("2026-01-01"), 3)
    assert slots == sorted(set(slots))


def _iterate(table: Timetable, after: dt.datetime) -> Iterator[dt.datetime]:
    slot = table.next(after)
    while slot is not None:
        yield slot
        slot = table.next(slot)


def _walk(cron: str, zone: str, first: dt.datetime, last: dt.datetime) -> list[dt.datetime]:
    """Say by brute force when a cron fires: look at each minute's wall clock, and at those that are skipped."""
    matcher = CronSim(cron, utc("2026-01-01"))
    local = zoneinfo.ZoneInfo(zone)

    def matches(wall: dt.datetime) -> bool:
        return (
            wall.minute in matcher.minutes
            and wall.hour in matcher.hours
            and wall.month in matcher.months
            and matcher.match_day(wall.date())
        )

    is_fixed = not any(part.startswith("*") for part in cron.split()[:2])
    fired, shown = [], set()
    begin = first - dt.timedelta(days=1)
    previous = (begin - MINUTE).astimezone(local).replace(tzinfo=None)
    for moment in (begin + number * MINUTE for number in range(int((last - begin) / MINUTE) + 1)):
        wall = moment.astimezone(local).replace(tzinfo=None)
        skipped = [previous + number * MINUTE for number in range(1, int((wall - previous) / MINUTE))]
        hits = matches(wall) and not (is_fixed and wall in shown)
        if hits or (is_fixed and any(map(matches, skipped))):
            fired.append(moment)
        shown.add(wall)
        previous = wall
    return [moment for moment in fired if first <= moment]
