"""docs/templates.md says what the grammar allows, no less and no more."""

import re

import pytest
from django.conf import settings

from campaigns.composing import TemplateRefused, bounds, grammar
from campaigns.preflight import FIELDS_OF_EVERYBODY
from tests.letters import message

DOCUMENT: str = (settings.BASE_DIR / "docs" / "templates.md").read_text(encoding="utf-8")
EXAMPLE = "".join(line[4:] + "\n" for line in DOCUMENT.splitlines() if line.startswith("    "))


def row(name: str) -> str:
    """The second cell of the table's row with this first cell."""
    (cell,) = re.findall(rf"^\| {name} \| (.*) \|$", DOCUMENT, re.M)
    return str(cell)


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


class TestTheDocument:
    def test_names_every_filter(self) -> None:
        assert code(row("filters")) == sorted(grammar.FILTERS)

    def test_names_every_test(self) -> None:
        words = [each.removeprefix("is ") for each in code(row("conditions")) if each.startswith("is ")]
        assert sorted(words) == sorted(grammar.TESTS)

    def test_names_every_field_of_a_loop(self) -> None:
        fields = [each.removeprefix("loop.") for each in code(row("loops")) if each.startswith("loop.")]
        assert sorted(fields) == sorted(grammar.LOOP_FIELDS)

    def test_names_the_fields_that_everybody_has(self) -> None:
        (sentence,) = re.findall(r"Everybody has (.*?), an address", DOCUMENT)
        assert set(code(sentence)) == FIELDS_OF_EVERYBODY

    def test_names_the_limits(self) -> None:
        assert re.findall(r"^\| ([\d,]+ \w+) \|", DOCUMENT, re.M) == [
            f"{grammar.MAX_TEMPLATE_CHARACTERS:,} characters",
            f"{grammar.MAX_CONSTRUCTS:,} constructs",
            f"{grammar.MAX_NESTING} levels",
            f"{grammar.MAX_LOOP_DEPTH} levels",
            f"{bounds.MAX_LOOP_ITEMS:,} items",
            f"{bounds.MAX_SLOT_CHARACTERS:,} characters",
            f"{bounds.MAX_STEPS:,} steps",
            f"{bounds.MAX_DIGITS} digits",
        ]

    def test_shows_an_example_that_works(self) -> None:
        order = {"items": [{"name": "Tea", "price": 120}, {"name": "Cup", "price": 9}]}
        text = message(text=EXAMPLE).text.render({"plan": "free", "order": order})
        assert "Dear reader,\nyou are on FREE.\n" in text
        assert re.findall(r"\d\. .*", text) == ["1. Tea (free delivery)", "2. Cup"]

    @pytest.mark.parametrize("name", ["output", "words with braces"])
    def test_shows_outputs_that_are_taken(self, name: str) -> None:
        for source in code(row(name)):
            message(text=source)

    @pytest.mark.parametrize(
        "source", [each for each in code(DOCUMENT.partition("## What it may not")[2]) if each[:2] == "{{"]
    )
    def test_shows_what_is_refused_or_does_not_fit(self, source: str) -> None:
        if source == "{{ age|round }}":
            message(text=source)
            return
        with pytest.raises(TemplateRefused):
            message(text=source)
