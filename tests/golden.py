"""Golden exchanges: a file holds one request, and what another product's own server would answer.

    {"request": {"method": "POST", "path": "/a", "headers": {...}, "json": {...}}, "status": 200,
     "headers": {"content-type": "application/json"}, "body": {"id": "<uuid:run>", "at": "<time>"}, "until": true}

`json` may be `text` or `form` instead. A request that names no `authorization` carries the admin key as a Bearer, and
one where that is null no key at all. `headers` are some of the answer's; a `body` that is missing is not looked at. A
text of the answer may have placeholders (PLACEHOLDERS); one with a name, such as `<uuid:run>`, is remembered, and
`{run}` stands for it in all that comes after. With `until` the request is sent again until its answer is as expected.
"""

import contextlib
import json
import re
from typing import Any
from urllib.parse import quote

import httpx

from tests.system import Penstock
from tests.waiting import eventually

_HEX = "[0-9a-f]"
_SECONDS = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d"
PLACEHOLDERS = {
    "uuid": f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}",
    "uuid_": f"{_HEX}{{8}}_{_HEX}{{4}}_{_HEX}{{4}}_{_HEX}{{4}}_{_HEX}{{12}}",
    "time": rf"{_SECONDS}(\.\d+)?(Z|[+-]\d\d:\d\d)?",
    "micros": rf"{_SECONDS}\.\d{{6}}(Z|[+-]\d\d:\d\d)?",
    "int": r"-?\d+",
    "number": r"-?\d+(\.\d+)?",
    "text": r"(?s:.+)",
}
_PLACE = re.compile(r"<(\w+)(?::(\w+))?>")


class Stage:
    """A running Penstock, and what its answers have told so far."""

    def __init__(self, penstock: Penstock) -> None:
        self._penstock = penstock
        self.remembered: dict[str, str] = {}

    async def play(self, exchange: dict[str, Any]) -> list[str]:
        """Send a request and say what is wrong with the answer."""
        wrong: list[str] = []

        async def is_right() -> bool:
            wrong[:] = self._wrong(exchange, await self._send(exchange["request"]))
            return not wrong

        with contextlib.suppress(AssertionError):
            await eventually(is_right, timeout=20 if exchange.get("until") else 0)
        return wrong

    async def _send(self, request: dict[str, Any]) -> httpx.Response:
        headers = {name: self._filled(value or "") for name, value in request.get("headers", {}).items()}
        body: dict[str, Any] = {}
        if "json" in request:
            body = {"json": json.loads(self._filled(json.dumps(request["json"])))}
        elif "form" in request:
            body = {"data": request["form"]}
        elif "text" in request:
            body = {"content": self._filled(request["text"])}
        path = self._filled(request["path"], safe="")
        return await self._penstock.client.request(request["method"], path, headers=headers, **body)

    def _wrong(self, exchange: dict[str, Any], answer: httpx.Response) -> list[str]:
        wrong = []
        if answer.status_code != exchange["status"]:
            wrong.append(f"status is {answer.status_code}: {answer.text}")
        for name, value in exchange.get("headers", {}).items():
            wrong += self.differences(value, answer.headers.get(name), f"header {name}")
        if "body" in exchange:
            wanted = exchange["body"]
            given = answer.text if isinstance(wanted, str) else _json_of(answer)
            wrong += self.differences(wanted, given)
        return wrong

    def differences(self, wanted: Any, given: Any, place: str = "") -> list[str]:
        """Say where an answer is not what is wanted, and remember what its named placeholders stand for."""
        if isinstance(wanted, str):
            return [] if self._fits(wanted, given) else [f"{place or '/'}: {given!r} instead of {wanted!r}"]
        if isinstance(wanted, dict) and isinstance(given, dict):
            odd = [f"{place}/{key}: missing" for key in wanted.keys() - given.keys()]
            odd += [f"{place}/{key}: {given[key]!r} was not expected" for key in given.keys() - wanted.keys()]
            both = wanted.keys() & given.keys()
            return odd + [line for key in both for line in self.differences(wanted[key], given[key], f"{place}/{key}")]
        if isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given):
            pairs = enumerate(zip(wanted, given, strict=True))
            return [line for n, (one, other) in pairs for line in self.differences(one, other, f"{place}/{n}")]
        same = type(wanted) is type(given) and wanted == given
        return [] if same else [f"{place or '/'}: {given!r} instead of {wanted!r}"]

    def _fits(self, wanted: str, given: Any) -> bool:
        places = list(_PLACE.finditer(wanted))
        if not places:
            return bool(self._filled(wanted) == given)
        is_number = wanted == places[0].group() and places[0][1] in ("int", "number")
        if isinstance(given, bool) or not isinstance(given, int | float if is_number else str):
            return False
        found = re.fullmatch(self._pattern(wanted, places), str(given))
        if found is None:
            return False
        self.remembered |= found.groupdict()
        return True

    def _pattern(self, wanted: str, places: list[re.Match[str]]) -> str:
        pattern, end = "", 0
        for place in places:
            kind, name = place.groups()
            group = f"?P<{name}>" if name else "?:"
            pattern += re.escape(self._filled(wanted[end : place.start()])) + f"({group}{PLACEHOLDERS[kind]})"
            end = place.end()
        return pattern + re.escape(self._filled(wanted[end:]))

    def _filled(self, text: str, *, safe: str | None = None) -> str:
        for name, value in self.remembered.items():
            text = text.replace("{" + name + "}", value if safe is None else quote(value, safe=safe))
        return text


def _json_of(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text
