"""`penstock send`: a request as a sender would make it, signed, to try a setup before the real sender does."""

import datetime as dt
import http.client
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import rich_click as click

from gateway.cli import signing
from gateway.cli.client import Answer, Client, path, read
from gateway.cli.explaining import Step, describe_steps
from gateway.cli.options import JsonObject, Session, connected, read_bytes, read_secret
from gateway.cli.output import Column, Fields, Lines, Listing, Output, Part
from gateway.cli.runs import await_all
from gateway.cli.signing import Request
from gateway.sources import Source
from schemas.runs import RunRef
from schemas.schedules import Schedule, ShownToken, SourceConfig

LIFETIME = dt.timedelta(minutes=10)
SECRET_VARIABLE, TOKEN_VARIABLE = "PENSTOCK_SENDER_SECRET", "PENSTOCK_TOKEN"
_PLACEHOLDER = "TOKEN"
_HOOKS = "/hooks/"
_RUN_COLUMNS = (Column("run", "number"), Column("state", "state"), Column("id"))
_COLUMNS = (Column("status", "state"), Column("event"), Column("runs"), Column("reason"))


class Taken(msgspec.Struct, frozen=True):
    """What a hook answers to a delivery, unless its sender wants another form."""

    status: str
    event_id: str | None = None
    runs: list[RunRef] = []
    reason: str | None = None
    steps: list[Step] | None = None


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command."""

    source: str | None
    sample: str | None
    data: str | None
    headers: tuple[str, ...]
    count: int
    dry_run: bool
    tamper: bool
    unsigned: bool
    show: bool
    raw: bool
    reveal: bool
    follow: bool
    timeout: float | None
    secret: str | None
    token: str | None
    source_config: dict[str, msgspec.Raw] | None

    def check(self) -> None:
        """Raise a usage error for options that do not go together."""
        if self.timeout is not None and not self.follow:
            raise click.UsageError("--timeout needs --follow.")
        if (self.raw or self.reveal) and not self.show:
            raise click.UsageError("--raw and --reveal need --show.")
        if self.follow and (self.dry_run or self.show):
            raise click.UsageError("--follow needs a delivery: without --dry-run and --show.")
        if self.tamper and self.unsigned:
            raise click.UsageError("--tamper makes a signature wrong: without --unsigned.")


class _Target(msgspec.Struct, frozen=True):
    """Where to send: the URL of a token, or of one that is still to be made; the schedule if the API told of it."""

    url: str
    schedule: Schedule | None = None

    @property
    def token(self) -> str:
        return urlsplit(self.url).path.partition(_HOOKS)[2].partition("/")[2]


@click.command()
@click.argument("to", metavar="SCHEDULE|URL")
@click.option("--source", metavar="NAME", help="As whom to send; otherwise the schedule's source.")
@click.option("--sample", metavar="NAME", help="What to send; otherwise the first: penstock sources show NAME.")
@click.option("-d", "--data", metavar="FILE|-", help="Send this body instead of the sample's.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="One more header, or another.")
@click.option(
    "--secret", metavar="TEXT|@FILE|-", help=f"The sender's; otherwise {SECRET_VARIABLE}, or it is asked for."
)
@click.option("--source-config", type=JsonObject(), metavar="JSON|@FILE|-", help="Otherwise the schedule's.")
@click.option("--token", metavar="TEXT|@FILE|-", help=f"Otherwise {TOKEN_VARIABLE}, or one is made for some minutes.")
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many, one by one.")
@click.option("--dry-run", is_flag=True, help="Only let the gateway say what would become of it; nothing is kept.")
@click.option("--tamper", is_flag=True, help="Change a byte after signing, to see it refused.")
@click.option("--unsigned", is_flag=True, help="Do not sign.")
@click.option("--show", is_flag=True, help="Do not send: print it as a curl command, secrets masked.")
@click.option("--raw", is_flag=True, help="With --show: print it as HTTP.")
@click.option("--reveal", is_flag=True, help="With --show: do not mask secrets.")
@click.option("--follow", is_flag=True, help="Watch the runs; exit 7 unless all succeed.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Then exit 8.")
@connected
def send(session: Session, *, to: str, **given: Any) -> None:
    """Send to SCHEDULE (id or number), or to the URL of a token, what a sender would, signed as it does.

    The API masks the secrets of a schedule, so they cannot be read from there: give the one that the sender has.
    Without a token one is made that lives for ten minutes, and revoked when all is sent.

    \b
    Examples:
    penstock send 7 --follow
    penstock send 7 --source github --sample push --dry-run
    penstock send 7 --tamper
    penstock send https://hooks.example.org/hooks/7/pst_... --source stripe --secret @secret.txt
    """
    asked = _Asked(**given)
    asked.check()
    target = _find_target(session.client, to, asked)
    request = _request(asked, target)
    if target.schedule and target.schedule.source != request.source.name:
        session.output.note(f"Schedule {to} is of source {target.schedule.source}, and reads what is sent as that.")
    if asked.show:
        _show(session.output, request, target, asked)
        return
    request.make(target.url, time.time())  # who cannot sign needs no token
    with _token_in(target, session.client) as url:
        answers = _send_all(session.client, request, _called(url, asked), asked.count)
    if not (asked.follow and session.output.is_json and all(map(_is_taken, answers))):
        _print(session, answers, asked)
    if asked.follow:
        taken = filter(None, map(_read, answers))
        await_all(session, (run.id for delivery in taken for run in delivery.runs), timeout=asked.timeout)


def _find_target(client: Client, to: str, asked: _Asked) -> _Target:
    """Find where to send; the schedule is asked for where somebody has to know it."""
    token = read_secret(asked.token, "--token", TOKEN_VARIABLE)
    if to.startswith(("http://", "https://")):
        return _Target(_url_with(to, token))
    is_known = token and asked.source and not client.has_key
    schedule = None if is_known else read(client.fetch("GET", path("schedules", to)), Schedule)
    return _Target(f"{client.url}{_HOOKS}{quote(to, safe='')}/{quote(token, safe='')}", schedule)


def _url_with(url: str, token: str) -> str:
    schedule, _, own = urlsplit(url).path.partition(_HOOKS)[2].partition("/")
    if not schedule or "?" in url or "#" in url:
        raise click.UsageError("The URL must be that of a token, such as https://hooks.example.org/hooks/7/pst_...")
    if not (own or token):
        raise click.UsageError(f"The URL holds no token: add it, or use --token or {TOKEN_VARIABLE}.")
    return url if own else f"{url.rstrip('/')}/{quote(token, safe='')}"


def _request(asked: _Asked, target: _Target) -> Request:
    name = asked.source or (target.schedule.source if target.schedule else None)
    if name is None:
        raise click.UsageError("Of a URL the source cannot be known: add --source; penstock sources ls lists them.")
    source = signing.find_source(name)
    return Request(
        source=source,
        sample=signing.find_sample(source, asked.sample),
        config=SourceConfig() if asked.unsigned else _find_config(source, target.schedule, asked),
        headers=signing.read_headers(asked.headers),
        body=None if asked.data is None else read_bytes(asked.data, "--data"),
        is_signed=not asked.unsigned,
        is_tampered=asked.tamper,
    )


def _find_config(source: Source, schedule: Schedule | None, asked: _Asked) -> SourceConfig:
    """Collect what signing needs: the schedule's configuration, what was given besides, and the secret."""
    stored = schedule.source_config if schedule else SourceConfig()
    config = msgspec.structs.replace(stored, secrets=())
    if asked.source_config is not None:
        config = _read_config(asked.source_config)
    if secret := read_secret(asked.secret, "--secret", SECRET_VARIABLE):
        return msgspec.structs.replace(config, secrets=(secret,))
    is_needed = bool(stored.secrets) if schedule else bool(source.schemes) and not source.is_optional
    if config.secrets or not is_needed:
        return config
    return msgspec.structs.replace(config, secrets=(_ask_for_secret(source),))


