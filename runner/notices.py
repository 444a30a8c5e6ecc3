"""What people are told of a run: one message, as Slack's incoming webhooks take it and as an e-mail."""

from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

import msgspec

from schemas.callbacks import Reason
from schemas.runs import Run, RunError
from schemas.states import RunState

LONGEST_ERROR = 1000
_SIGNS = {RunState.SUCCESS: "✅", RunState.FAILED: "❌", RunState.CANCELLED: "⏹"}


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message about a run."""

    title: str
    sign: str
    error: str
    url: str

    def slack(self) -> bytes:
        """Write the JSON of an incoming webhook; what users wrote is escaped, so it cannot mention anybody."""
        title, error = _escape(self.title), _escape(self.error)
        text = f"{self.sign} *{title}*" + (f"\n```{error}```" if error else "")
        blocks: list[dict[str, Any]] = [
            {"type": "section", "text": {"type": "mrkdwn", "text": text}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": f"<{_escape(self.url)}|Open the run>"}]},
        ]
        return msgspec.json.encode({"text": f"{self.sign} {title}", "blocks": blocks})

    def email(self, *, sender: str, recipient: str, message_id: str) -> EmailMessage:
        """Write the e-mail; its Message-ID stays the same over attempts, so that a repetition is recognised."""
        message = EmailMessage()
        message["From"], message["To"] = sender, recipient
        message["Subject"] = " ".join(self.title.split())
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{message_id}@{sender.rpartition('@')[2].rstrip('>')}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("\n\n".join(filter(None, (self.title, self.error, self.url))) + "\n")
        return message


def describe(run: Run, reason: Reason, *, url: str) -> Notice:
    """Say what became of a run, or that it takes longer than its schedule allows."""
    name = f"{run.pipeline_id}, run #{run.number}"
    if reason is Reason.PASSED_SLA:
        return Notice(title=f"{name}: passed its SLA, {run.state}", sign="⏰", error="", url=url)
    error = msgspec.json.decode(run.error, type=RunError | None)
    return Notice(title=f"{name}: {run.state}", sign=_SIGNS.get(run.state, ""), error=_say(error), url=url)


def _say(error: RunError | None) -> str:
    if error is None:
        return ""
    place = f"block {error.block_id}: " if error.block_id else ""
    return f"{place}{error.type}: {error.message}"[:LONGEST_ERROR].replace("```", "'''")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
