"""File names that are not quite those of the files: read if there is no doubt, otherwise told with what is there."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from smnas_optuna.data.image_paths import find_images
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_path

from .hostile import check_message

SOURCE = Path("train.json")


def _find(folder: Path, *names: str) -> tuple[list[str], list[str]]:
    """The files that are found, relative to ``folder``, and the notes."""
    rows = [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    paths, notes = find_images(rows, SOURCE, folder)
    return [str(path.relative_to(folder)) for path in paths.values()], notes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    _write(images, "a.jpg", "a2.jpg", "sub/b.JPG", "with space.png", unicodedata.normalize("NFD", "Kätzchen.png"))
    _write(images, "cats & dogs.png", "grün.png", "s├╝├ƒ.png")
    return images


def _write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _folds_case(folder: Path) -> bool:
    return (folder / "A.JPG").exists()


OTHERWISE = {
    "separators of Windows": (r"sub\b.JPG", "sub/b.JPG", "the separators of Windows"),
    "and the folder": (r".\sub\b.JPG", "sub/b.JPG", "the separators of Windows"),
    "and another case": (r"SUB\b.jpg", "sub/b.JPG", "the separators of Windows"),
    "percent-encoded": ("with%20space.png", "with space.png", "percent-encoded characters"),
    "and with separators": (r"sub%5Cb.JPG", None, ""),
    "blanks around": (" a2.jpg\n", "a2.jpg", "characters that are written otherwise"),
    "quotes around": ('"a2.jpg"', "a2.jpg", "characters that are written otherwise"),
    "escapes of HTML": ("cats &amp; dogs.png", "cats & dogs.png", "characters that are written otherwise"),
    "a plus for a blank": ("with+space.png", "with space.png", "characters that are written otherwise"),
    "bytes read in another encoding": ("gr\u00c3\u00bcn.png", "grün.png", "another encoding"),
    "a file from an archive": ("süß.png", "s├╝├ƒ.png", "another encoding"),
    "case of the suffix": ("sub/b.jpg", "sub/b.JPG", "another spelling"),
    "case of the folder": ("SUB/b.JPG", "sub/b.JPG", "another spelling"),
    "composed accents": (
        unicodedata.normalize("NFC", "Kätzchen.png"),
        unicodedata.normalize("NFD", "Kätzchen.png"),
        "another spelling",
    ),
}


@pytest.mark.parametrize(("name", "file", "way"), OTHERWISE.values(), ids=OTHERWISE)
def test_a_name_that_is_written_otherwise_is_read_with_a_note(
    name: str, file: str | None, way: str, folder: Path
) -> None:
    if _folds_case(folder):
        pytest.skip("this file system takes A.JPG for a.jpg")
    if file is None:
        with pytest.raises(DataError):
            _find(folder, "a.jpg", name)
        return

    found, notes = _find(folder, "a.jpg", name)

    assert found == ["a.jpg", file]
    assert notes == [
        f"1 of 2 images, first image 2, have {way} in file_name: {quote(name)} is read as {quote_path(Path(file))}"
    ]


def test_a_name_that_a_file_has_is_not_read_otherwise(folder: Path) -> None:
    _write(folder, r"sub\b.JPG", "with%20space.png")

    names = [r"sub\b.JPG", "with%20space.png"]
    assert _find(folder, *names) == (names, [])


def test_a_name_that_two_files_could_have_is_refused(folder: Path) -> None:
    if _folds_case(folder):
        pytest.skip("this file system takes A.JPG for a.jpg")
    _write(folder, "A.jpg")

    assert _find(folder, "a.jpg", "A.jpg")[0] == ["a.jpg", "A.jpg"]
    with pytest.raises(DataError, match="1 of 1 images are missing"):
        _find(folder, "a.JPG")


OUT = [
    "..\\a.jpg",
    "..\\..\\media\\a.jpg",
    "C:\\data\\a.jpg",
    "\\\\host\\a.jpg",
    "\\a.jpg",
    "%2e%2e/a.jpg",
    "c:\\a.jpg",
]


@pytest.mark.parametrize("name", OUT)
def test_a_name_that_would_lead_out_of_the_folder_elsewhere_is_refused(name: str, folder: Path) -> None:
    _write(folder.parent, "a.jpg")

    with pytest.raises(DataError) as error:
        _find(folder, "a.jpg", name)

    assert str(error.value).splitlines() == [
        "train.json: 1 of 2 images lie outside the image folder",
        f"  first: image 2, file_name {name!r}",
        f"  fix: give file_name relative to {folder}, without '..'",
    ]


def _encoded(address: str) -> str:
    return base64.b64encode(address.encode()).decode()


ELSEWHERE = {
    "upload": ("https://host/data/upload/1/1a2b3c4d-new.jpg", "1a2b3c4d-new.jpg", "an address"),
    "upload without a host": ("/data/upload/12/1a2b3c4d-new.jpg", "1a2b3c4d-new.jpg", "an address"),
    "upload, and the name before it": ("https://host/data/upload/1/1a2b3c4d-a.jpg", "a.jpg", "the prefix of an upload"),
    "local file": ("/data/local-files/?d=pets/sub/b.JPG", "sub/b.JPG", "an address"),
    "local file, encoded": ("/data/local-files/?d=pets%2Fwith%20space.png", "with space.png", "an address"),
    "local file, absolute": ("http://host/data/local-files/?d=/home/me/sub/b.jpg", "sub/b.JPG", "an address"),
    "bucket": ("s3://bucket/sub/b.JPG", "sub/b.JPG", "an address"),
    "upload in storage": (
        "/storage-data/uploaded/?filepath=upload/1/1a2b3c4d-new.jpg",
        "1a2b3c4d-new.jpg",
        "an address",
    ),
    "local file, no slash": ("/data/local-files?d=pets/sub/b.JPG", "sub/b.JPG", "an address"),
    "bucket of a task": (f"/tasks/12/presign/?fileuri={_encoded('s3://pets/sub/b.JPG')}", "sub/b.JPG", "an address"),
    "bucket of a project": (
        f"https://host/projects/3/resolve/?fileuri={_encoded('gs://pets/a.jpg')}",
        "a.jpg",
        "an address",
    ),
    "bucket, no padding": (f"/tasks/1/resolve/?fileuri={_encoded('s3://p/a.jpg').rstrip('=')}", "a.jpg", "an address"),
    "bucket, quoted": ("/tasks/12/presign/?fileuri=azure-blob%3A%2F%2Fpets%2Fsub%2Fb.JPG", "sub/b.JPG", "an address"),
    "bucket, as it is": ("/api/tasks/12/presign/?fileuri=s3://pets/with space.png", "with space.png", "an address"),
    "signed, in a folder": ("images/a.jpg?X-Amz-Signature=x/y", "a.jpg", "folders that are not there"),
    "signed, alone": ("a.jpg?X-Amz-Signature=x%2Fy", "a.jpg", "an address"),
    "fetched": ("images/1a2b3c4d__a.jpg", "a.jpg", "the prefix of an upload"),
    "fetched by an older version": ("1a2b3c__a.jpg", "a.jpg", "the prefix of an upload"),
    "absolute, in the folder": ("/home/me/pets/images/a.jpg", "a.jpg", "the path of another place"),
    "absolute, in the folder, on Windows": (r"C:\Users\me\images\a.jpg", "a.jpg", "the path of another place"),
    "file": ("file:///C:/pets/images/sub/b.JPG", "sub/b.JPG", "an address"),
    "signed": ("https://host/pets/a.jpg?Expires=1&Signature=x", "a.jpg", "an address"),
    "absolute": ("/home/me/pets/sub/b.JPG", "sub/b.JPG", "the path of another place"),
    "absolute on Windows": (r"C:\pets\sub\b.JPG", "sub/b.JPG", "the path of another place"),
    "upwards": (r"..\..\media\upload\4\1a2b3c4d-new.jpg", "1a2b3c4d-new.jpg", "the path of another place"),
    "upwards, two names": ("../../images/sub/b.JPG", "sub/b.JPG", "the path of another place"),
    "the folder itself": ("images/a.jpg", "a.jpg", "folders that are not there"),
    "the folder itself, Windows": (r"images\a.jpg", "a.jpg", "folders that are not there"),
    "a project": (r"images\1/1a2b3c4d-new.jpg", "1a2b3c4d-new.jpg", "folders that are not there"),
    "a prefix": ("1a2b3c4d-a.jpg", "a.jpg", "the prefix of an upload"),
    "a prefix and the folder": ("images/1a2b3c4d-a.jpg", "a.jpg", "the prefix of an upload"),
    "a prefix in a folder": ("sub/1a2b3c4d-b.jpg", "sub/b.JPG", "the prefix of an upload"),
    "a prefix, and no blanks": ("1a2b3c4d-with_space.png", "with space.png", "the prefix of an upload"),
}


@pytest.mark.parametrize(("name", "file", "way"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_name_of_another_place_is_read_as_the_file_that_it_ends_in(
    name: str, file: str, way: str, folder: Path
) -> None:
    _write(folder, "1a2b3c4d-new.jpg", "other.jpg")

    found, notes = _find(folder, "other.jpg", name)

    assert found == ["other.jpg", file]
    quoted = "'with space.png'" if file == "with space.png" else file
    assert len(notes) == 1
    assert notes[0].startswith(f"1 of 2 images, first image 2, have {way} in file_name: ")
    assert notes[0].endswith(f" is read as {quoted}".replace("'with space.png'", "with space.png"))


NO_OTHER = {
    "folders of other images": "train/a.jpg",
    "one name of another machine": "/home/me/a.jpg",
    "a number that is no project": "1/a.jpg",
    "too short for a prefix": "1a2b3c-a.jpg",
    "no hexadecimal digits": "1a2b3c4g-a.jpg",
}


@pytest.mark.parametrize("name", NO_OTHER.values(), ids=NO_OTHER)
def test_a_name_is_not_read_as_another_without_evidence(name: str, folder: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 2 images (are missing|lie outside)"):
        _find(folder, "with space.png", name)


def test_two_uploads_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="1 of 2 image rows name a file that another row names"):
        _find(folder, "1a2b3c4d-a.jpg", "5e6f7a8b-a.jpg")


def test_an_upload_that_two_files_could_be_is_refused(folder: Path) -> None:
    _write(folder, "with_space!.png", "with_space?.png")
    with pytest.raises(DataError, match="1 of 1 images are missing"):
        _find(folder, "1a2b3c4d-with_space.png")


@pytest.mark.parametrize("name", ["https://host/c.jpg", "s3://bucket/c.jpg", "file:///c.jpg"])
def test_a_url_is_told_as_it_is_written(name: str, folder: Path) -> None:
    with pytest.raises(DataError) as error:
        _find(folder, name)

    assert str(error.value).splitlines() == [
        "train.json: 1 of 1 images have a URL as file_name",
        f"  first: image 1, file_name {name!r}",
        f"  fix: put the files into {folder}, and write their paths relative to it as file_name",
    ]


TOGETHER = {
    "folders that are not there": (("old/a.jpg", "old/b.jpg", "new/c.jpg"), ("a.jpg", "b.jpg", "c.jpg")),
    "folders of another machine": (("/home/me/a.jpg", "/home/me/b.jpg", "/home/me/c.jpg"), ("a.jpg", "b.jpg", "c.jpg")),
    "a share of Windows": ((r"\\host\a.jpg", r"\\host\b.jpg", r"\\host\c.jpg"), ("a.jpg", "b.jpg", "c.jpg")),
    "no folder": (("a.jpg", "b.jpg", "c.jpg"), ("1/a.jpg", "2/b.jpg", "2/c.jpg")),
    "another suffix": (("a.png", "b.png", "c.png"), ("a.jpg", "b.jpg", "c.jpeg")),
    "no suffix": (("a", "b", "c"), ("a.jpg", "b.jpg", "c.jpeg")),
    "two suffixes": (("a.jpg.jpg", "b.png.jpg", "c.jpg.jpg"), ("a.jpg", "b.png", "c.jpg")),
    "underscores": (("a_1.jpg", "b_1.jpg", "c_1.jpg"), ("a 1.jpg", "b 1.jpg", "c 1.jpg")),
    "uploads": (("a.jpg", "b.jpg", "c.jpg"), ("1a2b3c4d-a.jpg", "5e6f7a8b-b.jpg", "5e6f7a8b-c.jpg")),
}


@pytest.mark.parametrize(("names", "files"), TOGETHER.values(), ids=TOGETHER)
def test_names_that_together_leave_no_doubt_are_read_with_a_note(
    names: Sequence[str], files: Sequence[str], tmp_path: Path
) -> None:
    _write(tmp_path, "other.jpg", *files)

    found, notes = _find(tmp_path, "other.jpg", *names)

    assert found == ["other.jpg", *files]
    assert len(notes) == 1
    assert notes[0].startswith("3 of 4 images, first image 2, have ")


DOUBTFUL: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "too few": (("old/a.jpg", "old/b.jpg"), ("a.jpg", "b.jpg")),
    "one that is nowhere": (("old/a.jpg", "old/b.jpg", "old/d.jpg"), ("a.jpg", "b.jpg", "c.jpg")),
    "two of one file": (("old/a.jpg", "new/a.jpg", "old/b.jpg"), ("a.jpg", "b.jpg", "c.jpg")),
    "a file of another name": (("old/other.jpg", "old/a.jpg", "old/b.jpg"), ("a.jpg", "b.jpg")),
    "two files of one name": (("a.jpg", "b.jpg", "c.jpg"), ("1/a.jpg", "2/a.jpg", "1/b.jpg", "1/c.jpg")),
    "two suffixes": (("a.bmp", "b.bmp", "c.bmp"), ("a.jpg", "a.png", "b.jpg", "c.jpg")),
    "upwards": (("../a.jpg", "../b.jpg", "../c.jpg"), ("a.jpg", "b.jpg", "c.jpg")),
    "a folder": (("old/a.jpg", "old/b.jpg", "old/c.jpg"), ("a.jpg", "b.jpg", "c.jpg/d")),
}


@pytest.mark.parametrize(("names", "files"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_names_that_leave_a_doubt_together_are_refused(
    names: Sequence[str], files: Sequence[str], tmp_path: Path
) -> None:
    _write(tmp_path, "other.jpg", *files)

    with pytest.raises(DataError, match=r"of \d images (are missing|lie outside)"):
        _find(tmp_path, "other.jpg", *names)


HINTS = {
    "the folder is named twice": ("images/none.jpg", "; file_name is relative to {folder}, not to {parent}"),
    "folders that are not there": ("train/a.jpg", "; {folder}/a.jpg is there: leave the folders out of file_name"),
    "another suffix": ("a.png", "; the nearest name there is 'a.jpg'"),
    "a slip": ("with_space.png", "; the nearest name there is 'with space.png'"),
    "nothing like it": ("0123456789", ""),
}


@pytest.mark.parametrize(("name", "hint"), HINTS.values(), ids=HINTS)
def test_a_missing_image_is_told_with_what_is_there(name: str, hint: str, folder: Path) -> None:
    with pytest.raises(DataError) as error:
        _find(folder, name)

    fix = "put the files there, or set images (or val_images, test_images) in [data] of study.toml to their folder"
    assert error.value.fix == fix + hint.format(folder=folder, parent=folder.parent)
    assert error.value.first == f"image 1, {folder / name}: No such file or directory"


def test_a_folder_without_files_is_told(tmp_path: Path) -> None:
    for name, what in (("empty", "an empty folder"), ("none", "no folder")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError) as error:
            _find(tmp_path / name, "a.jpg")
        assert error.value.fix.endswith(f"; {tmp_path / name} is {what}")


@pytest.mark.parametrize(
    "names", [("a.jpg", "a.jpg", "a.jpg"), ("a.jpg", "./a.jpg", r".\a.jpg")], ids=["same", "other"]
)
def test_rows_of_one_file_are_refused(names: Sequence[str], folder: Path) -> None:
    with pytest.raises(DataError) as error:
        _find(folder, "with space.png", *names)

    assert str(error.value).splitlines() == [
        "train.json: 2 of 4 image rows name a file that another row names",
        f"  first: image 3, file_name {names[1]!r}, is image 2 too; 3 rows name that file",
        "  fix: write one row for each file, with all its boxes; files of one name in several folders need their "
        "folders",
    ]


@pytest.mark.parametrize("name", ["\0", "%00", "\ud800", "x" * 10**6, "a/" * 3_000, "\x1b[31m\\b", "%", "\\", "%zz\\"])
def test_messages_of_hostile_names_stay_short(name: str, folder: Path) -> None:
    with pytest.raises(DataError) as error:
        _find(folder, name)

    check_message(error.value)
