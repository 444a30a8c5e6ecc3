"""Every setting of every role, read once from the environment; a misspelt or wrong value stops the start."""

import difflib
import os
import uuid
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.errors import SettingsError

PREFIX = "PENSTOCK_"
DEFAULT_BODY_LIMIT = 1 << 20
MAX_BODY_LIMIT = 25 << 20

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_QUEUE = "[a-z0-9_][a-z0-9_.-]{0,62}"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field per `PENSTOCK_*` variable; the README's table says what each does, a test compares the two."""

    database_url: str = ""
    redis_url: str = ""
    redis_prefix: Annotated[str, Meta(pattern="^[a-z0-9_:.-]{1,40}$")] = "penstock"
    host: str = "127.0.0.1"
    port: Port = 8787
    public_url: str = ""
    admin_key: Annotated[str, Meta(pattern="^(psk_.{16,196})?$")] = ""
    secret_keys: str = ""
    pipelines: str = "./pipelines"
    queues: Annotated[str, Meta(pattern=f"^{_QUEUE}(,{_QUEUE})*$")] = "default"
    data: str = "./.penstock"
    store: str = ""
    reload: bool = True
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: Literal["off", "errors", "all"] = "errors"
    metrics_public: bool = False
    mage_legacy_200: bool = False
    body_limit: Annotated[int, Meta(ge=1, le=MAX_BODY_LIMIT)] = DEFAULT_BODY_LIMIT
    hold_s: Seconds = 8.0
    database_pool: Annotated[int, Meta(ge=2, le=200)] = 8
    lease_s: Annotated[float, Meta(ge=2, le=600)] = 6.0
    heartbeat_s: Annotated[float, Meta(ge=0.05, le=60)] = 0.5
    sweep_s: Annotated[float, Meta(ge=0.05, le=60)] = 0.5
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    outgoing_allow: str = ""
    smtp_url: str = ""
    mail_from: str = ""
    hosts: Annotated[int, Meta(ge=1, le=256)] = 2
    max_hosts: Annotated[int, Meta(ge=1, le=1024)] = 16
    max_runs: Annotated[int, Meta(ge=1, le=10_000)] = 200
    output_limit: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 2 << 30
    host_memory_mb: Annotated[int, Meta(ge=0)] = 0
    retention_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    url: str = "http://127.0.0.1:8787"
    api_key: str = ""
    token: str = ""
    sender_secret: str = ""


def local_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server bound to `host`, which may mean every address."""
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def base_url(settings: Settings) -> str:
    """Return what the gateway is called from outside, without a slash at its end."""
    return settings.public_url.rstrip("/") or local_url(settings.host, settings.port)


def event_body_url(base: str, event_id: uuid.UUID) -> str:
    """Return where the bytes of an event can be fetched; `base` is what `base_url` returns."""
    return f"{base}/v1/events/{event_id}/body"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read `PENSTOCK_*` from the environment; `PENSTOCK_X_FILE` names a file that holds the value of X.

    Raises SettingsError that names the variable, and the nearest known one when it is misspelt.
    """
    values = _named(os.environ if environ is None else environ)
    known = set(Settings.__struct_fields__)
    for name in values:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {PREFIX}{nearest[0].upper()}?" if nearest else ""
            raise SettingsError(f"{PREFIX}{name.upper()} is not a setting{hint}")
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise SettingsError(f"{PREFIX}{path.rstrip('`').upper()}: {message}") from None


def _named(environ: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in environ.items():
        if not key.startswith(PREFIX):
            continue
        name = key[len(PREFIX) :].lower()
        if name.endswith("_file") and name.removesuffix("_file") in Settings.__struct_fields__:
            name, value = name.removesuffix("_file"), _read_secret(key, value)
        if name in values:
            raise SettingsError(f"{PREFIX}{name.upper()} is given twice")
        if any("\ud800" <= character <= "\udfff" for character in value):  # how Python shows bytes that are no text
            raise SettingsError(f"{PREFIX}{name.upper()} is not UTF-8")
        values[name] = value
    return values


def _read_secret(variable: str, path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except UnicodeDecodeError:
        raise SettingsError(f"{variable} names a file that cannot be read: it is not UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{variable} names a file that cannot be read: {error.strerror}") from None
