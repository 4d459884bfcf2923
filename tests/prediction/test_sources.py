from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from smnas_optuna.errors import DataError
from smnas_optuna.prediction.sources import find_sources, has_more_frames


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(*sources: str | Path, output: Path | None = None) -> list[tuple[str, str]]:
    """The images and their pictures, as they are below the working folder."""
    return [(str(each.path), str(each.picture)) for each in find_sources([*map(str, sources)], output=output)]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_folder_is_searched_with_all_folders_in_it_in_sorted_order() -> None:
    make(Path("in"), "b.png", "a.JPG", "z/c.jpeg", "z/y/d.tif", "notes.txt", "a.onnx", ".thumbs/a.jpg", "z/._c.jpeg")

    assert found("in") == [
        ("in/a.JPG", "a.jpg"),
        ("in/b.png", "b.png"),
        ("in/z/c.jpeg", "z/c.jpg"),
        ("in/z/y/d.tif", "z/y/d.png"),
    ]


def test_links_to_folders_are_followed_as_in_a_pattern() -> None:
    make(Path(), "in/a.png", "elsewhere/b.png", "elsewhere/deep/c.png", "elsewhere/.thumbs/d.png")
    Path("in/link").symlink_to("../elsewhere")
    Path("in/link/deep/up").symlink_to("../../in")  # a circle

    images = [("in/a.png", "a.png"), ("in/link/b.png", "link/b.png"), ("in/link/deep/c.png", "link/deep/c.png")]
    assert found("in") == found("in/**/*.png") == images


def test_pictures_of_an_earlier_run_are_no_images_behind_a_link_either() -> None:
    make(Path(), "in/a.png", "out/a.png")
    Path("in/link").symlink_to("../out")

    assert found("in", output=Path("out")) == [("in/a.png", "a.png")]


def test_a_hidden_file_may_be_named_itself_or_by_a_pattern() -> None:
    make(Path("in"), ".a.png")

    assert found("in/.a.png") == found("in/.*.png") == [("in/.a.png", ".a.png")]


def test_a_file_is_taken_whatever_its_ending() -> None:
    make(Path("in"), "picture")

    assert found("in/picture") == [("in/picture", "picture.png")]


@pytest.mark.parametrize(
    ("pattern", "images"),
    [
        ("in/*.png", ["in/a.png", "in/b.png"]),
        ("in/?.png", ["in/a.png", "in/b.png"]),
        ("in/[b-z].png", ["in/b.png"]),
        ("in/**/*.png", ["in/a.png", "in/b.png", "in/z/c.png"]),
        ("*/z/*", ["in/z/c.png"]),
        ("**/c.*", ["in/z/c.png"]),
    ],
)
def test_a_pattern_means_what_it_matches(pattern: str, images: list[str]) -> None:
    make(Path("in"), "b.png", "a.png", "z/c.png", "z/c.txt")

    assert [path for path, _ in found(pattern)] == images


def test_pictures_of_a_pattern_are_named_from_its_first_part_that_is_one() -> None:
    make(Path("in"), "x/a.png", "y/a.png")

    assert found("in/*/a.png") == [("in/x/a.png", "x/a.png"), ("in/y/a.png", "y/a.png")]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file() -> None:
    make(Path("in"), "a[1].png", "a1.png")

    assert found("in/a[1].png") == [("in/a[1].png", "a[1].png")]


def test_images_of_one_name_have_pictures_of_their_own() -> None:
    make(Path(), "x/a.png", "y/a.png", "y/A.bmp", "z/a-2.png")

    assert found("x/a.png", "y", "z") == [
        ("x/a.png", "a.png"),
        ("y/A.bmp", "A-2.png"),
        ("y/a.png", "a-3.png"),
        ("z/a-2.png", "a-2-2.png"),
    ]


def test_an_image_that_is_named_twice_is_taken_once() -> None:
    make(Path("in"), "a.png")
    Path("link.png").symlink_to("in/a.png")

    assert found("in", "in/../in/a.png", "link.png", "in/*.png") == [("in/a.png", "a.png")]


def test_pictures_of_an_earlier_run_are_no_images() -> None:
    make(Path(), "a.png", "out/a.png", "out/deep/b.png")

    assert found(".", output=Path("out")) == [("a.png", "a.png")]
    assert found("**/*.png", output=Path("out")) == [("a.png", "a.png")]


def test_a_folder_inside_the_output_may_be_named_itself() -> None:
    make(Path(), "out/photos/a.png")

    assert found("out/photos", output=Path("out")) == [("out/photos/a.png", "a.png")]


@pytest.mark.parametrize("output", ["in", "in/../in", "link"])
def test_no_picture_takes_the_place_of_an_image(output: str) -> None:
    make(Path("in"), "a.png", "b.bmp")
    Path("link").symlink_to("in")

    with pytest.raises(DataError) as caught:
        found("in", output=Path(output))

    assert str(caught.value).splitlines() == [
        f"{output}: the pictures of 1 of 2 images would take the place of images",
        f"  first: {output}/a.png",
        "  fix: name another folder: --output DIR",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing.png", "nothing.png: there is no such file or folder"),
        ("empty", "'empty': there is no image"),
        ("empty/*.png", "'empty/*.png': there is no image"),
        ("a\0.png", "'a\\x00.png': there is no such file or folder"),
        ("x" * 500, None),
    ],
)
def test_a_source_without_images_is_one_message(source: str, message: str | None) -> None:
    make(Path(), "here.png", "empty/notes.txt")

    with pytest.raises(DataError, match="there is no") as caught:
        found("here.png", source)

    if message is not None:
        assert caught.value.message == message
    assert caught.value.fix.startswith(
        "name image files, folders of them, or a pattern in quotes: 'photos/*.jpg'; videos"
    )


def test_a_name_in_no_encoding_is_a_name_like_any_other() -> None:
    make(Path("in"), os.fsdecode(b"\xff.png"))

    assert len(found("in")) == 1


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_an_image_may_have_more_frames(name: str, frames: int) -> None:
    first, *others = [Image.new("RGB", (32, 24), (60 * number, 0, 0)) for number in range(frames)]
    first.save(name, save_all=True, append_images=others)

    assert has_more_frames(Path(name)) == (frames > 1)


def test_a_photo_with_a_preview_has_one_frame() -> None:
    photo = Image.new("RGB", (32, 24))
    photo.save("a.jpg", "MPO", save_all=True, append_images=[photo.resize((16, 12))])

    assert not has_more_frames(Path("a.jpg"))


def test_damage_after_the_first_frame_is_no_error() -> None:
    frames = [Image.effect_noise((64, 48), 50 + number) for number in range(3)]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    whole = Path("a.gif").read_bytes()

    for length in range(20, len(whole), 97):
        Path("a.gif").write_bytes(whole[:length])
        has_more_frames(Path("a.gif"))
