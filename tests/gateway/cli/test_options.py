"""Where URL and key come from, and the values that options take."""

import datetime as dt
from pathlib import Path
from typing import Any

import click
import pytest

from gateway.cli.options import Connection, JsonObject, Span, find_connection
from schemas.errors import SettingsError
from tests.gateway.cli.canned_gateway import CannedGateway
from tests.gateway.cli.conftest import Penstock

FLAG, ENVIRONMENT, DOTENV, CONFIG = "http://flag", "http://environment", "http://dotenv", "http://config"


def find(tmp_path: Path, url: str | None = None, key: str | None = None, **environ: str) -> Connection:
    return find_connection(url, key, environ=environ, folder=tmp_path, home=tmp_path)


def write_config(tmp_path: Path, text: str = f'url = "{CONFIG}"\napi_key = "psk_config"\n', mode: int = 0o600) -> Path:
    file = tmp_path / ".config" / "penstock" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def test_the_default_is_this_machine_without_a_key(tmp_path: Path) -> None:
    assert find(tmp_path) == Connection("http://127.0.0.1:8787")


def test_a_nearer_place_wins(tmp_path: Path) -> None:
    write_config(tmp_path)
    assert find(tmp_path) == Connection(CONFIG, "psk_config")
    (tmp_path / ".env").write_text(f"# ours\nOTHER=1\nexport PENSTOCK_URL='{DOTENV}'\nPENSTOCK_API_KEY=psk_dotenv\n")
    assert find(tmp_path) == Connection(DOTENV, "psk_dotenv")
    environ = {"PENSTOCK_URL": ENVIRONMENT, "PENSTOCK_API_KEY": "psk_environment"}
    assert find(tmp_path, **environ) == Connection(ENVIRONMENT, "psk_environment")
    assert find(tmp_path, FLAG, "psk_stdin", **environ) == Connection(FLAG, "psk_stdin")


def test_the_key_can_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("psk_file\n")
    assert find(tmp_path, PENSTOCK_API_KEY_FILE=str(tmp_path / "key")).key == "psk_file"
    with pytest.raises(SettingsError, match=r"PENSTOCK_API_KEY_FILE names .*: No such file"):
        find(tmp_path, PENSTOCK_API_KEY_FILE=str(tmp_path / "none"))


def test_a_config_file_that_everybody_can_read_is_ignored_with_a_warning(tmp_path: Path) -> None:
    file = write_config(tmp_path, mode=0o644)
    warning = f"{file} is ignored because everybody can read it: chmod 600 {file}"
    assert find(tmp_path) == Connection("http://127.0.0.1:8787", "", (warning,))


def test_the_users_own_key_is_not_sent_to_a_url_from_a_folders_dotenv(tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / ".env").write_text("PENSTOCK_URL=http://evil.example\n")
    found = find(tmp_path)
    assert (found.url, found.key) == ("http://evil.example", "")
    assert "is not sent to it" in found.warnings[0]


def test_a_broken_config_file_and_a_broken_key_are_named_but_not_shown(tmp_path: Path) -> None:
    write_config(tmp_path, "url = psk_secret")
    with pytest.raises(SettingsError, match=r"config\.toml is not valid TOML"):
        find(tmp_path)
    with pytest.raises(SettingsError) as caught:
        find_connection(FLAG, "psk_a\nb", environ={}, folder=tmp_path, home=tmp_path / "other")
    assert "psk_" not in caught.value.message
    assert "psk_" not in repr(Connection(FLAG, "psk_secret"))


def test_the_key_can_come_from_standard_input(server: CannedGateway, penstock: Penstock) -> None:
    server.answers("GET", "/v1/runs", {"items": [], "next_cursor": None})
    result = penstock("runs", "ls", "--key-stdin", stdin="psk_typed\n", PENSTOCK_API_KEY=None)
    assert (result.exit_code, server.asked[0].headers["authorization"]) == (0, "Bearer psk_typed")


def test_only_one_option_can_read_standard_input(penstock: Penstock) -> None:
    result = penstock("trigger", "orders", "-d", "-", "--key-stdin", stdin="{}")
    assert result.exit_code == 2
    assert "cannot both read standard input" in result.stderr


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", dt.timedelta(seconds=90)),
        ("24h", dt.timedelta(days=1)),
        ("30d", dt.timedelta(days=30)),
        ("2w", dt.timedelta(days=14)),
        ("1h30m", dt.timedelta(minutes=90)),
    ],
)
def test_a_span_is_numbers_with_units(text: str, span: dt.timedelta) -> None:
    assert Span().convert(text, None, None) == span


@pytest.mark.parametrize("text", ["", "30", "d", "1 day", "-1d", "1d?", "99999999999w"])
def test_anything_else_is_no_span(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Span().convert(text, None, None)


def test_a_json_object_can_be_text_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"a": 1e400}')
    assert _values(JsonObject().convert('{"a": 1, "b": "x"}', None, None)) == {"a": b"1", "b": b'"x"'}
    assert _values(JsonObject().convert(f"@{tmp_path}/data.json", None, None)) == {"a": b"1e400"}


@pytest.mark.parametrize("text", ["[1]", "{", "region=eu", "@missing.json", '{"a": 1} x'])
def test_anything_else_is_no_json_object(text: str) -> None:
    with pytest.raises(click.BadParameter):
        JsonObject().convert(text, None, None)


def _values(members: dict[str, Any]) -> dict[str, bytes]:
    return {name: bytes(value) for name, value in members.items()}
