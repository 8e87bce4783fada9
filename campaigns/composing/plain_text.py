"""The plain-text part of a message that was written in HTML only."""

import re
from html.parser import HTMLParser

_CONSTRUCT = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_MARKER = re.compile("\ue000(\\d+)\ue001")
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

    def hide(match: re.Match[str]) -> str:
        constructs.append(match.group())
        return f"\ue000{len(constructs) - 1}\ue001"

    reader = _Reader()
    reader.feed(_CONSTRUCT.sub(hide, html))
    reader.close()
    return _MARKER.sub(lambda match: constructs[int(match.group(1))], reader.text()) + "\n"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._links: list[str] = []
        self._hidden: list[str] = []  # the open elements from the first silent one inwards

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if self._hidden or tag in _SILENT or "display:none" in (given.get("style") or "").replace(" ", ""):
            if tag not in ("br", "hr", "img", "meta", "link", "input"):
                self._hidden.append(tag)
        elif tag == "a":
            self._links.append(given.get("href") or "")
        elif tag == "img":
            self._pieces.append(given.get("alt") or "")
        elif tag in _BLOCKS:
            self._pieces.append("\n")
        elif tag == "td":
            self._pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag in self._hidden:
                del self._hidden[len(self._hidden) - 1 - self._hidden[::-1].index(tag) :]
        elif tag == "a" and self._links:
            address = self._links.pop()
            if address and not address.startswith("#"):
                self._pieces.append(f" ({address})")
        elif tag in _BLOCKS:
            self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._pieces.append(re.sub(r"\s+", " ", data))

    def text(self) -> str:
        lines = (re.sub(r" {2,}", " ", line).strip() for line in "".join(self._pieces).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
