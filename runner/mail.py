"""Handing an e-mail to the operator's SMTP server, which is trusted: the guard of `schemas.outgoing` is not for it.

`smtp://` takes TLS when the server offers it, `smtp+starttls://` insists on it, `smtps://` begins with it. A password
is never sent without TLS, except to this machine.
"""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import SplitResult, unquote, urlsplit

from schemas.errors import SettingsError

TIMEOUT_S = 15.0
_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}


class MailFailed(Exception):
    """The server did not take the message; `status` is its reply code, if there was one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def check_url(url: str) -> SplitResult:
    """Read PENSTOCK_SMTP_URL; raises SettingsError."""
    try:
        parts = urlsplit(url)
        if parts.scheme in _PORTS and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise SettingsError("PENSTOCK_SMTP_URL is smtp://, smtp+starttls:// or smtps://, then user:password@host:port.")


async def send(url: str, message: EmailMessage) -> None:
    """Send one message; raises MailFailed."""
    try:
        await asyncio.to_thread(_send, check_url(url), message)
    except smtplib.SMTPResponseException as error:
        raise MailFailed(_text(error.smtp_error), status=error.smtp_code) from None
    except smtplib.SMTPRecipientsRefused as error:
        status, reason = next(iter(error.recipients.values()))
        raise MailFailed(_text(reason), status=status) from None
    except (smtplib.SMTPException, OSError) as error:
        raise MailFailed(f"{type(error).__name__}: {error}") from None


def _send(server: SplitResult, message: EmailMessage) -> None:
    host = server.hostname or ""
    address = (host, server.port or _PORTS[server.scheme])
    tls = ssl.create_default_context()
    with (
        smtplib.SMTP_SSL(*address, timeout=TIMEOUT_S, context=tls)
        if server.scheme == "smtps"
        else smtplib.SMTP(*address, timeout=TIMEOUT_S)
    ) as smtp:
        is_safe = server.scheme == "smtps"
        smtp.ehlo_or_helo_if_needed()
        if not is_safe and (server.scheme == "smtp+starttls" or smtp.has_extn("starttls")):
            smtp.starttls(context=tls)
            is_safe = True
        if server.username:
            if not is_safe and host not in _THIS_MACHINE:
                raise smtplib.SMTPException("the server offers no TLS, so the password is not sent")
            smtp.login(unquote(server.username), unquote(server.password or ""))
        smtp.send_message(message)


def _text(reply: bytes | str) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply
