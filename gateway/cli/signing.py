"""Requests as a sender would make them: built of a sample, signed, tampered with, and shown."""

import base64
import re
import shlex
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

import msgspec
import rich_click as click

from gateway import sources
from gateway.cli.output import clean
from gateway.sources import Incoming, Sample, Source
from schemas.errors import BadSignature, Invalid
from schemas.notify import MASK
from schemas.schedules import SourceConfig

_UNPRINTABLE = re.compile(r"[^\n\t -~\xa0-\U0010ffff]")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to send: a sample of a source, with other headers or another body if they were given."""

    source: Source
    sample: Sample
    config: SourceConfig
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    is_signed: bool = True
    is_tampered: bool = False

    def make(self, url: str, now: float) -> Incoming:
        """Make a fresh one that is sent to `url` now; raises Invalid where nobody but the sender can sign it."""
        filled = self.sample.fill(now, str(uuid.uuid4()))
        plain = msgspec.structs.replace(
            filled,
            headers={"user-agent": "penstock send", **filled.headers, **self.headers},
            body=filled.body if self.body is None else self.body,
            url=url,
            query=dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)),
        )
        signed = self._sign(plain) if self.is_signed else plain
        return self._tamper(plain, signed) if self.is_tampered else signed

    def _sign(self, plain: Incoming) -> Incoming:
        schemes = () if self.source.is_optional else self.source.schemes
        lacking = [[name for name in scheme.needs if not getattr(self.config, name)] for scheme in schemes]
        if lacking and all(lacking):
            ways = "; or ".join(dict.fromkeys(" and ".join(names) for names in lacking))
            raise click.UsageError(
                f"{self.source.title} signs what it sends, which takes {ways}: --secret gives a secret, a schedule "
                "that has it or --source-config the rest. Or send without by --unsigned."
            )
        try:
            return self.source.sign(plain, self.config)
        except Invalid as error:
            raise Invalid(
                f"{error.message}\n--unsigned sends it without: a schedule in the mode observe lets it in."
            ) from None

    def _tamper(self, plain: Incoming, signed: Incoming) -> Incoming:
        """Change one byte so that the proof is wrong: of the body, or of the proof where it does not cover the body."""
        changed_body = msgspec.structs.replace(signed, body=_other(signed.body))
        for tampered in (changed_body, *_with_other_proof(plain, signed)):
            try:
                self.source.verify(tampered, self.config)
            except BadSignature:
                return tampered
        raise click.UsageError(f"--tamper: nothing proves this request of {self.source.title}, so nothing is wrong.")


def find_source(name: str) -> Source:
    """Find a source by its name; raises a usage error that lists them."""
    source = sources.find(name)
    if source is None:
        known = ", ".join(sorted(sources.discover()))
        raise click.UsageError(f"There is no source {name!r}; the sources are {known}.")
    return source


def find_sample(source: Source, name: str | None) -> Sample:
    """Find a sample by its name, or the first one; raises a usage error that lists them."""
    name = next(iter(source.samples), "") if name is None else name
    if name not in source.samples:
        known = ", ".join(source.samples) or "none"
        raise click.UsageError(f"{source.title} has no sample {name!r}; its samples: {known}.")
    return source.samples[name]


def read_headers(typed: Iterable[str]) -> dict[str, str]:
    """Read headers that were typed as NAME:VALUE."""
    headers = {}
    for text in typed:
        name, colon, value = text.partition(":")
        if not (colon and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)) or not _is_header_value(value):
            raise click.BadParameter(f"{text!r} is not NAME:VALUE.", param_hint="--header")
        headers[name.lower()] = value.strip()
    return headers


def masked(incoming: Incoming, secrets: Sequence[str]) -> Incoming:
    """Replace secrets in the URL and the headers."""
    return msgspec.structs.replace(
        incoming,
        url=_mask(incoming.url, secrets),
        headers={name: _mask(value, secrets) for name, value in incoming.headers.items()},
    )


def as_curl(incoming: Incoming) -> str:
    """Write a request as a command for a shell."""
    text = _text(incoming.body)
    pipe = f"echo {base64.b64encode(incoming.body).decode()} | base64 -d | " if text is None else ""
    headers = {"content-type": "", **incoming.headers}  # without a value curl does not send its own
    lines = [f"{pipe}curl -X {incoming.method} {shlex.quote(incoming.url)}"]
    lines += (f"-H {shlex.quote(f'{name}: {value}'.rstrip())}" for name, value in headers.items())
    lines.append("--data-binary @-" if text is None else f"--data-raw {shlex.quote(text)}")
    return " \\\n  ".join(lines)


def as_http(incoming: Incoming) -> str:
    """Write a request as it goes over the wire, for eyes."""
    parts = urlsplit(incoming.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = {"host": parts.netloc, **incoming.headers, "content-length": str(len(incoming.body))}
    lines = [f"{incoming.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), ""]
    return "\n".join(map(clean, [*lines, *incoming.body.decode(errors="replace").split("\n")]))


def as_json(incoming: Incoming) -> bytes:
    """Write a request as a JSON object; a body that is no text is `body_base64`."""
    text = _text(incoming.body)
    shown: dict[str, Any] = {"method": incoming.method, "url": incoming.url, "headers": incoming.headers}
    if text is None:
        return msgspec.json.encode(shown | {"body_base64": base64.b64encode(incoming.body).decode()})
    return msgspec.json.encode(shown | {"body": text})


def _text(body: bytes) -> str | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if _UNPRINTABLE.search(text) else text


def _with_other_proof(plain: Incoming, signed: Incoming) -> Iterable[Incoming]:
    for name, value in signed.headers.items():
        if plain.headers.get(name) != value:
            changed = _other(value.encode("latin-1", "replace")).decode("latin-1")
            yield msgspec.structs.replace(signed, headers={**signed.headers, name: changed})
    if signed.url != plain.url:
        url = _other(signed.url.encode()).decode()
        query = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        yield msgspec.structs.replace(signed, url=url, query=query)


def _other(content: bytes) -> bytes:
    """Change the last byte; what is empty gets one."""
    return content[:-1] + bytes([content[-1] ^ 1]) if content else b"~"


def _mask(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        for spelling in (secret, quote_plus(secret)) if secret else ():
            text = text.replace(spelling, MASK)
    return text


def _is_header_value(value: str) -> bool:
    return not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value) and max(map(ord, value), default=0) < 256
