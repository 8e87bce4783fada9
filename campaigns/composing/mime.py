"""One mail as the bytes that SMTP carries."""

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from campaigns.composing.compiled import CompiledMessage, single_line
from campaigns.composing.letters import Letter, Rendered, personal_headers


def build_mime(message: CompiledMessage, letter: Letter, *, now: datetime) -> bytes:
    """Return the mail of RFC 5322 with CRLF line ends, text first and HTML as its alternative.

    `now` becomes the Date header. Raises ValueError where an address cannot be written in a header.
    """
    rendered = Rendered.of(message, letter)
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = rendered.subject
    mail["From"] = _address(message.sender.name, message.sender.email)
    mail["To"] = _address(letter.name, letter.email)
    if message.sender.reply_to:
        mail["Reply-To"] = Address(addr_spec=message.sender.reply_to)
    mail["Date"] = format_datetime(now)
    for name, value in personal_headers(letter).items():
        mail[name] = value
    mail.set_content(rendered.text)
    if rendered.html:
        mail.add_alternative(rendered.html, subtype="html")
    return mail.as_bytes()


def _address(name: str, email: str) -> Address:
    return Address(display_name=single_line(name), addr_spec=email)
