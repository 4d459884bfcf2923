"""Images that belong together: frames of one video, images of one scene, copies of one image.

File names tell them. ``video1_0001.png`` and ``video1_0002.png`` are of one group, and so are ``seq7/0001.png`` and
``seq7/0002.png``. A name with a word such as ``frame`` or ``video`` is enough. Without one, ``cam3_0001.png`` may as
well be a photograph of its own: then the images must look like videos too, with neighbours that are nearly the same.
Roboflow's copies of an image, ``cat_jpg.rf.<hash>.jpg``, are always of one group, and so are those that a word tells
after a number, ``cat_7_flipped.jpg`` and ``cat_7_aug_2.jpg``. Another word after the number of a frame is no part of
its group: ``video1_frame_12_left.png``.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path, PurePath

from smnas_optuna.data.look import num_different
from smnas_optuna.data.other_names import are_uploads, without_prefix

_COPY = re.compile(r"(.+?)(?:[_.](?:jpe?g|png|bmp|webp|tiff?))?\.rf\.[0-9A-Za-z]{16,}", re.IGNORECASE | re.DOTALL)
_VARIANT = re.compile(
    r"(.*[0-9])[-_. ]+(?:aug(?:mented)?|blur(?:red)?|bright|copy|crop(?:ped)?|dark|flip(?:ped)?|mirror(?:ed)?|noise|"
    r"noisy|patch|resized?|rot(?:ated)?|scaled|tile|[hv]flip)[-_]?[0-9]{0,6}",
    re.IGNORECASE | re.DOTALL,
)
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)
_VIDEO_LAST = re.compile(
    r"(.*?(?<![a-z])(?:frames?|shots?)[-_. ]*)([0-9]{1,18})"
    r"([-_. ]+(?:video|vid|clip|seq|sequence|scene)[-_. ]*[0-9a-z]+)"
    r"|(.*?)([0-9]{1,18})([-_. ]+(?:video|vid|clip|seq|sequence|scene)[0-9]+)",
    re.IGNORECASE | re.DOTALL,
)
"""A frame of a video that is named behind it: ``frame_0001_video_a``, ``0001_video1``."""
_WORDS = re.compile(
    r"(?<![a-z])(frames?|videos?|vid|clips?|seq|sequences?|scenes?|shots?|mp4|avi|mov|mkv|webm)(?![a-z])",
    re.IGNORECASE,
)

MOSTLY = 0.5
"""Share of the images that must be of groups, of neighbours that must look alike, and of images with a word."""
FEWEST = 3
"""Images of a group without a word."""
NEIGHBOURS = 24
"""Bits in which the looks of neighbouring frames differ at most; images of different scenes differ in 36 or more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Name:
    """What the name of an image tells.

    Attributes:
        source: Folder and name without what tells copies apart.
        group: Folder and name without the number of a frame.
        order: Sorts the images of a group.
        copied: Whether it has the name of a copy.
    """

    source: str
    group: str
    order: tuple[int, str]
    copied: bool


def groups_by_name(paths: Sequence[Path], looks: Mapping[Path, int | None]) -> dict[Path, str] | None:
    """Return the group of each image, shown as in ``video1_*``; None if names do not tell of any.

    Args:
        paths: Image files.
        looks: What they look like, see :mod:`smnas_optuna.data.look`; needed where :func:`needs_looks` says so.
    """
    names = _names(paths)
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, name in names.items():
        groups[name.group].append(path)
    if len(groups) > 1 and (_have_words(groups) or (_are_numbered(groups) and _look_like_videos(groups, names, looks))):
        return {path: name.group for path, name in names.items()}
    images = Counter(name.source for name in names.values())
    if len(images) > 1 and any(images[name.source] > 1 for name in names.values() if name.copied):
        return {path: name.source for path, name in names.items()}
    return None


