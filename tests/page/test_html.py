from __future__ import annotations

import pytest

from smnas_optuna.page import Html, element, isolated, joined

HOSTILE = "</p><script>alert('1')</script>&amp;"


def test_text_is_escaped_and_html_is_taken_as_it_is() -> None:
    inner = element("b", HOSTILE)

    assert element("p", inner, HOSTILE) == (
        "<p><b>&lt;/p&gt;&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&amp;amp;</b>"
        "&lt;/p&gt;&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&amp;amp;</p>"
    )


def test_a_quote_cannot_leave_an_attribute() -> None:
    assert element("td", title='" onclick="x', class_="a", aria_label="é", colspan=2) == (
        '<td title="&quot; onclick=&quot;x" class="a" aria-label="é" colspan="2"></td>'
    )


def test_elements_without_content_have_no_end() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


@pytest.mark.parametrize("character", ["\n", "\x1b", "\u202e", "\u2066", "\u2028", "\ud800"], ids=ascii)
def test_what_controls_the_output_is_replaced(character: str) -> None:
    assert joined([f"a{character}b"]) == "a\N{REPLACEMENT CHARACTER}b"
    assert element("i", title=f"a{character}b") == '<i title="a\N{REPLACEMENT CHARACTER}b"></i>'
    joined([f"a{character}b"]).encode()  # UTF-8 has all that is left


def test_a_name_is_isolated_from_what_stands_around_it() -> None:
    assert isolated("שחמט <b>") == "<bdi>שחמט &lt;b&gt;</bdi>"


def test_a_long_name_is_cut_before_it_is_escaped() -> None:
    assert isolated("<" * 5000) == f"<bdi>{'&lt;' * 40}...{'&lt;' * 40}</bdi>"


def test_html_and_text_together_are_html() -> None:
    assert isinstance(joined([Html("<br>"), "<"]), Html)
    assert joined([Html("<br>"), "<"]) == "<br>&lt;"
