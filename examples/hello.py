"""The smallest pipeline with two blocks: greet whoever the payload names.

Try it:

    curl -d '{"name": "Ada"}' <the URL of a token>
"""

import msgspec

from runner import Run, pipeline


class Params(msgspec.Struct):
    """What a caller may set; the gateway checks it before a run begins."""

    greeting: str = "Hello"


hello = pipeline("hello", params=Params)


@hello.block
def name(run: Run[Params]) -> str:
    """Find the name in the payload, whatever the payload is."""
    payload = run.event_variables
    found = payload.get("name") if isinstance(payload, dict) else None
    return str(found or "world")


@hello.block
def greet(run: Run[Params], name: str) -> dict[str, str]:
    """Say it; `name` is what the block of that name returned."""
    message = f"{run.params.greeting}, {name}!"
    run.log.info(message)
    return {"message": message}
