"""What is read out of a file, line by line."""

import datetime
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.addresses import BadAddress, parse_address
from campaigns.importing.escaping import escape, unescape
from campaigns.importing.mapping import attribute_key, resolve
from campaigns.importing.reading import open_table
from campaigns.importing.refusals import Fault, ImportRefused, Line, Reading
from tests.import_helpers import part, with_part, workbook_bytes, xlsx_bytes

SHEET = "xl/worksheets/sheet1.xml"


def read(name: str, content: bytes, **options: Any) -> tuple[tuple[str, ...], list[Line]]:
    """The columns and lines of a file."""
    with open_table(name, io.BytesIO(content), size=len(content), mapping={}, **options) as table:
        return table.columns, list(table.lines)


def cells(name: str, content: bytes, **options: Any) -> list[list[str]]:
    """The cells of its lines."""
    return [line.cells for line in read(name, content, **options)[1]]


def how(name: str, content: bytes, **options: Any) -> Reading:
    """How it was read."""
    with open_table(name, io.BytesIO(content), size=len(content), mapping={}, **options) as table:
        return table.reading


class TestText:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_is_split_at_the_delimiter_of_its_header(self, delimiter: str) -> None:
        content = f"email{delimiter}name\nann@example.com{delimiter}Ann\n".encode()
        assert read("p.txt", content) == (("email", "name"), [Line(2, ["ann@example.com", "Ann"])])

    def test_of_a_tsv_is_split_at_tabs(self) -> None:
        assert cells("p.tsv", b"email\tname, first\nann@example.com\tAnn, A\n") == [
            ["ann@example.com", "Ann, A"]
        ]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_may_be_unicode_of_these_encodings(self, encoding: str) -> None:
        content = "email,नाम\nann@example.com,आन्या\n".encode(encoding)
        assert read("p.csv", content) == (("email", "नाम"), [Line(2, ["ann@example.com", "आन्या"])])

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    def test_may_end_its_lines_in_any_way(self, newline: str) -> None:
        content = newline.join(["email", "a@example.com", "b@example.com"]).encode()
        assert read("p.csv", content)[1] == [Line(2, ["a@example.com"]), Line(3, ["b@example.com"])]

    def test_keeps_line_breaks_and_quotes_of_quoted_cells_and_counts_the_lines(self) -> None:
        content = b'email,note\na@example.com,"two\nlines"\nb@example.com,"say ""hi"""\n'
        assert read("p.csv", content)[1] == [
            Line(2, ["a@example.com", "two\nlines"]),
            Line(4, ["b@example.com", 'say "hi"']),
        ]

    def test_loses_nobody_to_a_quote_that_is_never_closed(self) -> None:
        content = b'email,name\na@example.com,"Ann\nb@example.com,Bob\nc@example.com,Cid\n'
        assert read("p.csv", content)[1] == [
            Line(2, ['a@example.com,"Ann'], Fault("", 'A quote (") is opened here and never closed.')),
            Line(3, ["b@example.com", "Bob"]),
            Line(4, ["c@example.com", "Cid"]),
        ]

    def test_loses_nobody_between_two_stray_quotes(self) -> None:
        content = b'email,name\na@example.com,"Ann\nb@example.com,Bob\nc@example.com,"Cid"\n'
        reason = 'A quote (") stands in the middle of a quoted cell; write it twice ("") or take it out.'
        assert read("p.csv", content)[1] == [
            Line(2, ['a@example.com,"Ann'], Fault("", reason)),
            Line(3, ["b@example.com", "Bob"]),
            Line(4, ["c@example.com", "Cid"]),
        ]

    def test_of_a_cell_beyond_the_reader_is_a_fault_of_its_line(self) -> None:
        content = b'email,name\na@example.com,"' + b"x" * 140_000 + b'"\nb@example.com,Bob\n'
        first, second = read("p.csv", content)[1]
        reason = 'A cell is too long; perhaps a quote (") is opened here and not closed.'
        assert (first.number, first.fault) == (2, Fault("", reason))
        assert second == Line(3, ["b@example.com", "Bob"])

    @pytest.mark.parametrize(
        ("content", "encoding"),
        [
            ("email,name\na@example.com,Zoë\n".encode("latin-1"), "Windows-1252"),
            ("email,name\na@example.com,Zoë €\n".encode("cp1252"), "Windows-1252"),
            ("email,name\na@example.com,Zoë\n".encode(), "UTF-8"),
            ("email,name\na@example.com,Zoë\n".encode("utf-16"), "UTF-16"),
            ("email,name\na@example.com,Zoë\n".encode("utf-16-le"), "UTF-16"),
            ("email,name\na@example.com,Zoë\n".encode("utf-16-be"), "UTF-16"),
            (b"email\na\xc3", "Windows-1252"),
        ],
    )
    def test_says_in_which_encoding_it_was_read(self, content: bytes, encoding: str) -> None:
        assert how("p.csv", content).encoding == encoding

    def test_of_another_encoding_is_read_in_the_one_that_is_named(self) -> None:
        content = "email,name\na@example.com,Иван\n".encode("cp1251")
        assert cells("p.csv", content, encoding="windows-1251") == [["a@example.com", "Иван"]]
        with pytest.raises(
            ImportRefused, match=r"line 2 has the byte 0xC8\), and hardly Windows-1252"
        ) as refused:
            read("p.csv", content)
        assert refused.value.field == "encoding"

    @pytest.mark.parametrize(
        ("encoding", "message"),
        [("klingon", '"klingon" is not an encoding known here'), ("utf-8", "The file is not UTF-8: line 2")],
    )
    def test_is_refused_in_an_encoding_that_cannot_be(self, encoding: str, message: str) -> None:
        with pytest.raises(ImportRefused, match=message) as refused:
            read("p.csv", "email,name\na@example.com,Zoë\n".encode("latin-1"), encoding=encoding)
        assert refused.value.field == "encoding"

    def test_with_one_byte_that_is_not_utf_8_loses_that_line_only(self) -> None:
        content = "email,name\na@example.com,Zoë\nb@example.com,Z?e\nc@example.com,C\n".encode()
        assert read("p.csv", content.replace(b"?", b"\xeb"))[1] == [
            Line(2, ["a@example.com", "Zoë"]),
            Line(
                3,
                ["b@example.com", "Z\ufffde"],
                Fault("", "The line has the byte 0xEB, which is not UTF-8."),
            ),
            Line(4, ["c@example.com", "C"]),
        ]

    def test_is_split_as_its_first_line_says_where_excel_wrote_one(self) -> None:
        content = b"sep=;\r\nemail;name\r\na@example.com;Ann, A\r\n"
        assert read("p.csv", content) == (("email", "name"), [Line(3, ["a@example.com", "Ann, A"])])

    def test_is_split_by_what_most_lines_agree_on(self) -> None:
        content = b"who|where, when, how\nAnn|a@example.com\nBob|b@example.com\n"
        assert read("p.txt", content)[0] == ("who", "where, when, how")

    def test_named_as_a_workbook_of_old_is_read_as_the_text_it_is(self) -> None:
        assert cells("p.xls", b"email\tname\na@example.com\tAnn\n") == [["a@example.com", "Ann"]]

    def test_of_ours_gives_escaped_cells_as_they_were(self) -> None:
        content = b"email,name,timezone,'=note\na@x.com,,,'=1+1\nb@x.com,,,''=x\nc@x.com,,,'tis\n"
        columns, lines = read("p.csv", content)
        assert columns == ("email", "name", "timezone", "=note")
        assert [line.cells[3] for line in lines] == ["=1+1", "'=x", "'tis"]

    def test_of_others_keeps_its_apostrophes(self) -> None:
        content = b"email,note\na@example.com,'=1+1\nb@example.com,''=x\nc@example.com,'tis\n"
        assert [note for _, note in cells("p.csv", content)] == ["'=1+1", "''=x", "'tis"]

    @given(st.lists(st.text(alphabet=st.sampled_from("'=+-@\t\rab")), min_size=1))
    def test_is_the_same_after_it_was_escaped(self, row: list[str]) -> None:
        assert unescape([escape(cell) for cell in row]) == row
        assert not any(escape(cell).startswith(tuple("=+-@\t\r")) for cell in row)

    def test_leaves_the_callers_file_open(self) -> None:
        file = io.BytesIO(b"email\na@example.com\n")
        with open_table("p.csv", file, size=20, mapping={}):
            pass
        assert not file.closed

    @given(st.text(alphabet=st.sampled_from('ab@.,;"\n\r\t|=é\0 '), max_size=200))
    def test_never_ends_in_another_error_and_accounts_for_every_line(self, text: str) -> None:
        content = ("email,name\n" + text).encode()
        _, lines = read("p.csv", content)
        numbers = [line.number for line in lines]
        assert numbers == sorted(set(numbers))
        kept = "".join("".join(line.cells) for line in lines)
        assert kept.count("@") == text.count("@")


