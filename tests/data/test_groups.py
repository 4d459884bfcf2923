"""Groups by file names: recognised where names or names and looks tell, and never in two splits."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data import Splits, load_splits
from smnas_optuna.data.groups import choose_groups, groups_by_name, needs_looks
from smnas_optuna.data.splits import read_splits
from smnas_optuna.errors import DataError

ROOT = Path("/data/images")


def _numbered(*prefixes: str, count: int = 4, suffix: str = ".png") -> list[str]:
    return [f"{prefix}{number:04d}{suffix}" for prefix in prefixes for number in range(1, count + 1)]


def _groups(names: Sequence[str], looks: Mapping[str, int] | None = None) -> list[set[str]] | None:
    group_of = groups_by_name(
        [ROOT / name for name in names], {ROOT / key: look for key, look in (looks or {}).items()}
    )
    if group_of is None:
        return None
    members: dict[str, set[str]] = {}
    for path, group in group_of.items():
        members.setdefault(group, set()).add(path.relative_to(ROOT).as_posix())
    return sorted(members.values(), key=min)


TOLD = {
    "frames of videos": _numbered("cats_frame_", "dogs_frame_"),
    "videos": _numbered("video1_", "video2_"),
    "videos with a dash": _numbered("Video-1-", "Video-2-"),
    "scenes": _numbered("scene_a_", "scene_b_"),
    "folders of sequences": _numbered("seq1/", "seq2/"),
    "folders of clips": _numbered("clips/1/", "clips/2/", "rest/a"),
    "uploads": [f"{0xA0000000 + seed:08x}-{name}" for seed, name in enumerate(_numbered("video1_", "video2_"))],
    "dates before videos": _numbered("20230105-clip_", "20230106-clip_"),
    "videos with line breaks": _numbered("video\n1_", "video\n2_"),
    "a word after the number": [f"video{v}_frame_{n}_cropped.jpg" for v in (0, 1) for n in (9, 10, 11, 12)],
    "any word after the number": [f"clip{v}-{n}-night.jpg" for v in (0, 1) for n in (9, 10, 11, 12)],
    "views of frames": [
        f"video{v}_frame_{n}_{side}.png" for v in (0, 1) for n in (9, 10) for side in ("left", "right")
    ],
    "copies of frames": [f"video{v}_frame_{n}_aug_{copy}.png" for v in (0, 1) for n in (9, 10) for copy in (1, 2)],
    "frames before their videos": [f"frame_{n:04d}_video{v}.png" for v in (0, 1) for n in (9, 10, 11, 12)],
    "numbers before their videos": [f"{n:04d}_video{v}.png" for v in (0, 1) for n in (9, 10, 11, 12)],
    "frames before videos with letters": [f"frame{n}-video_{v}.png" for v in "ab" for n in (9, 10, 11, 12)],
    "Roboflow's frames": [f"walk_mp4-{n}_jpg.rf.{n:032x}.jpg" for n in range(4)]
    + [f"run_mp4-{n}_jpg.rf.{n + 9:032x}.jpg" for n in range(4)],
}


@pytest.mark.parametrize("names", TOLD.values(), ids=TOLD)
def test_names_with_a_word_tell_groups(names: Sequence[str]) -> None:
    found = _groups(names)
    assert found is not None
    assert [len(group) for group in found] == [4] * (len(names) // 4)
    assert not needs_looks([ROOT / name for name in names])


def test_views_of_a_scene_are_a_group() -> None:
    names = [f"scene{number}_{view}.png" for number in range(3) for view in ("left", "right")]
    assert _groups(names) == [{f"scene{number}_left.png", f"scene{number}_right.png"} for number in range(3)]


def test_copies_of_an_image_are_a_group() -> None:
    names = [f"{name}_jpg.rf.{copy:032x}.jpg" for name in ("a", "b", "c") for copy in range(3)]
    assert [len(group) for group in _groups(names) or []] == [3, 3, 3]


def test_copies_that_a_word_tells_are_a_group() -> None:
    names = [
        f"cat_{number}{copy}.png" for number in range(3) for copy in ("", "_flipped", "-crop", "_aug_2", "_rot90_aug_1")
    ]
    assert [len(group) for group in _groups(names) or []] == [5, 5, 5]


@pytest.mark.parametrize("copy", ["_flipped", "_aug_1"])
def test_an_image_and_its_only_copy_are_a_group(copy: str) -> None:
    names = [f"cat_{number}{mark}.png" for number in range(4) for mark in ("", copy)]
    assert [len(group) for group in _groups(names) or []] == [2, 2, 2, 2]


UNTOLD = {
    "frames of one video with a word after": [f"frame_{number}_cropped.png" for number in range(40)],
    "one copy of each, by a word": [f"cat_{number}_cropped.png" for number in range(40)],
    "classes after the numbers of videos": [f"video_{n}_{'cat' if n % 3 else 'dog'}.png" for n in range(40)],
    "names of chess": _numbered("chess_", count=40),
    "numbers of boards": [f"{board}{number:03d}.png" for board in (12100, 20085) for number in range(20)],
    "one prefix": _numbered("img_", count=40),
    "blood cells": _numbered("BloodImage_", count=40),
    "frames of one video": _numbered("frame_", count=40),
    "numbers alone": [f"{number:012d}.jpg" for number in range(40)],
    "names of their own": [f"{name}.png" for name in "abcdefgh"],
    "folders of classes": _numbered("cats/", "dogs/"),
    "prefixes": _numbered("cat_", "dog_"),
    "a word in few": [*_numbered("cat", count=30), "scene_a_1.png", "scene_b_1.png"],
    "a word inside another": _numbered("screenshot_a_", "screenshot_b_"),
    "one copy of each": [f"{name}_jpg.rf.{'0' * 32}.jpg" for name in "abcdef"],
    "huge numbers": [f"{'9' * 200}{name}.png" for name in "abc"],
    "none": [],
}


@pytest.mark.parametrize("names", UNTOLD.values(), ids=UNTOLD)
def test_other_names_tell_none(names: Sequence[str]) -> None:
    assert _groups(names) is None


def _video_looks(names: Sequence[str], *, same_scene: bool = False) -> dict[str, int]:
    """Looks that differ by a few bits between frames, and by half of all between videos."""
    looks: dict[str, int] = {}
    for name in names:
        prefix = re.sub(r"\d+\.png$", "", name)
        rng = random.Random(0 if same_scene else prefix)
        look = rng.getrandbits(128)
        for bit in random.Random(name).sample(range(128), 4):
            look ^= 1 << bit
        looks[name] = look
    return looks


def test_numbered_names_tell_groups_if_neighbours_look_alike() -> None:
    names = _numbered("cam1_", "cam2_", "MVI_7/img")
    assert needs_looks([ROOT / name for name in names])
    assert [len(group) for group in _groups(names, _video_looks(names)) or []] == [4, 4, 4]
    assert _groups(names, {name: random.Random(name).getrandbits(128) for name in names}) is None
    assert _groups(names, _video_looks(names, same_scene=True)) is None


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_chosen_whole_and_by_content(seed: int) -> None:
    rng = random.Random(seed)
    group_of = {
        ROOT / f"v{number}_{frame}": f"v{number}" for number in range(12) for frame in range(rng.randint(1, 20))
    }
    digests = {path: f"{rng.getrandbits(128):032x}" for path in group_of}
    twins = rng.sample(sorted(group_of), 2)
    digests[twins[0]] = digests[twins[1]]

    chosen = choose_groups(group_of, digests, 0.2)

    assert chosen is not None
    assert 0 < len(chosen) < len(group_of)
    for group in set(group_of.values()):
        assert len({path in chosen for path, other in group_of.items() if other == group}) == 1
    assert (twins[0] in chosen) == (twins[1] in chosen)
    moved = {Path("/elsewhere") / path.name: f"other {group}" for path, group in sorted(group_of.items(), reverse=True)}
    assert choose_groups(moved, {Path("/elsewhere") / path.name: each for path, each in digests.items()}, 0.2) == {
        Path("/elsewhere") / path.name for path in chosen
    }


@pytest.mark.parametrize(("fraction", "count"), [(0.2, 20), (0.01, 10), (0.5, 50), (0.99, 90)])
def test_the_share_is_kept_as_nearly_as_groups_allow(fraction: float, count: int) -> None:
    group_of = {ROOT / f"{number}": f"{number % 10}" for number in range(100)}
    digests = {path: f"{random.Random(str(path)).getrandbits(128):032x}" for path in group_of}
    assert len(choose_groups(group_of, digests, fraction) or ()) == count


def test_one_group_is_none() -> None:
    assert choose_groups({ROOT / "a": "a", ROOT / "b": "a"}, {ROOT / "a": "1", ROOT / "b": "2"}, 0.5) is None


def _write(root: Path, names: Sequence[str], *, objects: bool = True) -> None:
    for number, name in enumerate(names):
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    document = {
        "images": [{"id": n, "file_name": name, "width": 8, "height": 8} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 4, 5]}
            for n in range(len(names) if objects else 1)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / "instances_train.json").write_text(json.dumps(document))


def _videos(splits: Splits) -> tuple[set[str], set[str]]:
    train, val = ({image.path.name.split("_")[0] for image in split.images} for split in (splits.train, splits.val))
    return train, val


NAMES = _numbered(*(f"video{number}_" for number in range(6)))


def test_frames_of_one_video_are_never_in_both_splits(tmp_path: Path) -> None:
    _write(tmp_path, NAMES)

    splits = load_splits(tmp_path, DataSettings())

    train, val = _videos(splits)
    assert len(train) == 5
    assert len(val) == 1
    assert not train & val
    note = (
        f"validation images are whole groups by file names: 1 of 6 groups, 4 of 24 images, first '{min(val)}_*'; "
        "groups = false in [data] of study.toml splits image by image"
    )
    assert splits.train.notes == (note,)
    assert splits.val.notes == ()


def test_groups_can_be_turned_off(tmp_path: Path) -> None:
    _write(tmp_path, NAMES)
    splits = load_splits(tmp_path, DataSettings(groups=False))
    train, val = _videos(splits)
    assert train & val
    assert splits.train.notes == ()


def test_a_study_that_began_without_groups_keeps_its_split(tmp_path: Path) -> None:
    _write(tmp_path, NAMES)
    plain = load_splits(tmp_path, DataSettings(groups=False))
    grouped = load_splits(tmp_path, DataSettings())
    assert plain.content_hash != grouped.content_hash

    kept = load_splits(tmp_path, DataSettings(), known_hash=plain.content_hash)
    assert kept.content_hash == plain.content_hash
    assert kept.train.notes == ("groups by file names are split image by image, as they were when the study began",)
    assert load_splits(tmp_path, DataSettings(), known_hash=grouped.content_hash).content_hash == grouped.content_hash
    assert load_splits(tmp_path, DataSettings(), known_hash="0" * 32).content_hash == grouped.content_hash


def test_one_object_cannot_be_in_both_parts(tmp_path: Path) -> None:
    _write(tmp_path, NAMES[:8], objects=False)
    with pytest.raises(DataError, match="have no box"):
        load_splits(tmp_path, DataSettings())


def test_groups_that_copies_join_are_split_with_a_note(tmp_path: Path) -> None:
    _write(tmp_path, NAMES)
    for number in range(5):
        copied = (tmp_path / "images" / NAMES[4 * number]).read_bytes()
        (tmp_path / "images" / NAMES[4 * number + 5]).write_bytes(copied)

    splits = load_splits(tmp_path, DataSettings())
    train, val = _videos(splits)

    assert train & val
    note = "groups by file names are split image by image, as images with the same pixels join all of them"
    assert splits.train.notes[-1] == note


def test_groups_that_would_leave_a_part_without_objects_are_split_with_a_note(tmp_path: Path) -> None:
    _write(tmp_path, NAMES)
    file = tmp_path / "instances_train.json"
    document = json.loads(file.read_text())
    document["annotations"] = document["annotations"][:4]  # all in one video
    file.write_text(json.dumps(document))

    notes = load_splits(tmp_path, DataSettings()).train.notes

    assert "groups by file names are split image by image, as whole groups would leave a part without objects" in notes


def test_looks_of_an_older_index_are_added_where_groups_need_them(tmp_path: Path) -> None:
    names = _numbered("cam1_", "cam2_")
    _write(tmp_path, names)
    for prefix, seed in (("cam1_", 1), ("cam2_", 2)):
        scene = np.random.default_rng(seed).integers(0, 200, (8, 8, 3), np.uint8)
        for number in range(1, 5):
            Image.fromarray(scene + np.uint8(number)).save(tmp_path / "images" / f"{prefix}{number:04d}.png")
    index = tmp_path / "index.json"
    grouped = read_splits(tmp_path, DataSettings(), index_file=index)
    assert "whole groups" in grouped.train.notes[0]
    whole = index.read_text()
    index.write_text(re.sub(r' [0-9a-f]{32}"(,?)$', r'"\1', whole, flags=re.MULTILINE))
    assert index.read_text() != whole

    assert read_splits(tmp_path, DataSettings(), index_file=index).content_hash == grouped.content_hash
    assert index.read_text() == whole
