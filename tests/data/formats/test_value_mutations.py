"""A thousand YOLO and VOC data sets with one wrong value, column, element or encoding each.

Each is refused with a clear error or read correctly; for most kinds it is known which of these.
"""

# ruff: noqa: E501 one kind of mistake is one line

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset
from smnas_optuna.data.formats import load_datasets
from smnas_optuna.data.formats.split_names import Role
from smnas_optuna.errors import SmnasError
from tests.data.formats.test_mutations import check_folder
from tests.data.formats.writers import write_voc, write_yolo_as_roboflow_does

SEEDS = 20
Outcome = Literal["same", "read", "refused", "either"]
Change = Callable[[bytes, random.Random], bytes]
"""Returns the content of a file, spoiled."""
Kind = tuple[str, Outcome, Change]
"""Suffix of the files that it spoils, what comes of it, and the change."""


def _in_a_line(change: Callable[[list[str], random.Random], None]) -> Change:
    """Change the columns of a line."""

    def spoil(content: bytes, rng: random.Random) -> bytes:
        lines = content.decode().splitlines()
        place = rng.randrange(len(lines))
        columns = lines[place].split()
        change(columns, rng)
        lines[place] = " ".join(columns)
        return "\n".join(lines).encode()

    return spoil


def _put(first: int, *values: str) -> Change:
    """Put one of ``values`` into a column from ``first`` on."""

    def change(columns: list[str], rng: random.Random) -> None:
        columns[rng.randrange(first, len(columns)) if first else 0] = rng.choice(values)

    return _in_a_line(change)


def _text(change: Callable[[str], str]) -> Change:
    return lambda content, _: change(content.decode()).encode()


def _instead(pattern: str, *values: str) -> Change:
    """Put one of ``values`` in the place of a match of ``pattern``."""

    def spoil(content: bytes, rng: random.Random) -> bytes:
        text = content.decode()
        found = rng.choice(list(re.finditer(pattern, text)))
        return (text[: found.start()] + rng.choice(values) + text[found.end() :]).encode(errors="surrogateescape")

    return spoil


def _random_bytes(_: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 300))