def needs_looks(paths: Sequence[Path]) -> bool:
    """Return whether looks decide on the groups of ``paths``."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, name in _names(paths).items():
        groups[name.group].append(path)
    return _are_numbered(groups) and not _have_words(groups)


def choose_groups(group_of: Mapping[Path, str], digests: Mapping[Path, str], fraction: float) -> set[Path] | None:
    """Return the images of the groups that are for validation, about ``fraction`` of all.

    Groups that share the pixels of an image are one. They are chosen in the order of a hash of their images' content,
    so that neither names nor places decide.

    Returns:
        None if there is one group alone. Otherwise at least one group, and never all.
    """
    members = _joined(group_of, digests)
    if len(members) < 2:
        return None
    ordered = sorted(members, key=lambda some: _hash(some, digests))
    wanted, chosen = fraction * len(group_of), list[list[Path]]()
    count = 0
    for some in ordered:
        if len(chosen) < len(ordered) - 1 and abs(count + len(some) - wanted) < abs(count - wanted):
            chosen.append(some)
            count += len(some)
    if not chosen:
        chosen = [min(ordered, key=len)]
    return {path for some in chosen for path in some}


def _names(paths: Sequence[Path]) -> dict[Path, _Name]:
    base = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    uploaded = are_uploads([path.name for path in paths])
    parts = {path: _parts(path.relative_to(base), uploaded=uploaded) for path in paths}
    endings: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in parts.values():
        endings[each.folder, each.before].add(each.after)
    return {path: _name(each, one_ending=len(endings[each.folder, each.before]) == 1) for path, each in parts.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """A name in parts: ``seq7/video1_0001_left.png`` is ``seq7/``, ``video1_``, ``0001`` and ``_left``.

    ``video_last`` if the video is named behind the number.
    """

    folder: str
    stem: str
    before: str
    number: str
    after: str
    copied: bool
    video_last: bool


def _parts(path: PurePath, *, uploaded: bool) -> _Parts:
    copy = _COPY.fullmatch(path.stem)
    stem = path.stem if copy is None else copy[1]
    stem = without_prefix(stem) if uploaded else stem
    varied = False
    while (variant := _VARIANT.fullmatch(stem)) is not None:
        stem, varied = variant[1], True
    folder = "" if str(path.parent) == "." else f"{path.parent.as_posix()}/"
    video_last = _VIDEO_LAST.fullmatch(stem)
    numbered = video_last or _NUMBERED.fullmatch(stem)
    parts = (stem, "", "") if numbered is None else numbered.groups()
    before, number, after = (each for each in parts if each is not None)  # the other form of a name has none
    return _Parts(
        folder=folder,
        stem=stem,
        before=before,
        number=number,
        after=after,
        copied=varied or copy is not None,
        video_last=video_last is not None,
    )


def _name(parts: _Parts, *, one_ending: bool) -> _Name:
    """Return what ``parts`` tell; ``one_ending`` if all names that begin alike end alike behind the number."""
    before, number, after, stem = parts.before, parts.number, parts.after, parts.stem
    group, order = stem, (0, stem)
    if number and any(sign.isalpha() for sign in after) and not one_ending and not parts.video_last:
        # views of the scene with that number, or of the video with another number before it
        group = f"{before}*" if any(sign.isdigit() for sign in before) else f"{before}{number}*"
        order = (int(number), after)
    elif number:
        group, order = f"{before}*{after}", (int(number), stem)
    return _Name(source=f"{parts.folder}{stem}", group=f"{parts.folder}{group}", order=order, copied=parts.copied)


def _have_words(groups: Mapping[str, Sequence[Path]]) -> bool:
    worded = {name: some for name, some in groups.items() if len(some) > 1 and _WORDS.search(name.replace("_", " "))}
    return len(worded) > 1 and _num_images(worded) >= MOSTLY * _num_images(groups)


def _are_numbered(groups: Mapping[str, Sequence[Path]]) -> bool:
    large = {name: some for name, some in groups.items() if len(some) >= FEWEST}
    return len(large) > 1 and _num_images(large) >= MOSTLY * _num_images(groups)


def _num_images(groups: Mapping[str, Sequence[Path]]) -> int:
    return sum(len(some) for some in groups.values())


def _look_like_videos(
    groups: Mapping[str, Sequence[Path]], names: Mapping[Path, _Name], looks: Mapping[Path, int | None]
) -> bool:
    """Return whether most neighbours in a group look alike, and few images of different groups do."""
    large = [sorted(some, key=lambda path: names[path].order) for some in groups.values() if len(some) >= FEWEST]
    within = [(one, other) for some in large for one, other in pairwise(some)]
    middles = [some[len(some) // 2] for some in sorted(large, key=lambda some: names[some[0]].group)]
    across = list(pairwise(middles))
    share = _share_alike(within, looks)
    return share >= MOSTLY and _share_alike(across, looks) < MOSTLY * share


def _share_alike(pairs: Sequence[tuple[Path, Path]], looks: Mapping[Path, int | None]) -> float:
    alike = 0
    for first, second in pairs:
        one, other = looks.get(first), looks.get(second)
        alike += one is not None and other is not None and num_different(one, other) <= NEIGHBOURS
    return alike / len(pairs)


def _joined(group_of: Mapping[Path, str], digests: Mapping[Path, str]) -> list[list[Path]]:
    """Return the images of each group; groups that share an image's pixels are joined."""
    root: dict[str, str] = {name: name for name in group_of.values()}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    first: dict[str, str] = {}
    for path, name in group_of.items():
        root[find(name)] = find(first.setdefault(digests[path], name))
    members: dict[str, list[Path]] = defaultdict(list)
    for path, name in group_of.items():
        members[find(name)].append(path)
    return list(members.values())


def _hash(some: Sequence[Path], digests: Mapping[Path, str]) -> str:
    return blake2b("".join(sorted({digests[path] for path in some})).encode(), digest_size=16).hexdigest()
