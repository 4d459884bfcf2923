from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.runtime.image_tree import files_in, is_image


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder: Path, **options: str) -> list[str]:
    return [str(Path(name).relative_to(folder)) for name in files_in(folder, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.JPG", True), ("a.b.webp", True), ("._a.jpg", False), (".jpg", False), ("jpg", False), ("a.txt", False)],
)
def test_an_image_has_the_name_of_one(name: str, expected: bool) -> None:
    assert is_image(Path("folder") / name) == expected


def test_the_order_depends_on_names_alone_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "z.png", "a/2.png", "a/1.png", ".thumbs/a.png", "a/.cache/b.png", ".hidden", "b/c/d.txt")

    assert found(tmp_path) == [".hidden", "z.png", "a/1.png", "a/2.png", "b/c/d.txt"]


def test_links_to_folders_are_followed_and_no_folder_is_entered_twice(tmp_path: Path) -> None:
    make(tmp_path, "in/a.png", "in/deep/b.png", "elsewhere/c.png")
    (tmp_path / "in/link").symlink_to("../elsewhere")
    (tmp_path / "in/other").symlink_to("../elsewhere")
    (tmp_path / "in/deep/up").symlink_to("..")

    assert found(tmp_path / "in") == ["a.png", "deep/b.png", "link/c.png"]


def test_folders_beside_a_file_are_left_out_but_for_the_first_one(tmp_path: Path) -> None:
    make(tmp_path, "mark.toml", "a.png", "study/mark.toml", "study/b.png", "study/report/c.png", "d/e.png")

    assert found(tmp_path, except_beside="mark.toml") == ["a.png", "mark.toml", "d/e.png"]
    assert len(found(tmp_path)) == 6


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    errors = list[OSError]()

    assert list(files_in(tmp_path / "none", errors.append)) == []
    assert [error.filename for error in errors] == [str(tmp_path / "none")]
