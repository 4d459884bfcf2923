from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
from PIL import ImageFont

from smnas_optuna.prediction import fonts
from smnas_optuna.prediction.fonts import Fonts

FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
USUAL = str(FOLDER / "DejaVuSans.ttf")
OTHER = str(FOLDER / "STIXGeneral.ttf")
ONLY_OTHER = "\N{EMPTY SET WITH SMALL CIRCLE ABOVE}"


@pytest.mark.parametrize("name", ["cat", "Straßenbahn", "велосипед", "κύκλος", "مركبة", "a\u200db", "two words"])
def test_usual_scripts_need_no_other_font(name: str) -> None:
    assert Fonts(others=[]).written(name, 3) == (name, USUAL)


@pytest.mark.parametrize("name", ["猫", "ก", "cat 猫", "🐈", "", " "])
def test_what_no_font_can_write_is_the_number_of_the_class(name: str) -> None:
    some = Fonts(others=[OTHER])

    assert some.written(name, 3) == ("class 3", USUAL)
    assert some.unwritten(["cat", name, "dog"]) == [name]


def test_another_font_writes_what_the_usual_one_lacks() -> None:
    assert Fonts(others=[]).written(ONLY_OTHER, 1)[0] == "class 1"
    assert Fonts(others=[OTHER]).written(ONLY_OTHER, 1) == (ONLY_OTHER, OTHER)


def test_a_damaged_font_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(Path(OTHER).read_bytes()[:1000])
    others = [str(tmp_path / "missing.ttf"), str(tmp_path / "broken.ttf"), OTHER]

    assert Fonts(others).written(ONLY_OTHER, 1) == (ONLY_OTHER, OTHER)


def test_a_font_that_has_no_such_size_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_font(path: str, size: int) -> ImageFont.FreeTypeFont:
        if path == str(bitmaps):
            raise OSError("invalid pixel size")  # as Pillow says of fonts of emoji
        return ImageFont.truetype(path, size)

    bitmaps = tmp_path / "emoji.ttf"
    bitmaps.write_bytes(Path(OTHER).read_bytes())
    monkeypatch.setattr(fonts, "font", open_font)

    assert Fonts([str(bitmaps), OTHER]).written(ONLY_OTHER, 1) == (ONLY_OTHER, OTHER)


def test_fonts_of_this_machine_are_looked_for_only_where_the_usual_one_lacks_a_character() -> None:
    assert Fonts().unwritten(["cat", "dog"]) == []
    assert Fonts().unwritten(["\U0010ffff"]) == ["\U0010ffff"]
