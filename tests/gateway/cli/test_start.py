"""What a client command may import: the start of a command is most of its time."""

import subprocess
import sys

import pytest

HEAVY = ("litestar", "httpx", "asyncpg", "arq", "redis", "structlog", "uvicorn", "asyncio", "rich.table", "rich.live")


@pytest.mark.parametrize(
    "module", ["pipelines", "schedules", "tokens", "keys", "trigger", "runs", "events", "replays", "send", "sources"]
)
def test_a_client_command_imports_nothing_heavy(module: str) -> None:
    code = f"import sys; import gateway.cli.{module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_sending_as_one_source_imports_no_other() -> None:
    code = "import sys; from gateway.cli.signing import find_source; find_source('github'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in done.stdout.split() if name.startswith("gateway.sources.")} == {"gateway.sources.github"}
