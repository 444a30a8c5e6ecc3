"""The command `penstock`: imports the module of a command when it is used, and maps errors to exit codes.

0 done, 1 failure, 2 wrong usage or setting, 3 not found, 4 key missing or too small, 5 refused as invalid or in
conflict, 6 the gateway does not answer, 7 the run that was waited for failed, 8 waited too long, 130 Ctrl-C.
"""

import importlib
from typing import Any

import rich_click as click
from click.exceptions import Exit

from schemas.errors import PenstockError

COMMANDS = {
    "up": "Run everything on this machine: Postgres, Redis, gateway and runner.",
    "demo": "Show a webhook become a finished run, in a minute.",
    "pipelines": "List, inspect, pause and unpause pipelines.",
    "schedules": "Say what may start a pipeline, and how.",
    "sources": "See who can send, and what to set up at the sender's side.",
    "tokens": "Make, rotate and revoke the secrets that fire a schedule.",
    "keys": "Make and revoke API keys.",
    "import": "Take schedules and their tokens over from another product.",
    "events": "See what came, why it did or did not run, follow it and send it in again.",
    "replays": "See where replays stand, and stop them.",
    "send": "Send what a sender would, signed, to try a schedule.",
    "trigger": "Start a run and, if you like, wait for it.",
    "backfill": "Run a pipeline once for each date of a range.",
    "backfills": "See where backfills stand, pause and cancel them.",
    "runs": "List, inspect, watch, cancel, resume, rerun and mark runs, and read their logs.",
    "callbacks": "See whom runs told of their end, and tell them again.",
    "audit": "See who did what.",
    "status": "Show what runs, waits, fails and fires next.",
    "search": "Find pipelines, schedules, runs and events.",
    "purge": "Delete what is old.",
    "gateway": "Run the gateway alone.",
    "runner": "Run a runner alone.",
    "migrate": "Bring the database up to date.",
    "bench": "Measure Penstock on this machine.",
    "doctor": "Check this installation and say what to do.",
}
MODULES = {
    "backfill": "backfills",
    "import": "imports",
    "gateway": "roles",
    "runner": "roles",
    "migrate": "roles",
    "runs": "control",
}  # otherwise named like the command
_ATTRIBUTES = {"import": "import_"}  # a word of Python's own
EXIT_CODES = {
    "settings": 2,
    "not_found": 3,
    "unauthenticated": 4,
    "bad_signature": 4,
    "forbidden": 4,
    "conflict": 5,
    "invalid": 5,
    "malformed": 5,
    "too_large": 5,
    "unavailable": 6,
    "run_failed": 7,
    "wait_timeout": 8,
}
INTERRUPTED = 130


class LazyGroup(click.RichGroup):
    """Knows its commands by name and one line of help, and imports the module of one only to run it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, line in COMMANDS.items():
            self.add_command(click.RichCommand(name=name, help=line))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of COMMANDS: first things first."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Replace the placeholder of `gateway.cli.NAME` by the command NAME which that module exports."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = getattr(
                importlib.import_module(f"gateway.cli.{MODULES.get(name, name)}"), _ATTRIBUTES.get(name, name)
            )
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its errors become messages here and nowhere else."""
        try:
            return super().invoke(ctx)
        except PenstockError as error:
            click.echo(f"penstock: {error.message}", err=True)
            raise Exit(EXIT_CODES.get(error.code, 1)) from error
        except KeyboardInterrupt:
            raise Exit(INTERRUPTED) from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock", prog_name="penstock")
def cli() -> None:
    """A gate for webhooks, and the pipe behind it.

    A secret token per schedule lets any system POST a payload; it becomes a pipeline run whose status streams back.
    Start with `penstock demo`, then `penstock up`.
    """


def main() -> None:
    """Run the command line; ends the process with an exit code."""
    cli(prog_name="penstock")
