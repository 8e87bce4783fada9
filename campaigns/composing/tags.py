"""Where the tags of an HTML template stand, and where its constructs do.

Read as browsers read it (HTML Living Standard §13.2.5), in one pass: the standard library's HTMLParser
takes minutes over a long text of unclosed tags.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from campaigns.composing.grammar import HTML, FieldsEnvironment

FILLER = "\ue000"  # stands for each character of a construct: HTML has no use for it

_NAME = re.compile(r"[a-zA-Z][^\s/>]*")
_ATTRIBUTE = re.compile(r"""[\s/]*(=?[^\s/>=]+)(?:\s*=\s*(?=([^\s>]))([^\s>"'][^\s>]*)?)?|[\s/]*=""")
_RAW = frozenset(("iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"))
VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")
)
_CLOSE_BY_THEMSELVES = frozenset(
    ("dd", "dt", "li", "option", "p", "tbody", "td", "tfoot", "th", "thead", "tr")
)
_ENDS_OF = {"variable_begin": "variable_end", "block_begin": "block_end", "comment_begin": "comment_end"}


@dataclass(frozen=True, slots=True)
class Value:
    """An attribute's value: where it stands with its quotes, `quote`, and what is between them."""

    start: int
    end: int
    quote: str
    text: str


@dataclass(frozen=True, slots=True)
class Tag:
    """A start tag: its name in small letters, where that ends, and its attributes, the first of each name."""

    name: str
    name_end: int
    end: int
    attributes: dict[str, Value]


@dataclass(frozen=True, slots=True)
class EndTag:
    """An end tag: its name in small letters, and where it ends."""

    name: str
    end: int


@dataclass(frozen=True, slots=True)
class Words:
    """What stands between tags; `raw` is the element in which it is no text to show, such as `style`."""

    text: str
    raw: str = ""


def scan(html: str) -> Iterator[Tag | EndTag | Words]:
    """Yield the tags and words of an HTML text in their order, without comments."""
    position = 0
    while position < len(html):
        opening = html.find("<", position)
        if opening != position:
            yield Words(html[position : opening if opening >= 0 else len(html)])
            if opening < 0:
                return
        position = opening
        if name := _NAME.match(html, opening + 1):
            tag = _start_tag(html, name)
            if tag is None:
                return
            yield tag
            position = tag.end
            if tag.name in _RAW:
                closing = re.compile(rf"</{tag.name}(?=[\s/>])", re.IGNORECASE).search(html, position)
                end = closing.start() if closing else len(html)
                yield Words(html[position:end], tag.name)
                position = end
        elif name := _NAME.match(html, opening + 2) if html.startswith("</", opening) else None:
            position = html.find(">", name.end()) + 1
            if not position:
                return
            yield EndTag(name.group().lower(), position)
        elif html.startswith(("<!", "<?", "</"), opening):
            position = _end_of_comment(html, opening)
            if not position:
                return
        else:
            yield Words("<")
            position += 1


def _start_tag(html: str, name: re.Match[str]) -> Tag | None:
    """Return the tag, or None where the text ends within it."""
    attributes: dict[str, Value] = {}
    position = name.end()
    while match := _ATTRIBUTE.match(html, position):
        position = match.end()
        word, first, unquoted = match.groups()
        if first in ("'", '"'):
            end = html.find(first, position + 1) + 1
            if not end:
                return None
            value = Value(position, end, first, html[position + 1 : end - 1])
            position = end
        else:
            value = Value(position - len(unquoted or ""), position, "", unquoted or "")
        if word:
            attributes.setdefault(word.lower(), value)
    end = html.find(">", position) + 1
    return Tag(name.group().lower(), name.end(), end, attributes) if end else None


def _end_of_comment(html: str, opening: int) -> int:
    """Return where a comment or a declaration ends; 0 where the text does first."""
    if not html.startswith("<!--", opening):
        return html.find(">", opening) + 1
    if empty := re.compile("<!--(?:>|->)").match(html, opening):
        return empty.end()
    ending = re.compile("--!?>").search(html, opening + 4)
    return ending.end() if ending else 0


@dataclass
class Tags:
    """A template's start tags, their order among the end tags (by name), and its style sheets.

    Constructs are masked by FILLER in all of them; `source` has them. `depth` is how deep the elements
    are nested at most.
    """

    source: str
    starts: list[Tag] = field(default_factory=list)
    order: list[int | str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    depth: int = 0
    end_of_head: int = 0

    def start_of_body(self) -> int:
        """Return where the body's content begins, in a document as in a fragment of one."""
        for name in ("body", "html"):
            ends = [tag.end for tag in self.starts if tag.name == name]
            if ends:
                return ends[0] if name == "body" else self.end_of_head or ends[0]
        return self.end_of_head


def read_tags(source: str, *, has_constructs: bool = True) -> Tags:
    """Find the tags of an HTML template that parses, or of a document without constructs."""
    source = with_newlines(source)
    tags, opened, depth = Tags(source), Counter[str](), 0
    for each in scan(masked(source, HTML) if has_constructs else source):
        match each:
            case Tag(name=name):
                tags.starts.append(each)
                tags.order.append(len(tags.starts) - 1)
                if name not in VOID and name not in _CLOSE_BY_THEMSELVES:
                    opened[name] += 1
                    depth += 1
                    tags.depth = max(tags.depth, depth)
            case EndTag(name=name):
                tags.order.append(name)
                if opened[name]:
                    opened[name] -= 1
                    depth -= 1
                if name == "head":
                    tags.end_of_head = tags.end_of_head or each.end
            case Words(text=text, raw="style"):
                media = tags.starts[-1].attributes.get("media")
                if media is None or media.text.lower() in ("", "all", "screen"):
                    tags.styles.append(text)
    return tags


def with_newlines(source: str) -> str:
    """Return a template with newlines for line ends, as Jinja2 reads it."""
    return source.replace("\r\n", "\n").replace("\r", "\n")


def constructs(source: str, environment: FieldsEnvironment) -> Iterator[tuple[int, int]]:
    """Yield where each construct, comment, or mark of a raw block begins and ends.

    `source` has newlines for line ends.
    """
    position, begun, awaited = 0, 0, ""
    for _, kind, value in environment.lex(source):
        start = source.index(value, position)  # Jinja2 leaves out the blanks that a {%- strips
        position = start + len(value)
        if awaited:
            if kind == awaited:
                yield begun, position
                awaited = ""
        elif kind in _ENDS_OF:
            begun, awaited = start, _ENDS_OF[kind]
        elif kind in ("raw_begin", "raw_end"):
            yield start, position


def masked(source: str, environment: FieldsEnvironment) -> str:
    """Return a template with FILLER for each character of its constructs, so that places stay the same."""
    pieces, position = [], 0
    for start, end in constructs(source, environment):
        pieces += [source[position:start], FILLER * (end - start)]
        position = end
    return "".join(pieces) + source[position:]
