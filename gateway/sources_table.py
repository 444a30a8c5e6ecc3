"""The page that lists all sources, docs/sources.md, written by `python -m gateway.sources_table > docs/sources.md`."""

import sys

from gateway.schemes import Scheme
from gateway.sources import Source, discover

EVERY_DELIVERY = "nothing: every delivery counts"
_HEAD = """\
# Sources

Who sends, how it proves that, and what makes two deliveries the same. A schedule has one source; a source is one file
in `gateway/sources/`. This page is written by `python -m gateway.sources_table > docs/sources.md`.

Every proof is checked over the bytes as they came, before anything reads them. "Within 300 s" is meant in both
directions: the time that is signed may be so far from ours. All secrets of a schedule are live at once, so that a
sender can rotate. Of several proofs the first that a request carries must hold. Where it says "or the URL", the token
in the URL is proof enough while no secret is set.

What a proof needs from elsewhere (the certificates of SNS, Google's keys) is fetched with TLS within 3 s, kept for an
hour, and used for a day when it cannot be had anew. While it cannot be had at all the sender is told 503, so that it
sends again. Hosts that a schedule names in their place (`certificate_hosts`, `jwks_url`) may be on this machine and
without TLS; other networks that are not public need `PENSTOCK_OUTGOING_ALLOW`.

| source | what proves the sender | a delivery is the same by | handshakes | splits into items |
|---|---|---|---|---|
"""
_SETUP = """
## At the sender's side

"""


def render() -> str:
    """Write the page, as Markdown."""
    found = [discover()[name] for name in sorted(discover())]
    rows = "".join(_row(source) for source in found)
    setups = "".join(f"- **{source.title}** (`{source.name}`): {source.setup}\n" for source in found)
    return f"{_HEAD}{rows}{_SETUP}{setups}"


def proofs(source: Source) -> str:
    """Say what proves who sends."""
    found = [_proof(scheme) for scheme in source.schemes] or ["the token in the URL"]
    if source.schemes and source.is_optional:
        found.append("the URL")
    return "; or ".join(found)


def _row(source: Source) -> str:
    cells = (
        f"`{source.name}` {source.title}",
        proofs(source),
        source.dedupe or EVERY_DELIVERY,
        source.handshakes or "none",
        "yes" if source.split else "no",
    )
    return f"| {' | '.join(cells)} |\n"


def _proof(scheme: Scheme) -> str:
    """Take a scheme's own words or, where it has none, what it is."""
    described = getattr(scheme, "proof", None) or (type(scheme).__doc__ or "").partition("\n")[0].rstrip(".")
    return str(described)


if __name__ == "__main__":
    sys.stdout.write(render())
