"""The plain-text part of a message that was written in HTML only."""

import re
from collections import Counter
from collections.abc import Iterator
from html import unescape

from campaigns.composing.grammar import HTML
from campaigns.composing.tags import VOID, EndTag, Tag, Words, scan

_MARKER = re.compile("\ue000(\\d+)\ue001")
_MARKERS = re.compile(f"({_MARKER.pattern.replace('(', '(?:')})")
_BRACES = re.compile("\\{(?:[{%#]|(?=\ue000))")  # what begins a construct, by itself or before one
_BLOCKS = frozenset(("address", "article", "blockquote", "div", "p", "section", "table", "tr")) | frozenset(
    ("br", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "ul")
)
_SILENT = frozenset(("head", "style", "script", "title"))


def plain_text_template(html: str) -> str:
    """Return a text template that says what the HTML template says.

    Template constructs stay where they are; a link becomes `label (address)`; an element that is not
    displayed (a preheader) is left out.
    """
    constructs: list[str] = []
    reader = _Reader()
    for each in scan("".join(_without_constructs(html, constructs))):
        match each:
            case Tag():
                reader.begin(each)
            case EndTag():
                reader.end(each.name)
            case Words():
                reader.read(each.text)
    # braces that were written as entities, or apart from each other, are words to show, not constructs
    text = _BRACES.sub(lambda match: f"{{{{ '{match.group()}' }}}}", reader.text())
    return _MARKER.sub(lambda match: constructs[int(match.group(1))], text) + "\n"


def _without_constructs(html: str, constructs: list[str]) -> Iterator[str]:
    """Yield the HTML with a marker for each construct, which is appended to `constructs`."""
    construct = ""
    for _, kind, value in HTML.lex(html):
        if construct or kind in ("variable_begin", "block_begin"):
            construct += value
            if kind in ("variable_end", "block_end"):
                constructs.append(construct)
                construct = ""
                yield f"\ue000{len(constructs) - 1}\ue001"
        elif kind == "data":
            yield value.replace("\ue000", "\ufffd")


class _Reader:
    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._links: list[str] = []
        self._hidden: list[str] = []  # the open elements from the first silent one inwards
        self._hidden_names = Counter[str]()

    def begin(self, tag: Tag) -> None:
        style = _attribute(tag, "style").lower().replace(" ", "")
        if self._hidden or tag.name in _SILENT or "display:none" in style:
            if tag.name not in VOID:
                self._hidden.append(tag.name)
                self._hidden_names[tag.name] += 1
        elif tag.name == "a":
            self._links.append(_attribute(tag, "href"))
        elif tag.name == "img":
            self._pieces.append(_attribute(tag, "alt"))
        elif tag.name in _BLOCKS:
            self._pieces.append("\n")
        elif tag.name == "td":
            self._pieces.append(" ")

    def end(self, name: str) -> None:
        if self._hidden:
            self._close_hidden(name)
        elif name == "a" and self._links:
            address = self._links.pop()
            if address and not address.startswith("#"):
                self._pieces.append(f" ({address})")
        elif name in _BLOCKS:
            self._pieces.append("\n")

    def _close_hidden(self, name: str) -> None:
        """Close the innermost hidden element of this name and all within it; an unknown name closes none."""
        closes = self._hidden_names[name] > 0
        while closes:
            closed = self._hidden.pop()
            self._hidden_names[closed] -= 1
            closes = closed != name

    def read(self, words: str) -> None:
        if not self._hidden:
            self._pieces.append(re.sub(r"\s+", " ", _unescaped(words)))

    def text(self) -> str:
        lines = (re.sub(r" {2,}", " ", line).strip() for line in "".join(self._pieces).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _attribute(tag: Tag, name: str) -> str:
    value = tag.attributes.get(name)
    return _unescaped(value.text) if value else ""


def _unescaped(text: str) -> str:
    """Return `text` with characters for entities, none of which becomes a marker or a part of one."""
    pieces = _MARKERS.split(text)
    pieces[::2] = [unescape(piece).replace("\ue000", "\ufffd") for piece in pieces[::2]]
    return "".join(pieces)
