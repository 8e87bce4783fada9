"""A message cut once into what is the same for everybody and the slots that differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.meta import find_undeclared_variables
from markupsafe import escape

from campaigns.composing.attachments import Attachment
from campaigns.composing.bounds import WORK, Work, bounded
from campaigns.composing.grammar import HTML, PLAIN, FieldsEnvironment, TemplateRefused, counts_steps, parse
from campaigns.composing.headers import single_line
from campaigns.composing.plain_text import plain_text_template

Context = Mapping[str, Any]
Fill = Callable[[Context, Work], str]
Tidy = Callable[[str], str]

# what Jinja2 and its filters raise where values do not fit; `truncate` asserts
_MISFITS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    TemplateError,
)


class CannotRender(ValueError):
    """One recipient's values do not fit the template, as where a number is compared with a word."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A gap in a message: an output, an `if` or a `for` at the template's top level.

    `fill` takes a recipient's values and what the part may still do for them. It raises CannotRender.
    `field` names the field that the slot shows as it is, but for escaping; None where it is more than that.
    """

    fill: Fill
    field: str | None = None


@dataclass(frozen=True, slots=True)
class CompiledText:
    """One part of a message: static text and slots, in their order."""

    pieces: tuple[str | Slot, ...]
    variables: frozenset[str]

    def render(self, context: Context) -> str:
        """Return the text for one recipient; fields that are missing are left blank. Raises CannotRender."""
        work = Work()
        return "".join(
            [piece if isinstance(piece, str) else piece.fill(context, work) for piece in self.pieces]
        )


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom a message comes from."""

    email: str
    name: str = ""
    reply_to: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledMessage:
    """A campaign's message, ready for any number of recipients; one is equal only to itself."""

    sender: Sender
    subject: CompiledText
    html: CompiledText | None
    text: CompiledText
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()

    @property
    def variables(self) -> frozenset[str]:
        """The fields that the message names anywhere."""
        return (
            self.subject.variables | self.text.variables | (self.html.variables if self.html else frozenset())
        )


@lru_cache(maxsize=8)
def compile_message(
    sender: Sender,
    *,
    subject: str,
    html: str,
    text: str,
    headers: tuple[tuple[str, str], ...] = (),
    attachments: tuple[Attachment, ...] = (),
) -> CompiledMessage:
    """Compile a message; the last few are kept, so that each worker compiles a campaign once.

    `subject`, `html` and `text` are templates; an empty `text` is made from `html`, an empty `html`
    leaves the message plain; `headers` and `attachments` are the same for everybody. The same attachments
    are the same objects: their bytes are not compared. Raises TemplateRefused.
    """
    return CompiledMessage(
        sender=sender,
        subject=_compile("subject", subject, PLAIN, single_line),
        html=_compile("HTML", html, HTML, plain_line_ends) if html else None,
        text=_compile("text", text, PLAIN, plain_line_ends) if text or not html else _text_from(html),
        headers=headers,
        attachments=attachments,
    )


def plain_line_ends(text: str) -> str:
    """Return `text` with a newline at each line end, however it was written."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _text_from(html: str) -> CompiledText:
    """Compile the text part that is made from HTML, whose tags may hold one half of an `if`."""
    try:
        return _compile("text", plain_text_template(html), PLAIN, plain_line_ends)
    except TemplateRefused as refusal:
        raise TemplateRefused(
            "text",
            1,
            f"it was made from the HTML, and so it is no template: {refusal.problem.rstrip('.')}; "
            "write a text part of your own",
        ) from refusal


def _compile(part: str, source: str, environment: FieldsEnvironment, tidy: Tidy) -> CompiledText:
    """Cut a template into pieces. What a slot becomes is tidied by itself, whatever stands beside it."""
    tree = parse(part, source, environment)
    pieces: list[str | Slot] = []
    for node in tree.body:
        for piece in node.nodes if isinstance(node, nodes.Output) else [node]:
            if isinstance(piece, nodes.TemplateData):
                pieces.append(tidy(piece.data))
            else:
                field = piece.name if isinstance(piece, nodes.Name) else None
                pieces.append(Slot(_filler(piece, environment, tidy), field))
    return CompiledText(tuple(pieces), frozenset(find_undeclared_variables(tree)))


def _filler(node: nodes.Node, environment: FieldsEnvironment, tidy: Tidy) -> Fill:
    if isinstance(node, nodes.Name):
        return _field(node.name, tidy, autoescape=bool(environment.autoescape))
    statement = nodes.Output([node]) if isinstance(node, nodes.Expr) else node
    tree = nodes.Template([statement], lineno=1)
    tree.set_environment(environment)
    counts = counts_steps(tree)
    template = Template.from_code(environment, environment.compile(tree), {})

    def fill(context: Context, work: Work) -> str:
        values = {**context, WORK: work} if counts else context
        try:
            return tidy(bounded(template.generate(values)))
        except _MISFITS as error:
            raise CannotRender(f"template, line {node.lineno}: {error}") from error

    return fill


def _field(name: str, tidy: Tidy, *, autoescape: bool) -> Fill:
    """Fill a slot that is just a field, which most are, without starting Jinja2 for it."""

    def fill(context: Context, _work: Work) -> str:
        value = context.get(name)
        if value is None:
            return ""
        return tidy(str(escape(value)) if autoescape else str(value))

    return fill
