"""How a block reads an event that is too large for a row: out of the object store, in the process of the block.

So who does not ask for it does not pay for it, and the runner never holds it.
"""

import asyncio
import hashlib
import os
import threading
from concurrent.futures import Future

from runner.context import EventBody
from runner.wire import Reason, Refused
from schemas.errors import NotFound, Unavailable
from schemas.objects import ObjectStore, insist

PATIENCE_S = 30.0  # in which the object store may come back before the block fails
_THREADS = {"TOKIO_WORKER_THREADS": "2"}  # or one per processor, each of which takes of the host's address space


def fetch(event: EventBody) -> bytes:
    """Read the body of an event; raises Refused when it cannot be had, or is not what was sent."""
    try:
        body = _wait_for(event)
    except NotFound:
        problem = (
            "it is not in the object store: it was purged, or PENSTOCK_STORE is not the same here and at the gateway"
        )
        raise Refused(Reason.INPUT_MISSING, f"the event cannot be read: {problem}") from None
    except Unavailable as error:
        raise Refused(Reason.STORE_AWAY, f"the event cannot be read: {error}") from None
    if hashlib.sha256(body).hexdigest() != event.sha256:
        raise Refused(Reason.INPUT_MISSING, "the event cannot be read: its bytes in the object store have changed")
    return body


def _wait_for(event: EventBody) -> bytes:
    """Read in a thread of its own: this one may have an event loop that runs, and may be interrupted by a cancel."""
    found: Future[bytes] = Future()

    def read() -> None:
        try:
            found.set_result(asyncio.run(_get(event.store, event.object or "")))
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who waits
            found.set_exception(error)

    os.environ |= {name: value for name, value in _THREADS.items() if name not in os.environ}
    threading.Thread(target=read, name="event", daemon=True).start()
    return found.result()


async def _get(store: str, key: str) -> bytes:
    kept = ObjectStore(store)
    return await insist(lambda: kept.get(key), for_s=PATIENCE_S)
