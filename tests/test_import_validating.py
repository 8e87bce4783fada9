"""One line: stored as it should be, or refused in words."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from campaigns.addresses import BadAddress, domain_name, parse_address, trim
from campaigns.importing.mapping import resolve
from campaigns.importing.refusals import WARNING, Line, Refusal
from campaigns.importing.validating import Row, validator

COLUMNS = resolve(["email", "name", "timezone", "city"], {})


def judge(
    *cells: str, formulas: dict[int, bool] | None = None, errors: dict[int, str] | None = None
) -> Row | Refusal | None:
    """What becomes of line 2 with these cells, at most 100 characters in each."""
    return validator(COLUMNS, longest_cell=100)(Line(2, list(cells), formulas=formulas, errors=errors))


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("Ann.Lee+news@Example.COM", "Ann.Lee+news@example.com"),
            ("ann@münchen.de", "ann@xn--mnchen-3ya.de"),
            ("ann@MÜNCHEN.de", "ann@xn--mnchen-3ya.de"),
            ("ann@उदाहरण.भारत", "ann@xn--p1b6ci4b4b3a.xn--h2brj9c"),
            ("o'brien@example.org", "o'brien@example.org"),
            ("ann@shop.test", "ann@shop.test"),
            ("ann@nowhere.INVALID", "ann@nowhere.invalid"),
            ("ann@office.local", "ann@office.local"),
        ],
    )
    def test_is_stored_as_it_is_sent_to(self, text: str, address: str) -> None:
        assert parse_address(text) == address

    @given(st.text("aB1-.x", min_size=1, max_size=70), st.sampled_from(["", ".com", ".onion", ".arpa", ".c"]))
    def test_has_a_domain_that_email_validator_takes(self, head: str, ending: str) -> None:
        try:
            theirs = validate_email(f"x@{head}{ending}", check_deliverability=False).ascii_domain
        except EmailNotValidError:
            theirs = ""
        assert domain_name(f"{head}{ending}") == theirs

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("ann@example.com\r\nBcc: eve@example.com", "The address contains a line break."),
            ("ann@exam\nple.com", "The part after the @-sign contains invalid characters: U+000A."),
            ('"ann lee"@example.com', "Quoting the part before the @-sign is not allowed here."),
            (
                "Ann <ann@example.com>",
                "A display name and angle brackets around the email address are not permitted here.",
            ),
            ("ann@localhost", "The part after the @-sign is not valid. It should have a period."),
            (
                "ann@example.onion",
                "The part after the @-sign is a special-use or reserved name that cannot be used with email.",
            ),
            (f"{'a' * 243}@example.com", "The address has 255 characters; at most 254 are allowed."),
        ],
    )
    def test_is_refused_in_words(self, text: str, reason: str) -> None:
        with pytest.raises(BadAddress) as refused:
            parse_address(text)
        assert str(refused.value) == reason

    @pytest.mark.parametrize("around", [" ", "\t", "\r\n", "\u00a0", "\u200b", "\ufeff "])
    def test_loses_the_invisible_characters_around_it(self, around: str) -> None:
        assert trim(f"{around}ann@example.com{around}") == "ann@example.com"

    @given(
        st.builds(
            "{}@{}".format,
            st.text(alphabet=st.sampled_from("aZ9.+-_!\"' <\\é\u0308@\n"), max_size=8),
            st.text(alphabet=st.sampled_from("aZ9.-_xnü。ß[]: @\n"), max_size=10).map(lambda s: f"{s}.com"),
        )
    )
    def test_is_judged_as_email_validator_judges_it(self, text: str) -> None:
        try:
            found = validate_email(text, check_deliverability=False)
            verdict = f"{found.local_part}@{found.ascii_domain}"
        except EmailNotValidError:
            verdict = None
        try:
            ours = parse_address(text)
        except BadAddress:
            ours = None
        assert (ours or "").lower() == (verdict or "").lower()


class TestLine:
    def test_is_stored_without_the_white_space_around_its_cells(self) -> None:
        row = judge(" ann@example.com ", " Ann Lee ", "asia/kolkata", " Pune ")
        assert row == Row(
            2, "ann@example.com", "ann@example.com", "Ann Lee", "Asia/Kolkata", {"city": "Pune"}
        )

    def test_without_any_text_counts_for_nothing(self) -> None:
        assert judge("", " ", "", "") is None
        assert judge() is None

    def test_may_have_empty_cells_beyond_the_header(self) -> None:
        assert isinstance(judge("ann@example.com", "", "", "", "", " "), Row)

    @pytest.mark.parametrize(
        ("cells", "column", "reason"),
        [
            (["ann@example.com", "Ann"], "", "The line has 2 cells, the header 4."),
            (["ann@example.com", "Ann", "", "", "x"], "", "The line has 5 cells, the header 4."),
            (["", "Ann", "", ""], "email", "The address is empty."),
            (["=ann@example.com", "", "", ""], "email", "The address is a formula. Paste it as a value."),
            (["ann@example.com", "A" * 101, "", ""], "name", "The cell has 101 characters; at most 100."),
            (["ann@example.com", "", "", "a\0b"], "city", "The cell contains a NUL byte."),
            (
                ["ann@example.com", "Ann\nBcc: eve@example.com", "", ""],
                "name",
                "The name contains a line break or another control character.",
            ),
            (
                ["ann@example.com", "", "Mars/Base", ""],
                "timezone",
                '"Mars/Base" is not a time zone; write it like Asia/Kolkata.',
            ),
        ],
    )
    def test_is_refused_with_its_column_and_reason(self, cells: list[str], column: str, reason: str) -> None:
        assert judge(*cells) == Refusal(2, column, reason, cells)

    def test_with_a_name_too_long_for_the_table_is_refused(self) -> None:
        line = Line(2, ["ann@example.com", "A" * 201, "", ""])
        refusal = Refusal(2, "name", "The name has 201 characters; at most 200 are allowed.", line.cells)
        assert validator(COLUMNS, longest_cell=10_000)(line) == refusal

    @pytest.mark.parametrize(
        ("cells", "formulas", "column", "reason"),
        [
            (
                ["ann@example.com", "", "", ""],
                {0: True},
                "email",
                "The address is a formula. Paste it as a value.",
            ),
            (
                ["", "", "", ""],
                {0: False},
                "email",
                "The address is a formula without a stored result, so it reads as empty. "
                "Paste it as a value.",
            ),
            (
                ["ann@example.com", "", "", ""],
                {3: False},
                "city",
                "The cell is a formula without a stored result, so it reads as empty. "
                "Open the file in Excel and save it, or paste the value.",
            ),
        ],
    )
    def test_with_a_formula_is_refused_where_its_value_cannot_be_trusted(
        self, cells: list[str], formulas: dict[int, bool], column: str, reason: str
    ) -> None:
        assert judge(*cells, formulas=formulas) == Refusal(2, column, reason, cells)

    def test_may_hold_a_formula_elsewhere_whose_result_is_stored(self) -> None:
        row = judge("ann@example.com", "Ann", "", "Pune", formulas={1: True, 3: True})
        assert isinstance(row, Row)
        assert row.attributes == {"city": "Pune"}

    @pytest.mark.parametrize(
        ("errors", "column", "reason"),
        [
            ({3: "#N/A"}, "city", 'An error is read as empty: "city" shows #N/A. Write the value there.'),
            (
                {1: "#REF!", 2: "#N/A"},
                "name",
                'An error is read as empty: "name" shows #REF!, "timezone" shows #N/A. '
                "Write the value there.",
            ),
        ],
        ids=str,
    )
    def test_with_an_error_elsewhere_is_taken_and_flagged(
        self, errors: dict[int, str], column: str, reason: str
    ) -> None:
        cells = ["" if position in errors else "x" for position in range(4)]
        cells[0], cells[2] = "ann@example.com", ""
        row = judge(*cells, errors=errors)
        assert isinstance(row, Row)
        assert (row.name, row.attributes["city"]) == (cells[1], cells[3])
        assert row.warning == Refusal(2, column, reason, cells, WARNING)

    def test_with_an_error_for_an_address_is_refused(self) -> None:
        cells = ["", "Ann", "", "Pune"]
        reason = "The cell shows the error #N/A instead of an address."
        assert judge(*cells, errors={0: "#N/A"}) == Refusal(2, "email", reason, cells)
        assert judge(*cells, errors={0: "#N/A"}, formulas={0: True}) == Refusal(2, "email", reason, cells)

    def test_with_nothing_but_errors_is_not_taken_for_an_empty_one(self) -> None:
        judgement = judge("", "", "", "", errors={0: "#N/A", 1: "#N/A"})
        assert isinstance(judgement, Refusal)
        assert judgement.reason == (
            "The cell shows the error #N/A instead of an address. "
            'An error is read as empty: "name" shows #N/A. Write the value there.'
        )

    def test_that_is_refused_names_its_errors_too_so_that_they_are_corrected_with_it(self) -> None:
        judgement = judge("ann", "Ann", "", "", errors={3: "#N/A"})
        assert isinstance(judgement, Refusal)
        assert judgement.reason == (
            'The address has no @-sign. An error is read as empty: "city" shows #N/A. Write the value there.'
        )

    def test_names_at_most_five_of_its_errors(self) -> None:
        columns = resolve(["email", *"abcdefg"], {})
        line = Line(2, ["ann@example.com", *[""] * 7], errors=dict.fromkeys(range(1, 8), "#N/A"))
        row = validator(columns, longest_cell=100)(line)
        assert isinstance(row, Row)
        assert row.warning
        assert row.warning.reason.endswith('"e" shows #N/A and 2 more. Write the value there.')

    def test_with_the_name_of_an_error_is_taken_as_it_stands_and_flagged(self) -> None:
        cells = ["ann@example.com", "#NV", "", " #DIV/0! "]
        row = judge(*cells)
        assert isinstance(row, Row)
        assert (row.name, row.attributes) == ("#NV", {"city": "#DIV/0!"})
        reason = (
            'The name of an error is taken for a text: "name" shows #NV, "city" shows #DIV/0!. '
            "Write the value there."
        )
        assert row.warning == Refusal(2, "name", reason, cells, WARNING)
