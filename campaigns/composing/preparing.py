"""An HTML template made ready for mail programs: styles inlined, links marked, a preheader put in.

Done once, when a campaign starts, and to the template's source: attributes and the preheader are written
into it, and all else stays letter for letter. No parser's idea of the document is ever written back,
because HTML parsers move `{% if %}` out of tables and close what its branches leave open.
"""

import re
from collections.abc import Iterator, Mapping
from html import escape, unescape
from typing import Any
from urllib.parse import quote

from css_inline import CSSInliner, InlineError

from campaigns.composing.compiled import CompiledMessage, Sender, compile_message
from campaigns.composing.grammar import HTML, PLAIN, TemplateRefused, parse
from campaigns.composing.tags import FILLER, Tag, Tags, constructs, read_tags, with_newlines

MAX_MATCHES = 10_000_000  # what selectors ask for, times elements, which all are compared
MAX_SIBLINGS = 200_000_000  # the same for "~", which compares an element with all before it
MAX_DEPTH = 100  # of elements in each other: the inliner recurses, and a deep page would end the process
MAX_TAGS = 20_000
# what is fetched, or no part of the document, is kept from the inliner
_LEFT_OUT = frozenset(("base", "embed", "iframe", "link", "meta", "object", "script", "style"))

_NUMBER = "data-mailer-number"
_PLAIN_NAME = re.compile(r"(?!data-mailer-number)[a-z][a-z0-9:_.-]*")
_BRACES = re.compile(r"\{[{%#]")
# what in a style sheet holds no selector, whatever is in it: CSS Syntax Module Level 3 §4.3
_NO_SELECTOR = re.compile(
    r"""/\*.*?(?:\*/|\Z)|"(?:[^"\\\n]|\\.)*+"?|'(?:[^'\\\n]|\\.)*+'?|url\(\s*+(?!["'])[^)]*+\)?|\\.""",
    re.DOTALL | re.IGNORECASE,
)
_JOINTS = re.compile(r"[\s,>+~.#:*()[\]|]+")  # between the conditions of a selector
_WEB = re.compile(r"https?://[^\s/?#]", re.IGNORECASE)
_PREHEADER_STYLE = "display:none;max-height:0;overflow:hidden;mso-hide:all"

MAX_PARAMETERS = 20
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,50}")

NOBODY = Sender("nobody@example.com")

Edit = tuple[int, int, str]  # what stands from here to there becomes this


class LinkParametersRefused(ValueError):
    """These cannot be appended to links."""


def prepare_html(
    html: str,
    *,
    preheader: str = "",
    inline_css: bool = True,
    link_parameters: Mapping[str, str] | None = None,
) -> str:
    """Return the HTML template as a campaign sends it; line numbers stay. Raises TemplateRefused.

    `preheader` is a template of plain text, `link_parameters` are appended to the query of web links.
    """
    parse("HTML", html, HTML)
    parse("preheader", preheader, PLAIN)
    if not html:
        return html
    tags = read_tags(html)
    edits = [
        *(_style_edits(tags) if inline_css else ()),
        *(_link_edits(tags, link_parameters) if link_parameters else ()),
        *(_preheader_edits(tags, preheader) if preheader else ()),
    ]
    return _edited(tags.source, edits)


def compile_template(
    subject: str, html: str, text: str, *, preheader: str = "", inline_css: bool = True
) -> CompiledMessage:
    """Compile a template as a campaign would, from nobody. Raises TemplateRefused, with lines as written."""
    html = prepare_html(html, preheader=preheader, inline_css=inline_css)
    return compile_message(NOBODY, subject=subject, html=html, text=text)


def check_link_parameters(parameters: Mapping[str, Any]) -> None:
    """Raise LinkParametersRefused unless all are short texts under short names."""
    if len(parameters) > MAX_PARAMETERS:
        raise LinkParametersRefused(
            f"There are {len(parameters)} link parameters; at most {MAX_PARAMETERS} are allowed."
        )
    for name, value in parameters.items():
        if not _PARAMETER_NAME.fullmatch(name):
            raise LinkParametersRefused(
                f"The name {name!r:.100} is not allowed; use up to 50 letters, digits and - _ . of ASCII."
            )
        if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
            raise LinkParametersRefused(f"{name} must have a text of 1 to 200 printable characters.")


def _edited(source: str, edits: list[Edit]) -> str:
    pieces, position = [], 0
    for start, end, replacement in sorted(edits, key=lambda edit: edit[:2]):
        pieces += [source[position:start], replacement]
        position = end
    return "".join(pieces) + source[position:]


# --- Styles


def _style_edits(tags: Tags) -> Iterator[Edit]:
    """Write what the style elements say of each element into its style attribute.

    The style elements stay: they hold what cannot be inlined, such as @media. One that holds a construct
    is not inlined, nor is anything into a tag with constructs between its attributes.
    """
    css = [text for text in tags.styles if FILLER not in text]
    if not css:
        return
    _refuse_endless_work(tags, css)
    for number, style in _styles(_skeleton(tags, css)).items():
        tag = tags.starts[number]
        value = " ".join(style.split()).rstrip("; ")
        if value and not _BRACES.search(value):
            yield _with_style(tags, tag, value)


