from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.errors import FileError
from smnas_optuna.paths import at_home


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("path", "meant"),
    [("a/b", "a/b"), ("a/~", "a/~"), ("~", "{home}"), ("~/a", "{home}/a"), (Path("~/a"), "{home}/a"), ("/a", "/a")],
)
def test_home_is_put_at_the_beginning_alone(path: str | Path, meant: str) -> None:
    assert at_home(path) == Path(meant.format(home=Path.cwd() / "home"))


def test_a_user_who_is_not_there_is_named() -> None:
    with pytest.raises(FileError) as caught:
        at_home("~no such user/a")

    assert caught.value.message == "~no such user/a: there is no user 'no such user' on this machine"
    assert caught.value.fix == "write the path without ~"


def test_a_file_of_such_a_name_is_taken_as_it_is() -> None:
    Path("~backup.jpg").touch()

    assert at_home("~backup.jpg") == Path("~backup.jpg")


@pytest.mark.parametrize(
    "command",
    [
        ("front", "~nosuchuser/study"),
        ("init", "~nosuchuser/study", "--data", "data"),
        ("init", "study", "--data", "~nosuchuser/data"),
        ("doctor", "~nosuchuser/study"),
        ("benchmark", "--study", "~nosuchuser/study"),
        ("predict", "~nosuchuser/a.jpg", "--detector", "d"),
        ("predict", "~nosuchuser/a.mp4", "--detector", "d"),
        ("predict", "a.jpg", "--detector", "~nosuchuser/d"),
        ("predict", "a.jpg", "--detector", "d", "--output", "~nosuchuser/out"),
        ("structural", "study", "--data", "~nosuchuser/data"),
        ("structural", "study", "--warm-start", "~nosuchuser/other"),
        ("report", "study", "--output", "~nosuchuser/page.html"),
        ("data", "look", "study", "--output", "~nosuchuser/page.html"),
        ("export", "study", "--output", "~nosuchuser/d.onnx"),
        ("evaluate", "study", "--detector", "~nosuchuser/d.onnx"),
        ("evaluate", "study", "--output", "~nosuchuser/out"),
        ("evaluate", "study", "--on", "a.json", "--images", "~nosuchuser/images"),
        ("stopwatch", "~nosuchuser/a.onnx", "b.onnx", "--images", "."),
    ],
    ids=lambda command: " ".join(command[::2]),
)
def test_every_command_says_it(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from smnas_optuna.cli import main

    Path("study").mkdir()
    Path("study/study.toml").touch()
    with pytest.raises(SystemExit) as caught:
        main(list(command))

    said = capsys.readouterr().err
    assert caught.value.code == 1
    assert "there is no user 'nosuchuser' on this machine\n  fix: write the path without ~" in said
    assert not list(Path().glob("~*"))
