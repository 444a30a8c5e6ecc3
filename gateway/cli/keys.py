"""`penstock keys`: the API keys that open `/v1`, and with it these commands."""

import msgspec
import rich_click as click

from gateway.cli.client import path, read
from gateway.cli.options import Session, confirm, connected
from gateway.cli.output import Column, Fields
from schemas.keys import Key, ShownKey
from schemas.states import Role

_COLUMNS = (
    Column("id"),
    Column("name"),
    Column("role"),
    Column("key"),
    Column("state", "state"),
    Column("created"),
    Column("last used"),
)


@click.group()
def keys() -> None:
    """Make and revoke API keys; a key's role is viewer, operator, editor or admin."""


@keys.command()
@connected
def ls(session: Session) -> None:
    """List the keys: names, roles and hints, never the keys themselves."""
    output = session.output

    def row(item: msgspec.Raw) -> list[str]:
        key = read(item, Key)
        state = "revoked" if key.revoked_at else "active"
        used = output.moment(key.last_used_at)
        return [str(key.id), key.name, key.role, key.hint, state, output.moment(key.created_at), used]

    if not output.listing(session.client.pages(path("keys"), query={}, limit=None), _COLUMNS, row):
        output.note("No keys yet. Make one: penstock keys create --name ci --role operator")


@keys.command()
@click.option("--name", required=True, help="Who or what will use it.")
@click.option("--role", required=True, type=click.Choice([role.value for role in Role]), help="What it may do.")
@connected
def create(session: Session, *, name: str, role: str) -> None:
    """Make a key and print it, this one time.

    \b
    Example:
    penstock keys create --name ci --role operator
    """
    raw = session.client.fetch("POST", path("keys"), body={"name": name, "role": role})
    key = read(raw, ShownKey)
    pairs = (("id", str(key.id)), ("name", key.name), ("role", key.role), ("key", key.key))
    session.output.record(raw, lambda: [Fields(pairs)])
    session.output.note("Store the key now: it is not shown again. Commands read it from PENSTOCK_API_KEY.")


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connected
def revoke(session: Session, *, key_id: str, yes: bool) -> None:
    """Make a key useless at once; ID is what `penstock keys ls` shows."""
    confirm(f"Revoke the API key {key_id}?", yes=yes)
    session.client.request("DELETE", path("keys", key_id))
    session.output.note(f"Key {key_id} is revoked.")