class TestWorkbook:
    def test_gives_values_as_a_person_would_type_them(self) -> None:
        row = [
            "00123",
            123,
            123.0,
            1.5,
            True,
            datetime.date(2026, 1, 31),
            datetime.datetime(2026, 1, 31, 9, 30),  # noqa: DTZ001  Excel knows no zones
            None,
        ]
        content = xlsx_bytes([row], header=["email", *"abcdefg"])
        assert cells("p.xlsx", content) == [
            ["00123", "123", "123", "1.5", "TRUE", "2026-01-31", "2026-01-31T09:30:00", ""]
        ]

    def test_may_be_named_xlsm(self) -> None:
        assert cells("p.XLSM", xlsx_bytes([("a@example.com", "", "")])) == [["a@example.com", "", ""]]

    def test_numbers_rows_as_excel_does(self) -> None:
        content = workbook_bytes({"People": [[], [], ["email"], ["a@example.com"], [], ["b@example.com"]]})
        lines = [line for line in read("p.xlsx", content)[1] if any(line.cells)]
        assert lines == [Line(4, ["a@example.com"]), Line(6, ["b@example.com"])]

    def test_takes_the_one_sheet_with_an_email_column(self) -> None:
        content = workbook_bytes({"Read me": [["How to"]], "People": [["E-Mail"], ["a@example.com"]]})
        assert read("p.xlsx", content) == (("E-Mail",), [Line(2, ["a@example.com"])])

    def test_may_have_several_such_sheets_of_which_the_first_or_the_named_one_is_taken(self) -> None:
        sheets = {
            "Notes": [["Call"]],
            "May": [["email"], ["a@example.com"]],
            "June": [["email"], ["b@example.com"]],
        }
        content = workbook_bytes(sheets)
        assert cells("p.xlsx", content) == [["a@example.com"]]
        reading = how("p.xlsx", content)
        assert (reading.sheet, reading.unread) == ("May", ("June",))
        assert str(reading) == 'Excel workbook, sheet "May" of 3; addresses are also in "June", not read'
        assert cells("p.xlsx", content, sheet="june") == [["b@example.com"]]
        with pytest.raises(
            ImportRefused, match=r'no visible sheet "July"\. Its sheets are "Notes", "May", "June"'
        ):
            read("p.xlsx", content, sheet="July")

    def test_marks_formulas_and_whether_their_result_is_stored(self) -> None:
        content = xlsx_bytes([("=A9", "=B9", "=C9"), ("a@example.com", "Ann", "Pune")])
        xml = part(content, SHEET)
        assert xml.count(b"<v />") + xml.count(b"<v></v>") + xml.count(b"<v/>") == 3
        xml = xml.replace(b'<c r="B2"><f>B9</f><v />', b'<c r="B2" t="str"><f>B9</f><v>Ann</v>')
        xml = xml.replace(b'<c r="C2"><f>C9</f><v />', b'<c r="C2" t="str"><f>C9</f><v></v>')
        first, second = read("p.xlsx", with_part(content, SHEET, xml))[1]
        assert first == Line(2, ["", "Ann", ""], formulas={0: False, 1: True, 2: True})
        assert second == Line(3, ["a@example.com", "Ann", "Pune"])

    @pytest.mark.parametrize(
        ("cell", "text", "errors"),
        [(b't="e"><v>#SPILT!</v>', "", {1: "#SPILT!"}), (b't="n"><v> 7 </v>', "7", None)],
        ids=["an error value newer than calamine", "white space around a number"],
    )
    def test_that_calamine_cannot_read_is_read_by_openpyxl(
        self, cell: bytes, text: str, errors: dict[int, str] | None
    ) -> None:
        content = xlsx_bytes([("a@example.com", 7, datetime.date(2026, 1, 31))])
        xml = part(content, SHEET).replace(b't="n"><v>7</v>', cell)
        expected = Line(2, ["a@example.com", text, "2026-01-31"], errors=errors)
        assert read("p.xlsx", with_part(content, SHEET, xml))[1] == [expected]

    @pytest.mark.parametrize("kind", [b't="e"', b"t='e'", b't = "e"'])
    @pytest.mark.parametrize("usual", [True, False], ids=["as usual", "written otherwise"])
    def test_tells_where_a_cell_shows_an_error(self, kind: bytes, usual: bool) -> None:
        content = xlsx_bytes([("a@example.com", 7, "Pune"), ("b@example.com", 8, "Delhi")])
        xml = part(content, SHEET).replace(b't="n"><v>7</v>', kind + b"><v>#DIV/0!</v>")
        xml = xml if usual else xml.replace(b"<c r=", b"<c  r=")
        first, second = read("p.xlsx", with_part(content, SHEET, xml))[1]
        assert first == Line(2, ["a@example.com", "", "Pune"], errors={1: "#DIV/0!"})
        assert second == Line(3, ["b@example.com", "8", "Delhi"])

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (b"<v>7</v>", b"<v>abc</v>", "The workbook is damaged after row 1: invalid literal"),
            (b"</sheetData>", b"", "The workbook is damaged after row 2: mismatched tag"),
            (b'ref="A1:C2"', b'ref="A1:nowhere"', "The workbook is damaged: Range is missing"),
        ],
    )
    def test_that_neither_can_read_is_refused(self, old: bytes, new: bytes, message: str) -> None:
        content = xlsx_bytes([("a@example.com", 7, "x")])
        xml = part(content, SHEET)
        assert old in xml
        with pytest.raises(ImportRefused, match=message):
            read("p.xlsx", with_part(content, SHEET, xml.replace(old, new)))


