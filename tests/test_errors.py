from __future__ import annotations

from smnas_optuna.errors import DataError


def test_an_error_says_where_what_and_how_to_fix_it() -> None:
    error = DataError("a.json: 2 of 3 are wrong", first="the first", fix="mend them")

    assert str(error) == "a.json: 2 of 3 are wrong\n  first: the first\n  fix: mend them"
    assert str(DataError("a.json: wrong", fix="mend it")) == "a.json: wrong\n  fix: mend it"


def test_no_control_code_reaches_the_terminal() -> None:
    error = DataError("a\x1b[2J.json: b\xad\u202e\x9b", first="c\r", fix="größer, 図, 🙂")

    assert str(error) == "a\\x1b[2J.json: b\\xad\\u202e\\x9b\n  first: c\\r\n  fix: größer, 図, 🙂"
