from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.quote import printable_name, quote, quote_error, quote_path


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value, "\x1b" * 999, {"a": value}]
    return value


@pytest.mark.parametrize(
    "value",
    ["\x1b]0;title\x07" * 99, "\u202e", "\ud800", "a\nb", 10**4_000, list("\n" * 99), {"\n": "\r"}, _nested(12), b"\n"],
    ids=range(9),
)
def test_what_is_quoted_is_short_and_printable(value: object) -> None:
    text = quote(value)

    assert text.isprintable()
    assert len(text) <= 203


@pytest.mark.parametrize("value", ["cat", "žába", 7, -1.5, None, True, [1, 2, 3, 4], {"id": 1}])
def test_short_values_are_quoted_as_python_writes_them(value: object) -> None:
    assert quote(value) == repr(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data/images/a b.png", "data/images/a b.png"),
        ("a/\x1b[2J.png", r"'a/\x1b[2J.png'"),
        ("a\n  fix: b", r"'a\n  fix: b'"),
        ("caf\udce9.png", r"'caf\udce9.png'"),
    ],
    ids=["plain", "terminal code", "line break", "no UTF-8"],
)
def test_paths_are_quoted_only_where_they_must_be(name: str, text: str) -> None:
    assert quote_path(Path(name)) == text


def test_a_long_path_keeps_both_ends() -> None:
    text = quote_path(Path("first" + "x" * 10**6 + "last.png"))

    assert text.startswith("'first")
    assert text.endswith("last.png'")
    assert len(text) == 403


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "secret"), "No such file or directory"),
        (ValueError("bad\x1b"), r"'bad\x1b'"),
        (EOFError(), "EOFError"),
        (ValueError("x" * 999), "x" * 100 + "..." + "x" * 100),
    ],
    ids=["of the system", "with a control code", "without words", "long"],
)
def test_an_error_is_told_in_one_short_line(error: BaseException, text: str) -> None:
    assert quote_error(error) == text


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), 0xDFFF])
def test_a_name_has_no_character_that_acts(code: int) -> None:
    assert printable_name(f"a{chr(code)}b") == "a\ufffdb"
