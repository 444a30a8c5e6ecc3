"""A block host: the child process in which users' code runs, one block at a time, many blocks in its life.

Started by `runner/child.py` as `python -P -m runner.host`. It knows neither Postgres nor Redis: what a block needs
comes in its Call, what becomes of it goes back as one answer. Whatever user code does ends here, at worst with this
process.
"""

import asyncio
import ctypes
import faulthandler
import inspect
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from runner.capture import Capture, Outbox
from runner.context import Cancelled, Log, Run
from runner.graph import Pipeline, Step
from runner.large_bodies import fetch
from runner.lines import clean
from runner.modules import LoadedPipeline, PipelineFiles
from runner.outputs import ask, decode, encode
from runner.remote import Remote
from runner.returns import Branch, Skip
from runner.tracebacks import explain, format_traceback, message_of
from runner.wire import (
    Asked,
    Call,
    Describe,
    Described,
    Failed,
    FrameBuffer,
    Outcome,
    Ready,
    Reason,
    Refused,
    Reply,
    Report,
    Skipped,
    Succeeded,
    pack,
    requests,
)
from schemas.pipelines import Block
from schemas.runs import RunError

_CHUNK = 256 << 10
_OOM_SCORE = b"500"  # of 1000: the kernel takes a host before the runner
_PR_SET_PDEATHSIG = 1