def _read_config(given: dict[str, msgspec.Raw]) -> SourceConfig:
    try:
        return msgspec.json.decode(msgspec.json.encode(given), type=SourceConfig)
    except msgspec.ValidationError as error:
        raise click.BadParameter(f"{error}.", param_hint="--source-config") from None


def _ask_for_secret(source: Source) -> str:
    if sys.stdin.isatty() and sys.stderr.isatty():
        return str(click.prompt(f"The secret that {source.title} has", hide_input=True, err=True))
    raise click.UsageError(
        f"{source.title} signs what it sends, and the API masks the secrets of a schedule, so it cannot be read from "
        f"there: give it as --secret @FILE, --secret -, or {SECRET_VARIABLE}; or send without by --unsigned."
    )


@contextmanager
def _token_in(target: _Target, client: Client) -> Iterator[str]:
    """Give a URL with a token: the target's own or, for as long as this lasts, one of a token made for it."""
    if target.token or target.schedule is None:
        yield target.url
        return
    expires_at = (dt.datetime.now(dt.UTC) + LIFETIME).isoformat()
    body = {"label": "penstock send", "expires_at": expires_at}
    made = read(client.fetch("POST", path("schedules", str(target.schedule.id), "tokens"), body=body), ShownToken)
    try:
        yield made.url
    finally:
        client.request("DELETE", path("tokens", str(made.id)))


