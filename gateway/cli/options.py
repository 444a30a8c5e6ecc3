"""The options that all client commands share, and where their values come from.

URL and key: flag > environment > `.env` in the current folder > `~/.config/penstock/config.toml` > default. Of a
`.env` only the names PENSTOCK_URL and PENSTOCK_API_KEY are read. There is no option that takes an API key as its value:
the arguments of a process are visible to everybody on the machine.
"""

import datetime as dt
import functools
import getpass
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import rich_click as click
from click import get_current_context

from gateway.cli.client import Client
from gateway.cli.output import Format, Output
from schemas.errors import SettingsError
from schemas.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

_STDIN_READER = "penstock.stdin"
_SPAN = re.compile(r"(\d+)(w|d|h|m|s)")
_SPAN_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class Session(msgspec.Struct, frozen=True):
    """What a client command works with."""

    client: Client
    output: Output


class Connection(msgspec.Struct, frozen=True):
    """Where the gateway is, and the key to show it; `warnings` are for the person at the terminal."""

    url: str
    key: str = ""
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Connection(url={self.url!r})"


class Span(click.ParamType[dt.timedelta]):
    """A time span such as `90s`, `24h`, `30d` or `1h30m`."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.timedelta:
        if isinstance(value, dt.timedelta):
            return value
        text = str(value).strip().lower()
        parts = _SPAN.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            self.fail(f"{value!r} is not a time span; write 90s, 15m, 24h, 30d, 2w or 1h30m.", param, ctx)
        try:
            return sum((dt.timedelta(**{_SPAN_UNITS[unit]: int(number)}) for number, unit in parts), dt.timedelta())
        except OverflowError:
            self.fail(f"{value!r} is too long.", param, ctx)


class Ago(click.ParamType[dt.datetime]):
    """A moment: an RFC 3339 time, of this machine's time zone unless it names another, or how long ago that is."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        if isinstance(value, dt.datetime):
            return value
        try:
            return dt.datetime.fromisoformat(str(value)).astimezone(dt.UTC)
        except (ValueError, OverflowError):
            return dt.datetime.now(dt.UTC) - Span().convert(value, param, ctx)


class JsonObject(click.ParamType[dict[str, msgspec.Raw]]):
    """A JSON object as text, as `@file` or as `-` for standard input; its values stay as they were written."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, msgspec.Raw]:
        if isinstance(value, dict):
            return value
        try:
            content = _content(str(value), param)
            return msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        except OSError as error:
            self.fail(f"{str(value)[1:]} cannot be read: {error.strerror}.", param, ctx)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            self.fail(f'That is not a JSON object: {error}. Example: \'{{"region": "eu"}}\'.', param, ctx)


def connected(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options, and a Session made from them as its first argument."""

    @functools.wraps(function)
    def run(
        url: str | None, key_stdin: bool, output: Format | None, as_json: bool, utc: bool, no_color: bool, **rest: Any
    ) -> None:
        key = read_stdin("--key-stdin").strip() if key_stdin else None
        connection = find_connection(url, key, environ=os.environ, folder=Path.cwd())
        printer = Output(Format.JSON if as_json else output, utc=utc, color=not no_color)
        for warning in connection.warnings:
            printer.note(f"Warning: {warning}")
        function(Session(Client(connection.url, connection.key), printer), **rest)

    for option in reversed(_shared_options()):
        run = option(run)
    for panel in ("Connection", "Output", "Options"):  # shown from the last to the first
        run = click.option_panel(panel)(run)
    return run


def read_params(params: Sequence[str]) -> dict[str, msgspec.Raw]:
    """Read variables that were typed as NAME=VALUE, each value as JSON or else as text."""
    variables = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{param!r} is not NAME=VALUE.", param_hint="-p")
        variables[name] = _as_json(value)
    return variables


def _as_json(value: str) -> msgspec.Raw:
    try:
        return msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(value))


def read_stdin(reader: str) -> str:
    """Read standard input for one option, hidden when a person types it; a second option is a usage error."""
    _take_stdin(reader)
    if sys.stdin.isatty() and reader.endswith("-stdin"):
        return getpass.getpass(f"Value for {reader}: ")
    return sys.stdin.read()


def read_bytes(file: str, reader: str) -> bytes:
    """Read the file that an option names, or standard input for `-`, as bytes."""
    if file == "-":
        _take_stdin(reader)
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be read: {error.strerror}.", param_hint=reader) from None