class BlockHost:
    """Answers the frames of one connection until it is closed."""

    def __init__(self, connection: socket.socket, directory: Path) -> None:
        self._connection = connection
        self._directory = directory
        self._received = FrameBuffer(requests)
        self._outbox = Outbox(connection, self._raise_when_cancelled)
        self._capture = Capture(self._outbox)
        self._log = Log(self._capture.log)
        self._files = PipelineFiles(directory)
        self._loop = asyncio.new_event_loop()
        self._flush_c_streams = ctypes.CDLL(None).fflush
        self._is_waiting = False
        self._is_in_user_code = False
        self._is_cancelled = False
        self._task: asyncio.Future[Any] | None = None

    def serve(self) -> None:
        """Take over this process's streams and SIGTERM, then execute what comes."""
        self._capture.install()
        asyncio.set_event_loop(self._loop)
        signal.signal(signal.SIGTERM, self._on_terminate)
        os.register_at_fork(after_in_child=self._leave_fork)
        self._outbox.send(pack(Ready()))
        while (request := self._receive()) is not None:
            answer = self._answer(request)
            self._capture.finish()
            self._flush_c_streams(None)
            self._outbox.send(pack(answer))
        self._loop.close()

    def _receive(self) -> Call | Describe | None:
        while not self._is_cancelled:
            request = self._received.next()
            if request is not None:
                return request
            self._is_waiting = True
            data = self._connection.recv(_CHUNK)
            self._is_waiting = False
            if not data:
                break
            self._received.feed(data)
        return None

    def _answer(self, request: Call | Describe) -> Reply:
        started = time.monotonic()
        reply: Reply
        try:
            try:
                self._is_in_user_code = True
                self._raise_when_cancelled()
                reply = self._execute(request) if isinstance(request, Call) else self._describe(request)
            finally:
                self._is_in_user_code = False
        except BaseException as error:  # noqa: BLE001  (SystemExit and all: the block fails, not the host)
            reply = self._fail(request, error)
        if isinstance(reply, Described):
            return reply
        return msgspec.structs.replace(reply, duration_ms=round((time.monotonic() - started) * 1000))

    def _describe(self, request: Describe) -> Described:
        return Described(definitions=self._files.describe(request.path))

    def _execute(self, call: Call) -> Outcome | Asked:
        loaded = self._find(call)
        step = loaded.steps[call.block_id]
        arguments = self._arguments(call, loaded.pipeline, step)
        result = step.function(**arguments)
        if inspect.isawaitable(result):
            result = self._await(asyncio.ensure_future(result, loop=self._loop))
        if isinstance(result, Remote):
            return ask(result, block_id=call.block_id)
        if isinstance(result, Skip):
            return Skipped(reason=clean(str(result.reason)))
        chosen = None
        if isinstance(result, Branch):
            chosen, result = _chosen(result, call, loaded), result.value
        output, row_count = encode(result, call)
        return Succeeded(output=output, row_count=row_count, chosen=chosen)

    def _find(self, call: Call) -> LoadedPipeline:
        loaded = self._files.get(call.path, call.pipeline_id, version=call.version)
        if loaded is None or call.block_id not in loaded.steps:
            raise Refused(
                Reason.BLOCK_MISSING,
                f"{call.path} no longer defines block {call.block_id!r} of pipeline {call.pipeline_id!r}: "
                "it was edited after this run was planned",
            )
        return loaded

    def _arguments(self, call: Call, pipeline: Pipeline[Any], step: Step) -> dict[str, Any]:
        try:
            params = pipeline.read_params(call.variables)
        except msgspec.MsgspecError as error:
            message = f"the variables do not fit the params of pipeline {call.pipeline_id!r}: {error}"
            raise Refused(Reason.PARAMS_INVALID, message) from None
        given = call.inputs.keys() | call.gathered.keys()
        missing = next((source for source in step.inputs.values() if source not in given), None)
        if missing is not None:
            message = (
                f"block {call.block_id!r} takes the output of {missing!r}, which it did not when the run was planned"
            )
            raise Refused(Reason.INPUT_MISSING, message)
        arguments = {name: _input(call, source) for name, source in step.inputs.items()}
        if step.run_parameters:
            arguments |= dict.fromkeys(step.run_parameters, self._run(call, params))
        return arguments

    def _run(self, call: Call, params: Any) -> Run[Any]:
        return Run(
            params=params,
            variables=msgspec.json.decode(call.variables),
            event_variables=call.event,
            id=call.run_id,
            number=call.number,
            pipeline_id=call.pipeline_id,
            block_id=call.block_id,
            schedule_id=call.schedule_id,
            event_id=call.event_id,
            logical_date=call.logical_date,
            attempt=call.attempt,
            map_index=call.map_index,
            is_dry_run=call.most_rows is not None,
            log=self._log,
            fetch=fetch,
            **_told(call.report),
        )

    def _await(self, task: asyncio.Future[Any]) -> Any:
        self._task = task
        try:
            return self._loop.run_until_complete(task)
        finally:
            self._task = None
            if task.done() and not task.cancelled():
                task.exception()  # SystemExit leaves the loop without this, and asyncio would complain later

    def _fail(self, request: Call | Describe, error: BaseException) -> Failed:
        block_id = request.block_id if isinstance(request, Call) else None
        if isinstance(error, Refused):
            return Failed(reason=error.reason, error=RunError(type=error.reason, message=str(error), block_id=block_id))
        raised = RunError(
            type=type(error).__name__,
            message=message_of(error) if block_id else explain(error, self._directory, path=request.path),
            block_id=block_id,
            traceback=format_traceback(error, self._directory),
        )
        return Failed(reason=Reason.RAISED, error=raised)

    def _on_terminate(self, _signal: int, _frame: FrameType | None) -> None:
        if self._is_waiting:
            raise SystemExit(0)
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            return
        self._is_cancelled = True
        if not self._outbox.is_sending:
            self._raise_when_cancelled()

    def _raise_when_cancelled(self) -> None:
        """Interrupt the user's function, once, and never in the middle of a frame."""
        if self._is_cancelled and self._is_in_user_code and threading.current_thread() is threading.main_thread():
            self._is_in_user_code = False
            raise Cancelled

    def _leave_fork(self) -> None:
        """A fork of this process, made by user code, is no block host."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._connection.close()


def _input(call: Call, source: str) -> Any:
    if source in call.inputs:
        return decode(call.inputs[source])
    return [None if output is None else decode(output) for output in call.gathered[source]]


def _told(report: Report | None) -> dict[str, Any]:
    return {} if report is None else {"state": report.state, "error": report.error, "about": report.about}


def _chosen(branch: Branch, call: Call, loaded: LoadedPipeline) -> tuple[str, ...]:
    """Check that a branch names blocks directly behind it, and that there is one decision to make."""
    blocks = [step.block for step in loaded.steps.values() if isinstance(step.block, Block)]
    behind = [block.id for block in blocks if call.block_id in block.upstream]
    unknown = next((name for name in branch.chosen if name not in behind), None)
    if call.map_index is not None:
        problem = "it is mapped, and its items cannot choose for all of them"
    elif unknown is not None:
        problem = f"{unknown!r} is not directly behind it; there is {', '.join(behind) or 'no block'}"
    else:
        return branch.chosen
    raise Refused(
        Reason.BRANCH_UNKNOWN, f"block {call.block_id!r} returned {branch.chosen!r} as a Branch, but {problem}"
    )


def main() -> None:
    """Serve the connection that the runner passed on. Arguments: its descriptor, the directory, our parent, a limit."""
    descriptor, directory, parent, memory_mb = sys.argv[1:]
    connection = socket.socket(fileno=int(descriptor))
    connection.set_inheritable(False)
    faulthandler.enable()
    _offer_to_oom_killer()
    _die_with(int(parent), connection)
    if int(memory_mb):
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_mb) << 20, resource.getrlimit(resource.RLIMIT_AS)[1]))
    sys.path.append(directory)
    sys.argv[1:] = []
    BlockHost(connection, Path(directory)).serve()


def _offer_to_oom_killer() -> None:
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(_OOM_SCORE)


def _die_with(parent: int, connection: socket.socket) -> None:
    """Do not outlive the runner: the kernel sees to it on Linux, a thread elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(connection.fileno(),), daemon=True).start()
    if os.getppid() != parent:
        os._exit(0)


def _watch(descriptor: int) -> None:
    hung_up = select.poll()
    hung_up.register(descriptor, 0)
    hung_up.poll()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