def _called(url: str, asked: _Asked) -> str:
    return f"{url}?dry_run=1" if asked.dry_run else url


def _send_all(client: Client, request: Request, url: str, count: int) -> list[Answer]:
    """Send one after the other, until one is refused."""
    answers: list[Answer] = []
    for _ in range(count):
        made = request.make(url, time.time())
        answers.append(client.deliver(made.url, made.body, made.headers))
        if not _is_taken(answers[-1]):
            break
    return answers


def _print(session: Session, answers: Sequence[Answer], asked: _Asked) -> None:
    """Print the answers; raises what a refusal stands for."""
    output, taken = session.output, [answer for answer in answers if _is_taken(answer)]
    if asked.count == 1 and taken:
        output.record(_json(taken[0]), lambda: _describe(taken[0]))
    elif taken:
        output.listing((msgspec.Raw(_json(answer)) for answer in taken), _COLUMNS, _row)
    if len(taken) < len(answers):
        raise session.client.problem(answers[-1], hints=False)


def _is_taken(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def _json(answer: Answer) -> bytes:
    """Give the gateway's answer as it is or, where its sender wants no JSON, an object that tells of it."""
    try:
        msgspec.json.decode(answer.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = {"status_code": answer.status, "body": answer.content.decode(errors="replace")}
        return msgspec.json.encode(told)
    return answer.content


def _read(answer: Answer) -> Taken | None:
    try:
        return msgspec.json.decode(answer.content, type=Taken)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _describe(answer: Answer) -> list[Part]:
    line = f"{answer.status} {http.client.responses.get(answer.status, '')}"
    taken = _read(answer)
    if taken is None:
        body = tuple(answer.content.decode(errors="replace").splitlines())
        return [Fields((("answer", line),)), Lines("body", body)]
    pairs = (
        ("answer", line),
        ("status", taken.status),
        ("event", taken.event_id or ""),
        ("reason", taken.reason or ""),
    )
    parts: list[Part] = [Fields(pairs)]
    if taken.runs:
        rows = [[f"#{run.number}", run.state, str(run.id)] for run in taken.runs]
        parts.append(Listing(_RUN_COLUMNS, rows, "run"))
    return [*parts, *describe_steps(taken.steps)] if taken.steps else parts


def _row(raw: msgspec.Raw) -> list[str]:
    try:
        taken = msgspec.json.decode(raw, type=Taken)
    except msgspec.MsgspecError:
        return ["", "", "", bytes(raw).decode()]
    runs = " ".join(f"#{run.number}" for run in taken.runs)
    return [taken.status, taken.event_id or "", runs, taken.reason or ""]


def _show(output: Output, request: Request, target: _Target, asked: _Asked) -> None:
    """Print a request instead of sending it."""
    url = target.url if target.token else target.url + _PLACEHOLDER
    made = request.make(_called(url, asked), time.time())
    if not asked.reveal:
        made = signing.masked(made, (target.token, *request.config.secrets))
        output.note("Secrets are masked; --reveal shows them.")
    if not target.token:
        output.note("Put a token into the URL; send makes one itself: penstock tokens create SCHEDULE")
    if output.is_json:
        output.record(signing.as_json(made), list)
    else:
        output.data(signing.as_http(made) if asked.raw else signing.as_curl(made))
