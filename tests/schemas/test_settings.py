"""Settings come from the environment, and what is wrong with one is said with its name."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import SettingsError
from schemas.settings import PREFIX, Settings, load


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load({}) == Settings()


def test_values_are_read_in_the_types_of_their_settings() -> None:
    settings = load(
        {
            "PENSTOCK_PORT": "80",
            "PENSTOCK_HOLD_S": "1.5",
            "PENSTOCK_RELOAD": "false",
            "PENSTOCK_METRICS_PUBLIC": "1",
            "PENSTOCK_PUBLIC_URL": "https://hooks.example.com",
            "PATH": "/usr/bin",
        }
    )

    assert settings == Settings(
        port=80, hold_s=1.5, reload=False, metrics_public=True, public_url="https://hooks.example.com"
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PENSTOCK_PROT", "80", "PENSTOCK_PROT is not a setting; did you mean PENSTOCK_PORT?"),
        ("PENSTOCK_DATABASEURL", "x", "PENSTOCK_DATABASEURL is not a setting; did you mean PENSTOCK_DATABASE_URL?"),
        ("PENSTOCK_ZZZZZZ", "x", "PENSTOCK_ZZZZZZ is not a setting"),
        ("PENSTOCK_ZZZZZZ_FILE", "x", "PENSTOCK_ZZZZZZ_FILE is not a setting"),
        ("PENSTOCK_", "x", "PENSTOCK_ is not a setting"),
        ("PENSTOCK_PORT", "http", "PENSTOCK_PORT: Expected `int`"),
        ("PENSTOCK_PORT", "70000", "PENSTOCK_PORT: Expected `int` <= 65535"),
        ("PENSTOCK_PORT", "", "PENSTOCK_PORT: Expected `int`"),
        ("PENSTOCK_HOLD_S", "0", "PENSTOCK_HOLD_S: Expected `float` > 0"),
        ("PENSTOCK_HOLD_S", "nan", "PENSTOCK_HOLD_S"),
        ("PENSTOCK_RELOAD", "perhaps", "PENSTOCK_RELOAD: Expected `bool`"),
        ("PENSTOCK_LOG_LEVEL", "loud", "PENSTOCK_LOG_LEVEL: Invalid enum value 'loud'"),
        ("PENSTOCK_ADMIN_KEY", "psk_short", "PENSTOCK_ADMIN_KEY: Expected `str` matching regex"),
        ("PENSTOCK_REDIS_PREFIX", "Not This", "PENSTOCK_REDIS_PREFIX: Expected `str` matching regex"),
    ],
)
def test_a_misspelt_or_wrong_setting_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}"):
        load({variable: value})


def test_a_wrong_admin_key_is_not_repeated_in_the_message() -> None:
    with pytest.raises(SettingsError) as refused:
        load({"PENSTOCK_ADMIN_KEY": "psk_s3cret"})

    assert "s3cret" not in str(refused.value)


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://penstock:s3cret@db/penstock\n")

    assert load({"PENSTOCK_DATABASE_URL_FILE": str(tmp_path / "url")}).database_url == (
        "postgresql://penstock:s3cret@db/penstock"
    )


def test_a_file_that_cannot_be_read_is_an_error_that_names_its_variable(tmp_path: Path) -> None:
    message = "^PENSTOCK_ADMIN_KEY_FILE names a file that cannot be read: No such file or directory$"
    with pytest.raises(SettingsError, match=message):
        load({"PENSTOCK_ADMIN_KEY_FILE": str(tmp_path / "missing")})


def test_a_file_that_is_no_text_is_an_error_that_names_its_variable(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(
        SettingsError, match=r"^PENSTOCK_ADMIN_KEY_FILE names a file that cannot be read: it is not UTF-8$"
    ):
        load({"PENSTOCK_ADMIN_KEY_FILE": str(tmp_path / "key")})


def test_a_value_that_is_no_text_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^PENSTOCK_RELOAD is not UTF-8$"):
        load({"PENSTOCK_RELOAD": b"\xff".decode("utf-8", "surrogateescape")})


def test_a_setting_and_its_file_together_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("one")

    with pytest.raises(SettingsError, match=r"^PENSTOCK_REDIS_URL is given twice$"):
        load({"PENSTOCK_REDIS_URL": "another", "PENSTOCK_REDIS_URL_FILE": str(tmp_path / "url")})


@given(st.sampled_from(Settings.__struct_fields__), st.text(st.characters(exclude_characters="\0")))
def test_any_value_is_taken_or_refused_by_name(name: str, value: str) -> None:
    variable, refused = PREFIX + name.upper(), None
    try:
        load({variable: value})
    except SettingsError as error:
        refused = error.message
    assert refused is None or refused.startswith(variable)
