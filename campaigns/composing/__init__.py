"""From a template and a recipient to what a provider takes; a campaign is compiled once.

No database here: templates come in as text, recipients as plain values.
"""

from campaigns.composing.attachments import Attachment, check_attachment_name
from campaigns.composing.compiled import (
    CannotRender,
    CompiledMessage,
    CompiledText,
    Sender,
    Slot,
    compile_message,
)
from campaigns.composing.grammar import TemplateRefused
from campaigns.composing.headers import HeaderRefused, check_extra_fields
from campaigns.composing.letters import Letter, Rendered, personal_headers
from campaigns.composing.mime import build_mime, mime_pieces
from campaigns.composing.preparing import (
    LinkParametersRefused,
    check_link_parameters,
    compile_template,
    prepare_html,
)
from campaigns.composing.sendgrid_request import request_for_all, request_for_one, shared_values
from campaigns.composing.single import Addressee, Part, PartKind, SingleMail

Message = CompiledMessage | SingleMail
"""What a provider is given to send."""

__all__ = [
    "Addressee",
    "Attachment",
    "CannotRender",
    "CompiledMessage",
    "CompiledText",
    "HeaderRefused",
    "Letter",
    "LinkParametersRefused",
    "Message",
    "Part",
    "PartKind",
    "Rendered",
    "Sender",
    "SingleMail",
    "Slot",
    "TemplateRefused",
    "build_mime",
    "check_attachment_name",
    "check_extra_fields",
    "check_link_parameters",
    "compile_message",
    "compile_template",
    "mime_pieces",
    "personal_headers",
    "prepare_html",
    "request_for_all",
    "request_for_one",
    "shared_values",
]