class TestLongCells:
    """A pattern that took the square of a cell's length, or worse, would not come to an end here."""

    def test_that_are_almost_an_address_are_none(self) -> None:
        content = b"who,where\nAnn,a@" + b"." * 120_000 + b"@\n"
        with pytest.raises(ImportRefused, match="No column looks like the e-mail address"):
            resolve(read("p.csv", content)[0], {}, read("p.csv", content)[1])

    def test_with_many_commas_are_refused(self) -> None:
        with pytest.raises(BadAddress):
            parse_address("é@" + "," * 9_000)
        with pytest.raises(BadAddress, match="The cell holds several addresses"):
            parse_address("a@" + "," * 9_000 + "@")


class TestColumns:
    @pytest.mark.parametrize(
        "header",
        [
            "email", "E-Mail", "e_mail", "EMAIL ADDRESS", "Email ID", "mail", " Contact E-mail ", "correo",
            "Correo electrónico", "Courriel", "Adresse e-mail", "E-Mail-Adresse", "ईमेल", "почта", "电子邮件",
            "Endereço de e-mail", "Indirizzo e-mail", "Электронная почта", "メールアドレス", "이메일 주소",
            "البريد الإلكتروني", "E-posta", "Địa chỉ email", "மின்னஞ்சல்", "כתובת אימייל",
        ],
    )  # fmt: skip
    def test_know_the_address_by_many_names(self, header: str) -> None:
        columns = resolve(["name", header.strip()], {})
        assert (columns.email, columns.name, columns.attributes) == (1, 0, {})

    def test_become_attributes_by_names_that_templates_can_say(self) -> None:
        columns = resolve(["email", "First Name", "time zone", "शहर", "2024 (₹)", "city"], {})
        assert columns.timezone == 2
        assert columns.attributes == {"First_Name": 1, "शहर": 3, "_2024": 4, "city": 5}

    def test_prefer_the_plainest_spelling(self) -> None:
        columns = resolve(["Work e-mail", "email"], {})
        assert (columns.email, columns.attributes) == (1, {"Work_e_mail": 0})

    def test_follow_the_mapping_where_there_is_one(self) -> None:
        columns = resolve(["Contact", "email", "name"], {"email": "contact", "name": ""})
        assert (columns.email, columns.name) == (0, None)
        assert columns.attributes == {"email": 1, "name": 2}

    def test_are_known_by_what_they_hold_where_no_name_tells(self) -> None:
        lines = [
            Line(2, ["Ann", "a@example.com"]),
            Line(3, ["Bob", "b@example.com"]),
            Line(4, ["Cid", "none"]),
        ]
        columns = resolve(["who", "where"], {}, lines)
        assert (columns.email, columns.attributes) == (1, {"who": 0})
        assert columns.reasons["email"] == "most of its first rows are addresses"

    def test_are_known_by_what_they_hold_where_the_name_misleads(self) -> None:
        lines = [Line(2, ["12 High Street", "a@example.com"])]
        assert resolve(["Mail address", "Contact"], {}, lines).email == 1

    def test_are_not_guessed_where_two_hold_addresses(self) -> None:
        with pytest.raises(ImportRefused, match="No column looks like the e-mail address"):
            resolve(["from", "to"], {}, [Line(2, ["a@example.com", "b@example.com"])])

    @given(st.text(min_size=1, max_size=20))
    def test_have_keys_that_are_identifiers(self, name: str) -> None:
        assert attribute_key(name).isidentifier()
