"""`python -m gateway.dialects` prints the tables of docs/dialects/README.md, made from the handlers."""

import sys

from gateway.dialects import Dialect, discover, routes


def table(dialect: Dialect) -> str:
    """Write the routes of a dialect as a table of Markdown."""
    rows = [
        f"| `{route.method} {route.path}` | {route.role or 'none'} | {route.summary} |" for route in routes(dialect)
    ]
    return "\n".join(("| route | role | |", "|---|---|---|", *rows))


def tables() -> str:
    """Write all tables, each under the title of its dialect."""
    return "\n\n".join(f"### {dialect.title}\n\n{table(dialect)}" for dialect in discover().values())


if __name__ == "__main__":
    sys.stdout.write(tables() + "\n")
