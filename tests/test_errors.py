from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.errors import NEXT_LINE, DataError, SmnasError, quote


def test_an_error_says_where_what_and_how_to_fix_it() -> None:
    error = DataError("a.json: 2 of 3 are wrong", first="the first", fix="mend them")

    assert str(error) == "a.json: 2 of 3 are wrong\n  first: the first\n  fix: mend them"
    assert str(DataError("a.json: wrong", fix="mend it")) == "a.json: wrong\n  fix: mend it"


def test_no_control_code_reaches_the_terminal() -> None:
    error = DataError("a\x1b[2J.json: b\xad\u202e\x9b", first="c\r", fix="größer, 図, 🙂")

    assert str(error) == "a\\x1b[2J.json: b\\xad\\u202e\\x9b\n  first: c\\r\n  fix: größer, 図, 🙂"


def test_no_text_imitates_a_line_of_the_message() -> None:
    error = DataError("a\n  fix: b.json: wrong", first="c\n  fix: d", fix="e\n  fix: f")

    assert str(error).split("\n") == ["a\\n  fix: b.json: wrong", "  first: c\\n  fix: d", "  fix: e\\n  fix: f"]


def test_several_offenders_have_a_line_each() -> None:
    error = DataError("wrong", first=f"one{NEXT_LINE}two\x1b", fix="mend them")

    assert str(error) == "wrong\n  first: one\n         two\\x1b\n  fix: mend them"


@pytest.mark.parametrize("text", ["x" * 100_000, "\n" * 100_000, "\x1b" * 100_000, "図" * 100_000, "\udcff" * 100_000])
def test_a_message_is_short_whatever_it_holds(text: str) -> None:
    error = DataError(f"a.json: {text} is wrong", first=f"{text} is the first", fix=f"mend {text} there")

    assert len(str(error)) < 2000
    assert str(error).startswith("a.json: ")
    assert str(error).endswith(" there")
    assert error.message.endswith(" is wrong")


@given(st.text(), st.text() | st.none(), st.text())
def test_every_message_is_short_and_can_be_encoded(message: str, first: str | None, fix: str) -> None:
    text = str(SmnasError(message * 50, first=None if first is None else first * 50, fix=fix * 50))

    assert len(text) < 2000
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.encode("utf-8")


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("x", "'x'"),
        (1.5, "1.5"),
        ([1, 2, 3, 4, 5, 6, 7], "[1, 2, 3, 4, 5, 6, ...]"),
        (16**9000, "a number of thousands of digits"),
        ([[16**9000]], "a number of thousands of digits"),
        ("\n\x1b", "'\\n\\x1b'"),
    ],
    ids=["text", "number", "list", "huge", "huge inside", "control codes"],
)
def test_a_value_is_quoted_on_a_short_line(value: object, quoted: str) -> None:
    assert quote(value) == quoted


def test_a_long_value_is_cut() -> None:
    assert len(quote("x" * 100_000)) <= 200
    assert len(quote({"x" * 1000: "y" * 1000})) <= 203
