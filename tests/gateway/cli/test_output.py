"""What is printed, as whole text, and what never reaches a terminal."""

import datetime as dt

import msgspec
import pytest

from gateway.cli.output import clean, duration, json_text, moment, show_fields, tsv


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, ""),
        (0, "0 ms"),
        (340, "340 ms"),
        (999.6, "1.0 s"),
        (1234, "1.2 s"),
        (59_960, "1 m 00 s"),
        (182_000, "3 m 02 s"),
        (3_599_900, "1 h 00 m"),
        (7_500_000, "2 h 05 m"),
        (97 * 3_600_000, "4 d 01 h"),
    ],
)
def test_durations_read_as_people_say_them(milliseconds: float | None, text: str) -> None:
    assert duration(milliseconds) == text


def test_times_carry_their_offset() -> None:
    at = dt.datetime(2026, 11, 20, 10, 40, 12, 999, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert moment(at, utc=True) == "2026-11-20 09:40:12 +00:00"
    local = at.astimezone()
    assert moment(at) == f"{local:%Y-%m-%d %H:%M:%S} {local.isoformat()[-6:]}"
    assert moment(None) == ""


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x1b]0;title\x07", "]0;title"),
        ("\u009b2J", "2J"),
        ("one\r\ntwo\tthree\u2028four", "one two three four"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("back\x08\x7f", "back"),
        ("lone\ud800", "lone"),
        ("ünïcödé ✔ 日本", "ünïcödé ✔ 日本"),
    ],
)
def test_text_from_a_server_cannot_steer_the_terminal(hostile: str, shown: str) -> None:
    assert clean(hostile) == shown
    assert tsv([hostile, "x"]) == f"{shown}\tx"


def test_json_keeps_every_value_and_escapes_what_steers_a_terminal() -> None:
    raw = '{"big":123456789012345678901234567890,"far":1e400,"csi":"\u009b2J","esc":"\\u001b[2J","ü":1.0}'.encode()
    assert json_text(raw, indent=-1) == (
        '{"big":123456789012345678901234567890,"far":1e400,"csi":"\\u009b2J","esc":"\\u001b[2J","ü":1.0}'
    )


def test_fields_of_a_log_line_are_names_and_values() -> None:
    fields = msgspec.Raw(b'{"region":"eu","rows":2,"far":1e400,"text":"two words","list":[1]}')
    assert show_fields(fields) == 'region=eu rows=2 far=1e400 text="two words" list=[1]'
    assert show_fields(msgspec.Raw(b"{}")) == ""