def _refuse_endless_work(tags: Tags, css: list[str]) -> None:
    if len(tags.starts) > MAX_TAGS:
        problem = f"it has {len(tags.starts):,} tags; styles can be inlined into {MAX_TAGS:,}"
    elif tags.depth > MAX_DEPTH:
        problem = f"its elements are nested {tags.depth} deep; styles can be inlined {MAX_DEPTH} deep"
    elif sum(map(_conditions, css)) * len(tags.starts) > MAX_MATCHES or (
        sum(text.count("~") for text in css) * len(tags.starts) ** 2 > MAX_SIBLINGS
    ):
        problem = "it has too many styles for so many elements to inline them"
    else:
        return
    raise TemplateRefused("HTML", 1, problem)


def _conditions(css: str) -> int:
    """Count what the selectors of a style sheet ask for: `p.a > b` asks for three things."""
    pieces = _NO_SELECTOR.sub("_", css).split("{")[:-1]
    selectors = (piece[max(piece.rfind("}"), piece.rfind(";")) + 1 :] for piece in pieces)
    return sum(1 + len(_JOINTS.findall(selector.strip())) for selector in selectors)


def _with_style(tags: Tags, tag: Tag, style: str) -> Edit:
    own = tag.attributes.get("style")
    if own is None:
        return tag.name_end, tag.name_end, f' style="{_in_quotes(style, chr(34))}"'
    if FILLER not in own.text:
        return own.start, own.end, f'"{_in_quotes(style, chr(34))}"'
    # the tag's own style is filled for each recipient; it stands last and so goes before the others
    mark = own.quote or '"'
    written = tags.source[own.start + len(own.quote) : own.end - len(own.quote)]
    return own.start, own.end, f"{mark}{_in_quotes(style, mark)}; {written}{mark}"


def _in_quotes(value: str, mark: str) -> str:
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace(mark, "&quot;" if mark == '"' else "&#39;")


def _skeleton(tags: Tags, css: list[str]) -> str:
    """Return the document's elements, numbered, without its words and without anything to fetch."""
    style = "".join(f"<style>{text}</style>" for text in css)
    return f"<!doctype html><html><head>{style}</head>" + "".join(
        _bone(tags.starts[each], each) if isinstance(each, int) else _closing(each) for each in tags.order
    )


def _bone(tag: Tag, number: int) -> str:
    if tag.name in _LEFT_OUT or FILLER in tag.name:
        return ""
    if any(FILLER in name for name in tag.attributes):
        return f"<{tag.name}>"
    attributes = "".join(
        f' {name}="{escape(unescape(tag.attributes[name].text))}"'
        for name in tag.attributes
        if _PLAIN_NAME.fullmatch(name) and not (name == "style" and FILLER in tag.attributes[name].text)
    )
    return f'<{tag.name} {_NUMBER}="{number}"{attributes}>'


def _closing(name: str) -> str:
    return "" if name in _LEFT_OUT or FILLER in name else f"</{name}>"


_INLINER = CSSInliner(load_remote_stylesheets=False)  # by itself it reads http:// and file:// addresses


def _styles(document: str) -> dict[int, str]:
    try:
        inlined = _INLINER.inline(document)
    except (InlineError, ValueError) as error:
        raise TemplateRefused("HTML", 1, f"its styles cannot be inlined: {error}") from error
    found = (tag.attributes for tag in read_tags(inlined, has_constructs=False).starts)
    return {
        int(attributes[_NUMBER].text): unescape(attributes["style"].text)
        for attributes in found
        if _NUMBER in attributes and "style" in attributes
    }


# --- Links


def _link_edits(tags: Tags, parameters: Mapping[str, str]) -> Iterator[Edit]:
    for tag in tags.starts:
        link = tag.attributes.get("href") if tag.name in ("a", "area") else None
        if link is not None and not any(FILLER in name for name in tag.attributes):
            place = _place_in(link.text)
            query = _query(parameters, present=unescape(link.text).partition("?")[2])
            if place is not None and query:
                offset, before, after = place
                start = link.start + len(link.quote) + offset
                yield start, start, f"{before}{query}{after}"


def _place_in(address: str) -> tuple[int, str, str] | None:
    """Say where parameters go in a web address, and what stands before and after them there.

    Only the part before the first construct is known. There the query must begin, unless there is none.
    """
    if not _WEB.match(address):
        return None
    known = re.split(f"(?<!&)#|{FILLER}", address, maxsplit=1)[0]  # &#39; is no fragment
    mark = known.find("?")
    if mark >= 0:
        rest = address[mark + 1 : mark + 2]
        return mark + 1, "", "&amp;" if rest and rest != "#" else ""
    if FILLER in address:
        return None
    return len(known), "?" if "/" in known.partition("//")[2] else "/?", ""


def _query(parameters: Mapping[str, str], *, present: str) -> str:
    given = set(re.findall(r"(?:^|[&;])([^=&;#]+)=", present))
    pairs = [
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in parameters.items()
        if quote(name, safe="") not in given
    ]
    return "&amp;".join(pairs)


# --- The preheader


def _preheader_edits(tags: Tags, preheader: str) -> Iterator[Edit]:
    text = " ".join(_escaped(with_newlines(preheader)).split("\n"))
    place = tags.start_of_body()
    yield place, place, f'<div style="{_PREHEADER_STYLE}">{text}</div>'


def _escaped(template: str) -> str:
    """Return a template of plain text as one of HTML: its own words escaped, its constructs as they are."""
    pieces, position = [], 0
    for start, end in constructs(template, PLAIN):
        pieces += [escape(template[position:start]), template[start:end]]
        position = end
    return "".join(pieces) + escape(template[position:])
