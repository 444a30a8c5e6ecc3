"""What a host's process writes past Python's sys.stdout and sys.stderr: C code, subprocesses, faulthandler."""

import codecs
import os

from runner.lines import LineSplitter
from runner.wire import LogFrame
from schemas.states import LogLevel

_CHUNK = 4096  # of one-byte lines, still a short turn of the event loop
_CAPACITY = 64 << 10


class OutputPipe:
    """A pipe whose reading end is ours; `theirs` is inherited by the process and then closed here."""

    def __init__(self, level: LogLevel) -> None:
        self._level = level
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._splitter = LineSplitter()
        self.ours, self.theirs = os.pipe()
        os.set_blocking(self.ours, False)
        self.is_at_end = False

    def read(self) -> list[LogFrame]:
        """Return the lines in the next piece, without waiting for one."""
        try:
            data = os.read(self.ours, _CHUNK)
        except BlockingIOError:
            return []
        self.is_at_end = not data
        return self._frames(self._splitter.feed(self._decode(data)))

    def drain(self) -> list[LogFrame]:
        """Return everything that was written until now, an unfinished line too."""
        lines: list[str] = []
        for _ in range(_CAPACITY // _CHUNK):
            try:
                data = os.read(self.ours, _CHUNK)
            except BlockingIOError:
                break
            if not data:
                break
            lines += self._splitter.feed(self._decode(data))
        return self._frames(lines + self._splitter.flush())

    def _frames(self, lines: list[str]) -> list[LogFrame]:
        return [LogFrame(level=self._level, message=line) for line in lines]
