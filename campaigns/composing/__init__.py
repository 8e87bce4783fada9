"""From a template and a recipient to what a provider takes; a campaign is compiled once.

No database here: templates come in as text, recipients as plain values.
"""

from campaigns.composing.compiled import (
    CannotRender,
    CompiledMessage,
    CompiledText,
    Sender,
    Slot,
    compile_message,
)
from campaigns.composing.grammar import TemplateRefused
from campaigns.composing.letters import Letter, Rendered, personal_headers
from campaigns.composing.mime import build_mime
from campaigns.composing.sendgrid_request import fits_together, request_for_all, request_for_one

__all__ = [
    "CannotRender",
    "CompiledMessage",
    "CompiledText",
    "Letter",
    "Rendered",
    "Sender",
    "Slot",
    "TemplateRefused",
    "build_mime",
    "compile_message",
    "fits_together",
    "personal_headers",
    "request_for_all",
    "request_for_one",
]
