from __future__ import annotations

from base64 import b64decode

from smnas_optuna.page import Bar, bars, data_uri, disclosure, isolated, section, table, tiles
from smnas_optuna.page.pieces import bar


def test_a_table_has_a_caption_and_names_its_rows_and_columns() -> None:
    text = table("Splits <of>", ("split", "images"), [(isolated("train"), "1,000")])

    assert "<caption>Splits &lt;of&gt;</caption>" in text
    assert '<thead><tr><th scope="col">split</th><th scope="col">images</th></tr></thead>' in text
    assert '<tr><th scope="row"><bdi>train</bdi></th><td>1,000</td></tr>' in text
    assert 'role="region" aria-label="Splits &lt;of&gt;"' in text


def test_bars_are_as_long_as_their_shares_of_the_largest() -> None:
    rows = [Bar(label="a", value=0.5, text="50 %", tag="p2"), Bar(label="<b>", value=0.125, text="13 %")]
    text = bars("Sizes", rows, heads=("size", "share"))

    assert (
        '<th scope="row">a<i>p2</i></th><td>50 %</td><td aria-hidden="true"><span class="bar" style="width:100%">'
        in text
    )
    assert (
        '<th scope="row">&lt;b&gt;</th><td>13 %</td><td aria-hidden="true"><span class="bar" style="width:25%">' in text
    )


def test_bars_of_nothing_have_no_length() -> None:
    assert 'style="width:0%"' in bars("Sizes", [Bar(label="a", value=0, text="0 %")], heads=("size", "share"))
    assert "<tbody></tbody>" in bars("Sizes", [], heads=("size", "share"))
    assert bar(1 / 3) == '<span class="bar" style="width:33.33%"></span>'


def test_a_section_is_named_by_its_heading() -> None:
    assert section("Sizes", "text", name="sizes") == (
        '<section id="sizes" aria-labelledby="sizes-title"><h2 id="sizes-title">Sizes</h2>text</section>'
    )


def test_tiles_are_names_and_values() -> None:
    assert tiles([("images", "5")]) == '<dl class="tiles"><div><dt>images</dt><dd>5</dd></div></dl>'


def test_a_disclosure_is_open_until_it_is_closed() -> None:
    assert disclosure("more <", "text") == '<details open=""><summary>more &lt;</summary>text</details>'


def test_a_file_comes_back_from_its_uri() -> None:
    kind, _, content = data_uri(b"\x00\xff", "image/jpeg").partition(",")

    assert (kind, b64decode(content)) == ("data:image/jpeg;base64", b"\x00\xff")
