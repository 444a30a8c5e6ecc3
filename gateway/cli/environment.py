"""What a command's flags mean for the processes that it starts, and how it finds out whether they are there."""

import contextlib
import http.client
import os
from urllib.parse import urlsplit

from schemas.settings import PREFIX


def environment(**flags: str | int | None) -> dict[str, str]:
    """Return this process's environment with each flag that was given in place of its `PENSTOCK_*` variable."""
    environ = dict(os.environ)
    for name, value in flags.items():
        if value is not None:
            variable = PREFIX + name.upper()
            environ.pop(f"{variable}_FILE", None)
            environ[variable] = str(value)
    return environ


def answers(url: str, path: str) -> bool:
    """Whether a GET is answered with 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5.0)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False
