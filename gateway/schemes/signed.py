"""What stands in a signature's header, and which text it signs."""

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

from gateway.incoming import Incoming, text_at
from schemas.errors import BadSignature

PLACEHOLDER = re.compile(r"\{(body|timestamp|id)\}")
MOST_SIGNATURES = 20  # each costs a comparison, or a verification with a public key
_SECONDS = re.compile(r"[0-9]{10}", re.ASCII)
_MILLISECONDS = re.compile(r"[0-9]{13}", re.ASCII)
_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z", re.ASCII)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where signatures stand: in `header`, each behind `prefix`, several of them apart by `separator`.

    What has another prefix is of another version or a time, and passed over, when there may be several.
    """

    header: str
    prefix: str = ""
    separator: str = ""

    @property
    def _name(self) -> str:
        return self.header.lower()

    def is_in(self, incoming: Incoming) -> bool:
        """Say whether there is a signature of this kind; one that is empty counts as missing."""
        text = incoming.headers.get(self._name, "")
        return any(part.startswith(self.prefix) for part in self._split(text)) if self.separator else bool(text)

    def read(self, incoming: Incoming) -> list[str]:
        """Return the signatures without their prefixes; raises BadSignature when there is none, or far too many."""
        text = incoming.headers.get(self._name)
        if not text:
            raise BadSignature(f"The header {self.header} is missing.")
        found = [part[len(self.prefix) :].strip() for part in self._split(text) if part.startswith(self.prefix)]
        if not found and not self.separator:
            raise BadSignature(f"The header {self.header} does not begin with {self.prefix!r}.")
        if not found:
            raise BadSignature(f"The header {self.header} holds no signature that begins with {self.prefix!r}.")
        if len(found) > MOST_SIGNATURES:
            raise BadSignature(f"The header {self.header} holds more than {MOST_SIGNATURES} signatures.")
        return found

    def part(self, incoming: Incoming, prefix: str) -> str | None:
        """Read what stands behind another prefix in the same header."""
        parts = self._split(incoming.headers.get(self._name, ""))
        return next((part[len(prefix) :] for part in parts if part.startswith(prefix)), None)

    def write(self, incoming: Incoming, signature: str, *before: str) -> Incoming:
        """Put a signature where it belongs, behind the parts `before`."""
        text = self.separator.join((*before, self.prefix + signature))
        return with_headers(incoming, {self._name: text})

    def _split(self, text: str) -> list[str]:
        return [part.strip() for part in text.split(self.separator)] if self.separator else [text]


class SignedText(msgspec.Struct, frozen=True, kw_only=True):
    """The text that is signed, and for how many seconds, in both directions, its time counts.

    `template` has `{body}` and may have `{timestamp}` and `{id}`, which stand in headers (a time also in a part of the
    signature's own header, behind `timestamp_part`) and are signed as they are written there. `timestamp_field` is a
    number of milliseconds in a body that is signed as a whole. Of a form `form_field` is signed instead of the bytes.
    """

    template: str = "{body}"
    id_header: str = ""
    timestamp_header: str = ""
    timestamp_part: str = ""
    timestamp_field: str = ""
    tolerance_s: float = 300
    form_field: str = ""

    @property
    def words(self) -> str:
        """Say what is signed, for the table of sources."""
        text = "the body" if self.template == "{body}" else f"`{self.template}`"
        field = f" (of a form its field `{self.form_field}`)" if self.form_field else ""
        has_time = "{timestamp}" in self.template or self.timestamp_field
        return text + field + (f" within {self.tolerance_s:.0f} s" if has_time else "")

    def read(self, incoming: Incoming, place: Place) -> bytes:
        """Build the text as it was signed, if its time is good; raises BadSignature."""
        return self._fill(incoming, self._id(incoming), self._timestamp(incoming, place))

    def stamp(self, incoming: Incoming) -> tuple[Incoming, bytes, tuple[str, ...]]:
        """Give an unsigned request what is signed with it; returns it, the text, and parts for the header."""
        timestamp = f"{int(incoming.now):010d}"
        message_id = incoming.headers.get(self.id_header.lower()) or _derived_id(incoming)
        headers = {self.id_header: message_id, self.timestamp_header: timestamp}
        stamped = with_headers(incoming, {name.lower(): value for name, value in headers.items() if name})
        parts = (self.timestamp_part + timestamp,) if self.timestamp_part else ()
        return stamped, self._fill(stamped, message_id, timestamp), parts

    def check_body_time(self, incoming: Incoming) -> None:
        """Look at the time in a body whose signature is good; raises BadSignature."""
        if self.timestamp_field:
            timestamp = text_at(incoming.document, self.timestamp_field)
            self._check_time(timestamp, f"field {self.timestamp_field} of the body", incoming.now)

    def _id(self, incoming: Incoming) -> str:
        if "{id}" not in self.template:
            return ""
        message_id = incoming.headers.get(self.id_header.lower())
        if not message_id:
            raise BadSignature(f"The header {self.id_header} is missing.")
        after = self.template.partition("{id}")[2]
        if after and after[0] in message_id:  # it could be the beginning of another id, and the rest of another body
            raise BadSignature(f"The header {self.id_header} holds {after[0]!r}, which must not be in an id.")
        return message_id

    def _timestamp(self, incoming: Incoming, place: Place) -> str:
        if "{timestamp}" not in self.template:
            return ""
        if self.timestamp_part:
            timestamp, where = place.part(incoming, self.timestamp_part), f"header {place.header}"
        else:
            timestamp = incoming.headers.get(self.timestamp_header.lower())
            where = f"header {self.timestamp_header}"
        self._check_time(timestamp, where, incoming.now)
        return timestamp or ""

    def _check_time(self, timestamp: str | None, where: str, now: float) -> None:
        if not timestamp:
            raise BadSignature(f"There is no time in the {where}.")
        moment = _moment(timestamp, is_followed_by_text="{timestamp}{" in self.template)
        if moment is None:
            raise BadSignature(f"What stands in the {where} is not a time.")
        if abs(age := now - moment) > self.tolerance_s:
            side = "old" if age > 0 else "ahead"
            raise BadSignature(
                f"The time in the {where} is {abs(age):.0f} s {side}; {self.tolerance_s:.0f} s are allowed."
            )

    def _fill(self, incoming: Incoming, message_id: str, timestamp: str) -> bytes:
        texts = {"id": message_id, "timestamp": timestamp}
        parts = PLACEHOLDER.split(self.template)  # every second one is the name of a placeholder
        return b"".join(
            part.encode() if not at % 2 else self._body(incoming) if part == "body" else as_sent(texts[part])
            for at, part in enumerate(parts)
        )

    def _body(self, incoming: Incoming) -> bytes:
        if not self.form_field or incoming.media_type != "application/x-www-form-urlencoded":
            return incoming.body
        document = incoming.document
        if not isinstance(document, dict) or set(document) != {self.form_field}:
            raise BadSignature(f"The form must have one field, {self.form_field}: others are not signed.")
        return (text_at(document, self.form_field) or "").encode("utf-8", "replace")


def as_sent(text: str) -> bytes:
    """Return the bytes of a header that was read as Latin-1."""
    return text.encode("latin-1", "replace")


def with_headers(incoming: Incoming, headers: Mapping[str, str]) -> Incoming:
    """Return the request with more headers, or with others of the same names."""
    return msgspec.structs.replace(incoming, headers={**incoming.headers, **headers})


def with_query(incoming: Incoming, name: str, value: str) -> Incoming:
    """Return the request with one more parameter in its query, and in its URL."""
    url = f"{incoming.url}{'&' if '?' in incoming.url else '?'}{urlencode({name: value})}"
    return msgspec.structs.replace(incoming, url=url, query={**incoming.query, name: value})


def _moment(text: str, *, is_followed_by_text: bool) -> float | None:
    """Read seconds or milliseconds since 1970, or RFC 3339 in UTC, each of one length.

    Where text follows directly, milliseconds are refused: they could be seconds and the first digits of that text.
    """
    if _SECONDS.fullmatch(text):
        return int(text)
    if _MILLISECONDS.fullmatch(text) and not is_followed_by_text:
        return int(text) / 1000
    if not _RFC_3339.fullmatch(text):
        return None
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _derived_id(incoming: Incoming) -> str:
    return "msg_" + hashlib.sha256(b"%d %b" % (incoming.now, incoming.body)).hexdigest()[:24]
