from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from smnas_optuna.page import element, page
from smnas_optuna.page.frame import POLICY, STYLE, policy


def test_a_page_is_whole_and_its_title_is_text() -> None:
    text = page("Data of </title><script>", element("h1", "Data"))

    assert text.startswith('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">')
    assert "<title>Data of &lt;/title&gt;&lt;script&gt;</title>" in text
    assert text.endswith("<body><main><h1>Data</h1></main></body></html>\n")


def test_a_page_allows_no_script_and_no_request() -> None:
    assert POLICY.startswith("default-src 'none'; ")
    assert f'content="{POLICY}"'.replace("'", "&#x27;") in page("Data")
    assert "http" not in re.sub(r"http-equiv", "", page("Data"))
    assert "url(" not in STYLE


def test_a_page_has_a_dark_look_and_the_width_of_a_phone() -> None:
    assert "color-scheme:light dark" in STYLE
    assert "prefers-color-scheme:dark" in STYLE
    assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in page("Data")


def test_a_page_runs_the_script_that_it_was_given_and_no_other() -> None:
    text = page("Data", element("p", "<script>alert(1)</script>"), script="let a = 1 < 2;", style="p{margin:0}")
    digest = b64encode(sha256(b"let a = 1 < 2;").digest()).decode()

    assert policy("let a = 1 < 2;") == f"{POLICY}; script-src 'sha256-{digest}'"
    assert f"script-src &#x27;sha256-{digest}&#x27;" in text
    assert text.count("<script") == 1
    assert "<script>let a = 1 < 2;</script></body>" in text
    assert "p{margin:0}</style>" in text
