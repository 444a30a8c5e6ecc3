"""Block hosts for the tests of one module, and two ways to have a block executed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from runner.hosts import Hosts
from runner.wire import LogFrame, Outcome
from tests.runner.block_hosts import call, nowhere, running


@pytest.fixture(scope="module")
async def hosts() -> AsyncIterator[Hosts]:
    async with running() as hosts:
        yield hosts


@pytest.fixture
def execute(hosts: Hosts):
    async def execute(pipeline: str, block: str, *, within: float = 20, **fields: Any) -> Outcome:
        return await hosts.run(call(pipeline, block, **fields), timeout=within, on_log=nowhere)

    return execute


@pytest.fixture
def listen(hosts: Hosts):
    async def listen(pipeline: str, block: str, **fields: Any) -> list[LogFrame]:
        lines: list[LogFrame] = []
        await hosts.run(call(pipeline, block, **fields), timeout=60, on_log=lines.append)
        return lines

    return listen