def read_secret(given: str | None, reader: str, variable: str) -> str:
    """Find a secret: TEXT, `@FILE` or `-` of an option, else the environment's; empty when there is none."""
    if given is None:
        return _environment_secret(os.environ, variable) or ""
    if given == "-":
        given = read_stdin(reader)
    elif given.startswith("@"):
        given = _read_text(Path(given[1:]), f"{reader} names")
    if not given.strip("\r\n"):
        raise click.BadParameter("It is empty.", param_hint=reader)
    return given.strip("\r\n")


def _take_stdin(reader: str) -> None:
    meta = get_current_context().meta
    if _STDIN_READER in meta:
        raise click.UsageError(f"{meta[_STDIN_READER]} and {reader} cannot both read standard input.")
    meta[_STDIN_READER] = reader


def confirm(question: str, *, yes: bool) -> None:
    """Ask the person at the terminal before something cannot be undone; scripts are not asked."""
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(question, abort=True, err=True)


def find_connection(
    url: str | None, key: str | None, *, environ: Mapping[str, str], folder: Path, home: Path | None = None
) -> Connection:
    """Find URL and key by the order of precedence; raise SettingsError for a file or key that cannot be used.

    A `.env` may come with a folder that somebody else wrote: the key of the user's own config file is not sent to a
    URL that only a `.env` names.
    """
    dotenv = _read_dotenv(folder / ".env")
    config, warnings = _read_config(environ, home or Path.home())
    key = key or _environment_secret(environ, "PENSTOCK_API_KEY") or dotenv.get("PENSTOCK_API_KEY")
    url = url or environ.get("PENSTOCK_URL")
    if not url and "PENSTOCK_URL" in dotenv:
        url = dotenv["PENSTOCK_URL"]
        if not key and config.get("api_key"):
            warnings += (f"{folder / '.env'} names the gateway, so the key of your config file is not sent to it.",)
    else:
        url = url or config.get("url")
        key = key or config.get("api_key")
    if key and not (key.isascii() and key.isprintable()):
        raise SettingsError("The API key has characters that no key has; copy it again.")
    return Connection(url or Settings().url, key or "", warnings)


def _shared_options() -> list[Callable[[Callable[..., None]], Callable[..., None]]]:
    output = functools.partial(click.option, panel="Output")
    connection = functools.partial(click.option, panel="Connection")
    return [
        output(
            "-o",
            "--output",
            type=click.Choice([form.value for form in Format]),
            callback=lambda _ctx, _param, value: Format(value) if value else None,
            help="How to print; a table on a terminal, tab-separated lines (plain) otherwise.",
        ),
        output("--json", "as_json", is_flag=True, help="The same as -o json: the API's objects."),
        output("--utc", is_flag=True, help="Show times in UTC instead of local time."),
        output("--no-color", is_flag=True, help="No colours; NO_COLOR does the same."),
        connection("--url", help="The gateway; otherwise PENSTOCK_URL, .env, config file."),
        connection(
            "--key-stdin",
            is_flag=True,
            help="Read the API key from standard input; otherwise PENSTOCK_API_KEY(_FILE), .env, config file.",
        ),
    ]


def _content(value: str, param: click.Parameter | None) -> bytes:
    if value == "-":
        return read_stdin(param.opts[0] if param else "-").encode()
    if value.startswith("@"):
        return Path(value[1:]).read_bytes()
    return value.encode()


def _environment_secret(environ: Mapping[str, str], variable: str) -> str | None:
    if environ.get(variable):
        return environ[variable]
    path = environ.get(f"{variable}_FILE")
    return _read_text(Path(path), f"{variable}_FILE names").strip() if path else None


def _read_dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    values = {}
    for line in _read_text(path, "There is").splitlines():
        name, _, value = line.strip().removeprefix("export ").partition("=")
        value = value.strip()
        if name.strip() in ("PENSTOCK_URL", "PENSTOCK_API_KEY") and value:
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            values[name.strip()] = value[1:-1] if quoted else value
    return values


def _read_config(environ: Mapping[str, str], home: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    path = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "penstock" / "config.toml"
    if not path.is_file():
        return {}, ()
    if path.stat().st_mode & stat.S_IROTH:
        return {}, (f"{path} is ignored because everybody can read it: chmod 600 {path}",)
    import tomllib  # only who has such a file pays for it

    try:
        values = tomllib.loads(_read_text(path, "There is"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from None
    return {name: str(values[name]) for name in ("url", "api_key") if name in values}, ()


def _read_text(path: Path, reason: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"{reason} {path}, which cannot be read: {what}.") from None
