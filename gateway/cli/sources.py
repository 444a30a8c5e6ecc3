"""`penstock sources`: who can send, how each proves itself, and what to set up at its side."""

import re
from collections.abc import Iterator, Sequence

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import Session, connected
from gateway.cli.output import Column, Fields, Lines, Part
from gateway.cli.signing import find_source
from gateway.sources import Source, discover
from gateway.sources_table import EVERY_DELIVERY, proofs
from schemas.schedules import Schedule

_COLUMNS = (
    Column("name", "state"),
    Column("title"),
    Column("proof"),
    Column("dedupe key"),
    Column("handshakes"),
    Column("splits"),
    Column("samples"),
)
_EXAMPLES = {
    "public_key": '"PUBLIC KEY"',
    "verify_token": '"A WORD OF YOUR CHOICE"',
    "audience": '"AUDIENCE"',
    "email": '"NAME@PROJECT.iam.gserviceaccount.com"',
    "topics": '["arn:aws:sns:REGION:ACCOUNT:TOPIC"]',
    "signature": '{"header": "X-Signature"}',
}


class ShownSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source as it is told about.

    `needs` are the fields of `source_config` without which nothing is verified, one list for each way to prove who
    sends; without any the token in the URL is proof enough. `takes` are those that count besides. `commands` set it up,
    and `schedule` is how the schedule stands that was asked for.
    """

    name: str
    title: str
    proof: str
    needs: list[list[str]]
    takes: list[str]
    dedupe_key: str
    handshakes: str
    splits: bool
    samples: list[str]
    setup: str
    commands: list[str]
    schedule: list[str] | None = None


@click.group()
def sources() -> None:
    """See who can send; nothing here needs a gateway, unless you name a schedule."""


@sources.command()
@connected
def ls(session: Session) -> None:
    """List the sources: what proves who sends, what makes two deliveries the same, and which samples there are."""

    def row(item: msgspec.Raw) -> list[str]:
        shown = read(item, ShownSource)
        names = [shown.name, shown.title, shown.proof, shown.dedupe_key, shown.handshakes]
        return [*names, "yes" if shown.splits else "no", ", ".join(shown.samples)]

    items = (msgspec.Raw(msgspec.json.encode(_tell(source))) for _, source in sorted(discover().items()))
    session.output.listing(items, _COLUMNS, row)


@sources.command()
@click.argument("name")
@click.option("--schedule", "schedule_id", metavar="ID", help="For this schedule: with its URL and what it lacks.")
@connected
def show(session: Session, *, name: str, schedule_id: str | None) -> None:
    """Show one source: what to paste where at the sender's side, and what the schedule needs.

    \b
    Examples:
    penstock sources show github
    penstock sources show stripe --schedule 7
    """
    source = find_source(name)
    schedule = None
    if schedule_id is not None:
        schedule = read(session.client.fetch("GET", path("schedules", schedule_id)), Schedule)
    shown = _tell(source, schedule)
    number = schedule.number if schedule else "ID"
    url = f"{session.client.url}/hooks/{number}/TOKEN"
    session.output.record(msgspec.json.encode(shown), lambda: _describe(shown))
    session.output.note(
        f"The URL to paste is {url}, begun as PENSTOCK_PUBLIC_URL says. `penstock tokens create` prints it with its "
        "token, once: tokens are not shown again."
    )


def _tell(source: Source, schedule: Schedule | None = None) -> ShownSource:
    needs = [] if source.is_optional else list(dict.fromkeys(scheme.needs for scheme in source.schemes))
    takes = [*source.takes, *(name for scheme in source.schemes for name in (*scheme.needs, *scheme.takes))]
    needed = {name for names in needs for name in names}
    number = str(schedule.number) if schedule else "ID"
    commands = [
        f"penstock tokens create {number} --label {source.name}",
        f"penstock send {number} --source {source.name}",
    ]
    return ShownSource(
        name=source.name,
        title=source.title,
        proof=_plain(proofs(source)),
        needs=[list(names) for names in needs],
        takes=[name for name in dict.fromkeys(takes) if name not in needed],
        dedupe_key=_plain(source.dedupe or EVERY_DELIVERY),
        handshakes=_plain(source.handshakes or "none"),
        splits=source.split is not None,
        samples=list(source.samples),
        setup=_plain(source.setup),
        commands=commands if schedule else [_creation(source, needs), *commands],
        schedule=list(_state_of(source, schedule, needs)) if schedule else None,
    )


def _describe(shown: ShownSource) -> list[Part]:
    pairs = (
        ("source", shown.name),
        ("title", shown.title),
        ("proof", shown.proof),
        ("needs", _alternatives(shown.needs)),
        ("takes", ", ".join(shown.takes)),
        ("dedupe key", shown.dedupe_key),
        ("handshakes", shown.handshakes),
        ("splits", "yes, into one run for each item" if shown.splits else "no"),
        ("samples", ", ".join(shown.samples)),
    )
    sentences = tuple(re.split(r"(?<=\.) (?=[A-Z])", shown.setup))
    parts: list[Part] = [Fields(pairs), Lines("at the sender's side", sentences)]
    if shown.schedule is not None:
        parts.append(Lines("schedule", tuple(shown.schedule)))
    return [*parts, Lines("here", tuple(shown.commands))]


def _creation(source: Source, needs: Sequence[Sequence[str]]) -> str:
    """Write the command that makes a schedule; of several ways the one without anything, or with only a secret."""
    command = f"penstock schedules create --pipeline PIPELINE --name {source.name} --source {source.name}"
    chosen = next((names for names in needs if set(names) <= {"secrets"}), needs[0] if needs else ())
    fields = [name for name in (*chosen, *source.takes) if name in _EXAMPLES]
    members = ", ".join(f'"{name}": {_EXAMPLES[name]}' for name in fields)
    command += f" --source-config '{{{members}}}'" if members else ""
    return command + (" --secret-stdin < secret.txt" if "secrets" in chosen else "")


def _state_of(source: Source, schedule: Schedule, needs: Sequence[Sequence[str]]) -> Iterator[str]:
    config = schedule.source_config
    if schedule.source != source.name:
        yield f"Its source is {schedule.source}: what {source.title} sends would be read as that."
    for name in config.__struct_fields__:
        if value := getattr(config, name):
            shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            yield f"{name}: {f'{len(value)} set' if name == 'secrets' else shown}"
    if needs and not any(all(getattr(config, name) for name in names) for names in needs):
        yield f"It lacks {_alternatives(needs)}: every delivery is refused."


def _alternatives(needs: Sequence[Sequence[str]]) -> str:
    return "; or ".join(" and ".join(names) or "nothing" for names in needs) or "nothing"


def _plain(text: str) -> str:
    """Take the marks of Markdown out."""
    return text.replace("`", "")