NO_NUMBERS = ("nan", "NaN", "inf", "-inf", "1e999", "x", "1_0", "0x1", "1,5", "--1", "٣")
ENCODINGS: Mapping[str, Change] = {
    "UTF-8 with a mark": lambda content, _: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda content, _: content.decode().encode("utf-16"),
    "line ends of Windows": _text(lambda text: text.replace("\n", "\r\n")),
    "line ends of old Macs": _text(lambda text: text.replace("\n", "\r")),
    "blank lines": _text(lambda text: text.replace("\n", "\n\n")),
}
YOLO: dict[str, Kind] = {
    **{name: (".txt", "same", change) for name, change in ENCODINGS.items()},
    "tabs": (".txt", "same", _text(lambda text: text.replace(" ", "\t"))),
    "more blanks": (".txt", "same", _text(lambda text: "  " + text.replace(" ", "   ").replace("\n", " \n"))),
    "zeros behind": (".txt", "read", _text(lambda text: re.sub(r"(\.\d+)", r"\g<1>0", text))),
    "a class with a point": (".txt", "same", _text(lambda text: re.sub(r"(?m)^(\d) ", r"\1.0 ", text))),
    "empty": (".txt", "read", lambda *_: b""),
    "no number": (".txt", "refused", _put(1, *NO_NUMBERS)),
    "far outside": (".txt", "refused", _put(1, "1.5", "-0.5", "640", "1e6", "-1e300", "100")),
    "a class that is none": (".txt", "refused", _put(0, "3", "99", "-1", "1.5", "9" * 30, "9" * 5000, "cat", "nan")),
    "a column less": (".txt", "refused", _in_a_line(lambda columns, rng: columns.remove(columns[rng.randrange(5)]))),
    "a column more": (".txt", "refused", _in_a_line(lambda columns, _: columns.append("0.9"))),
    "a thousand columns": (".txt", "either", _in_a_line(lambda columns, rng: columns.extend(["0.5"] * rng.choice((1000, 999))))),
    "no size": (".txt", "either", _put(3, "0", "-0.1", "1e-320")),
    "commas": (".txt", "refused", _text(lambda text: text.replace(" ", ","))),
    "decimal commas": (".txt", "refused", _text(lambda text: text.replace(".", ","))),
    "Latin-1": (".txt", "refused", lambda content, _: "ä ".encode("latin-1") + content),
    "zero bytes": (".txt", "refused", lambda content, _: content.replace(b" ", b"\0", 1)),
    "random bytes": (".txt", "refused", _random_bytes),
    "cut off": (".txt", "either", lambda content, rng: content[: rng.randrange(len(content))]),
    "names that are none": (".yaml", "refused", _instead(r"\[.*\]", "7", "[]", "{}", "[[a]]", "[cat, {a: b}]", "{x: cat}", "cat")),
    "a bomb of anchors": (".yaml", "refused", _text(lambda text: "a: &a [x,x]\n" + "".join(f"b{n}: &b{n} [*{'a' if n == 0 else f'b{n - 1}'},*{'a' if n == 0 else f'b{n - 1}'}]\n" for n in range(40)) + text.replace("['cat', 'dog', 'owl']", "*b39"))),
    "code": (".yaml", "either", _instead(r"'cat'", "!!python/object/apply:os.system ['false']", "!!int 'x'")),
    "paths upwards": (".yaml", "either", _instead(r"\.\./train/images", "../../../etc", "/etc", "..", "../" * 500, "%00", "C:\\train\\images", "http://host/train/images", "~")),
    "another count": (".yaml", "either", _instead(r"nc: 3", "nc: 4", "nc: -1", "nc: x", "nc: " + "9" * 5000, "nc: [3]")),
    "no YAML": (".yaml", "refused", _instead(r"names", "{", "[", "'", "\t- x: [", "&", "*", "%", "@")),
    "YAML in Latin-1": (".yaml", "refused", lambda content, _: content.replace(b"cat", b"k\xe4tze")),
    "YAML in UTF-16": (".yaml", "same", lambda content, _: content.decode().encode("utf-16")),
    "YAML with a mark": (".yaml", "same", lambda content, _: b"\xef\xbb\xbf" + content),
}  # fmt: skip
BOMB = "<!DOCTYPE a [<!ENTITY b 'x'>" + "".join(f"<!ENTITY b{n} '&b{n - 1 if n else ''};&b{n - 1 if n else ''};'>" for n in range(30)) + "]>"  # fmt: skip
_NUMBER_IN = r"(?<=<[xy]m[a-z]{2}>)[^<]+"
VOC: dict[str, Kind] = {
    **{name: (".xml", "same", change) for name, change in ENCODINGS.items()},
    "a declaration": (".xml", "same", lambda content, _: b'<?xml version="1.0" encoding="utf-8"?>\n' + content),
    "UTF-16, declared": (".xml", "same", lambda content, _: ("<?xml version='1.0' encoding='utf-16'?>" + content.decode()).encode("utf-16")),
    "Latin-1, declared": (".xml", "read", lambda content, _: b"<?xml version='1.0' encoding='iso-8859-1'?>" + content.replace(b"cat", b"k\xe4tze").replace(b"dog", b"k\xe4tze")),
    "Latin-1": (".xml", "either", lambda content, _: content.replace(b"<object>", b"<object>\xe4")),
    "numbers with points": (".xml", "same", _text(lambda text: re.sub(r"(<[xy]m[a-z]{2}>\d+)", r"\1.0", text))),
    "blanks around numbers": (".xml", "same", _text(lambda text: re.sub(r"(<[xy]m[a-z]{2}>)(\d+)", r"\1 \n\2 ", text))),
    "comments": (".xml", "same", _text(lambda text: text.replace("<object>", "<!-- > --><object>"))),
    "no number": (".xml", "refused", _instead(_NUMBER_IN, *NO_NUMBERS, "", "<b/>")),
    "far outside": (".xml", "either", _instead(_NUMBER_IN, "-5", "0", "1e9", "-1e300", "9" * 400, "1e-320")),
    "no corner": (".xml", "refused", _instead(r"<[xy]m[a-z]{2}>[^<]+</[xy]m[a-z]{2}>", "", "<x>1</x>")),
    "no box": (".xml", "either", _instead(r"<bndbox>.*?</bndbox>", "", "<polygon/>")),
    "an empty box": (".xml", "refused", _instead(r"<bndbox>.*?</bndbox>", "<bndbox/>", "<bndbox>1 2 3 4</bndbox>")),
    "no class": (".xml", "refused", _instead(r"<name>[^<]*</name>", "", "<name/>", "<name> </name>")),
    "a hostile class": (".xml", "either", _instead(r"(?<=<name>)[^<]*", "../../x", "&lt;b&gt;", "\u202e", "x" * 10**5, "&#27;[31m".replace("&#27;", "\u009b"))),
    "an odd difficult": (".xml", "refused", _instead(r"(?<=<difficult>)0", "2", "-1", "yes", "0.5", "nan")),
    "no filename": (".xml", "same", _instead(r"<filename>.*</filename>", "", "<filename/>")),
    "a filename upwards": (".xml", "same", _instead(r"(?<=<filename>)", "../../etc/", "/home/me/", "C:\\x\\")),
    "another filename": (".xml", "either", _instead(r"(?<=<filename>)[^<]*", "../../../etc/passwd", "..", ".", "/", "b.png", "x" * 9999)),
    "no size": (".xml", "same", _instead(r"<size>.*</size>", "", "<size/>", "<size><width>0</width><height>0</height></size>")),
    "an odd size": (".xml", "either", _instead(r"(?<=<width>)[^<]*", "-5", "nan", "1e999", "24.5", "9" * 50, "7", "20")),
    "cut off": (".xml", "refused", lambda content, rng: content[: rng.randrange(len(content) - 2)]),
    "a tag that ends nowhere": (".xml", "refused", _instead(r"</\w+>", "", "</x>", "<")),
    "a bomb of entities": (".xml", "refused", _text(lambda text: BOMB + text.replace("cat", "&b29;"))),
    "a file as entity": (".xml", "refused", _text(lambda text: '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]>' + text)),
    "an unknown entity": (".xml", "refused", _instead(r"(?<=<filename>)", "&nbsp;", "&b;", "&#0;", "&")),
    "deep": (".xml", "either", lambda content, rng: content.replace(b"</annotation>", b"<a>" * 5_000 + (b"</a>" * 5_000 if rng.random() < 0.5 else b"") + b"</annotation>")),
    "another document": (".xml", "refused", lambda *_: b"<html><body>not found</body></html>"),
    "empty": (".xml", "refused", lambda *_: b""),
    "random bytes": (".xml", "refused", _random_bytes),
    "zero bytes": (".xml", "refused", lambda content, _: content.replace(b">", b">\0", 1)),
    "names in lists": (".txt", "refused", _instead(r"(?m)^\w+$", "../Annotations/a", "/etc/passwd", "nothing", "\0", "x" * 9999)),
}  # fmt: skip
KINDS = {
    **{f"YOLO, {name}": (write_yolo_as_roboflow_does, "yolo", kind) for name, kind in YOLO.items()},
    **{f"VOC, {name}": (write_voc, "voc", kind) for name, kind in VOC.items()},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Each format's training images alone, and what is in them."""
    made: dict[str, tuple[Path, str]] = {}
    for format_, write in (("yolo", write_yolo_as_roboflow_does), ("voc", write_voc)):
        root = tmp_path_factory.mktemp(format_)
        write(root)
        for path in [path for path in root.rglob("*.*") if path.stem in ("d", "e", "f", "val", "test")]:
            path.unlink()
        loaded = check_folder(root, format_)
        assert loaded is not None
        made[format_] = root, _content(loaded)
    return made


def _content(loaded: Mapping[Role, CocoDataset]) -> str:
    def rows(dataset: CocoDataset) -> list[object]:
        return [(image.path.name, image.boxes.tolist(), image.labels.tolist()) for image in dataset.images]

    return repr([(role, dataset.category_names, rows(dataset)) for role, dataset in loaded.items()])


def test_there_are_a_thousand() -> None:
    assert len(KINDS) * SEEDS >= 1_000


@pytest.mark.parametrize("name", KINDS)
def test_a_spoiled_file_is_refused_or_read_correctly(name: str, folders: dict[str, tuple[Path, str]]) -> None:
    _, format_, (suffix, outcome, change) = KINDS[name]
    root, content = folders[format_]
    files = [path for path in sorted(root.rglob(f"*{suffix}")) if path.read_bytes().strip()]
    for seed in range(SEEDS):
        rng = random.Random(f"{name} {seed}")
        changes = [path for path in files if suffix != ".xml" or b"<object>" in path.read_bytes()]
        path = rng.choice(changes)
        before = path.read_bytes()
        path.write_bytes(change(before, rng))
        try:
            loaded = check_folder(root, format_)
            assert outcome == "either" or (loaded is None) == (outcome == "refused"), (seed, path.read_bytes()[:200])
            if outcome == "same":
                assert loaded is not None
                assert _content(loaded) == content
        finally:
            path.write_bytes(before)


@pytest.mark.parametrize(("write", "name"), [(write_yolo_as_roboflow_does, "a.txt"), (write_voc, "a.xml")])
@pytest.mark.parametrize("place", ["a folder", "a link to itself"])
def test_what_stands_in_the_place_of_a_file_is_refused(
    write: Callable[[Path], None], name: str, place: str, tmp_path: Path
) -> None:
    write(tmp_path)
    file = next(tmp_path.rglob(name))
    file.unlink()
    if place == "a folder":
        file.mkdir()
    else:
        file.symlink_to(file)
    with pytest.raises(SmnasError):
        load_datasets(tmp_path, DataSettings())
