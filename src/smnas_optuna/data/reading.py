"""How the images of a study are read: one scale for deep grey, and one convention for turned images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from smnas_optuna.data.coco import CocoDataset, ImageRecord
from smnas_optuna.data.content import Content, ContentIndex
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_path

FULL_BITS = 16
QUARTER_TURNS = 5
"""EXIF orientations from this one on turn an image by a quarter; 2, 3 and 4 keep its size."""
DARK = 32
"""Images whose largest value is below this, of 255, are nearly black."""

DEFECT_BITS = 2
"""Bits that 1 value in 10,000 takes and no other does, from which on these values are defects of a sensor."""

_FILL_RANGE = "if their values have fewer bits than the files, write them anew, with values that fill the range"

Contents = Sequence[Content]


def read_images(
    datasets: Mapping[str, CocoDataset], index: ContentIndex, *, grey_bits: int | None = None
) -> tuple[dict[str, CocoDataset], dict[str, Contents], int]:
    """Decode all images, and return the data sets as their images are to be read, with notes, and the contents.

    - More than 8 bits a channel are scaled by the largest value of all images but those of ``test``: sensors write 10,
      12 or 14 bits into files of 16. Single pixels that are far brighter than all others, as those of a defective
      sensor, are left out of account.
    - Images whose stated size does not tell whether EXIF has turned them are turned, unless the same annotation file
      has quarter turns, and states the size before the turn for all of them.

    Args:
        datasets: Data sets by role; ``test`` decides nothing.
        index: Contents that are known already.
        grey_bits: Bits of deep grey, if they are known.

    Returns:
        The data sets, the contents of their images in order, and the bits of deep grey (16 without deep grey).

    Raises:
        DataError: If an image cannot be decoded as stated, or all pixels of all images have one value.
    """
    contents = _read(datasets, index)
    deep = [each for role, some in contents.items() if role != "test" for each in some if each.deep]
    if grey_bits is None:
        grey_bits = _common_bits(deep) if deep else FULL_BITS
    read = {role: _as_read(dataset, contents[role], grey_bits) for role, dataset in datasets.items()}
    if any(read[role] is not datasets[role] for role in datasets):
        contents = _read(read, index)
    _refuse_one_value([dataset for role, dataset in read.items() if role != "test"], contents)
    _refuse_one_colour([dataset for role, dataset in read.items() if role != "test"], contents)
    noted = {
        role: replace(dataset, notes=(*dataset.notes, *_notes(dataset, contents[role], grey_bits)))
        for role, dataset in read.items()
    }
    return noted, contents, grey_bits


def _common_bits(deep: Contents) -> int:
    """Return the bits, 8..16, of the values of images with more than 8 bits a channel."""
    used, needed = (
        max(8, value.bit_length()) for value in (max(each.high for each in deep), max(each.nearly_all for each in deep))
    )
    return needed if used - needed >= DEFECT_BITS else used


def _read(datasets: Mapping[str, CocoDataset], index: ContentIndex) -> dict[str, Contents]:
    contents = iter(index.read([image for dataset in datasets.values() for image in dataset.images]))
    return {role: [next(contents) for _ in dataset.images] for role, dataset in datasets.items()}


def _as_read(dataset: CocoDataset, contents: Contents, grey_bits: int) -> CocoDataset:
    """Return ``dataset`` with its images as they are to be read; itself if that is how they were read."""
    never_turned = _quarter_turns(dataset, contents) == {False}
    images = tuple(
        _image_as_read(image, content, grey_bits, never_turned)
        for image, content in zip(dataset.images, contents, strict=True)
    )
    same = all(image is other for image, other in zip(images, dataset.images, strict=True))
    return dataset if same else replace(dataset, images=images)


def _image_as_read(image: ImageRecord, content: Content, grey_bits: int, never_turned: bool) -> ImageRecord:
    bits = grey_bits if content.deep else FULL_BITS
    turned = not (never_turned and _is_unclear(image, content))
    return image if (bits, turned) == (FULL_BITS, True) else replace(image, grey_bits=bits, turned=turned)


def _is_unclear(image: ImageRecord, content: Content) -> bool:
    """Return whether EXIF says to turn ``image``, and its stated size does not tell whether its boxes are turned."""
    return content.orientation != 1 and (content.orientation < QUARTER_TURNS or image.height == image.width)


def _quarter_turns(dataset: CocoDataset, contents: Contents) -> set[bool]:
    """Return whether images that EXIF turns by a quarter are turned, by their stated size: each answer there is."""
    return {
        content.turned
        for image, content in zip(dataset.images, contents, strict=True)
        if content.orientation != 1 and not _is_unclear(image, content)
    }


def _refuse_one_value(datasets: Sequence[CocoDataset], contents: Mapping[str, Contents]) -> None:
    every = [content for role, some in contents.items() if role != "test" for content in some]
    if every and min(each.low for each in every) == max(each.high for each in every):
        raise DataError(
            f"{datasets[0].source}: all pixels of all {len(every)} images have the value {every[0].low}: there is "
            "nothing to see",
            fix="look at the image files, and write them anew, with values that fill the range of their format",
        )


def _refuse_one_colour(datasets: Sequence[CocoDataset], contents: Mapping[str, Contents]) -> None:
    every = [content for role, some in contents.items() if role != "test" for content in some]
    if every and all(content.one_colour for content in every):
        raise DataError(
            f"{datasets[0].source}: each of all {len(every)} images has one colour alone: there is nothing to see",
            fix="look at the image files, and write them anew, with values that fill the range of their format",
        )


def _notes(dataset: CocoDataset, contents: Contents, grey_bits: int) -> list[str]:
    return [
        *_note_values(contents, grey_bits),
        *_note_range(contents, grey_bits),
        *_note_one_colour(dataset, contents),
        *_note_several(dataset, contents),
        *_note_turns(dataset, contents),
        *_note_copies(dataset, contents),
    ]


def _note_values(contents: Contents, grey_bits: int) -> list[str]:
    deep, total = [content for content in contents if content.deep], len(contents)
    if deep and grey_bits < FULL_BITS:
        above = sum(content.high >= 2**grey_bits for content in deep)
        more = f"; larger values, in {above} images, are white" if above else ""
        what = "have" if any(content.colour for content in deep) else "are grey with"
        return [
            f"{len(deep)} of {total} images {what} more than 8 bits, with values up to "
            f"{max(content.high for content in deep)}: read as {grey_bits} bits, 0..{2**grey_bits - 1}{more}"
        ]
    brightest = max((content.high for content in contents), default=255)
    if not deep and brightest < DARK:
        return [f"the largest value of all {total} images is {brightest} of 255: they are nearly black; {_FILL_RANGE}"]
    return []


def _note_range(contents: Contents, grey_bits: int) -> list[str]:
    """Return a note if the values of all images lie close together, as those of a sensor with an offset do.

    In images with more than 8 bits a few values may be brighter, as those of an overlay.
    """
    if not contents or all(content.one_colour for content in contents):
        return []

    def scaled(content: Content, value: int) -> int:
        return min(value >> (grey_bits - 8 if content.deep else 0), 255)

    low, most, high = (
        min(scaled(content, content.low) for content in contents),
        max(scaled(content, content.most) for content in contents),
        max(scaled(content, content.high) for content in contents),
    )
    if DARK <= high < low + DARK:
        what = f"the values of all {len(contents)} images lie within {low}..{high} of 255"
    elif most < min(low + DARK, high) and all(content.deep for content in contents):
        images = f"all {len(contents)} images"
        what = f"99 of 100 values of {images} lie within {low}..{most} of 255, and the others go up to {high}"
    else:
        return []
    return [f"{what}: hardly anything can be told apart; {_FILL_RANGE}"]


def _note_one_colour(dataset: CocoDataset, contents: Contents) -> list[str]:
    plain = [image for image, content in zip(dataset.images, contents, strict=True) if content.one_colour]
    if not plain:
        return []
    boxes = sum(len(image.boxes) for image in plain)
    which = f"{len(plain)} of {len(contents)} images, first {quote_path(plain[0].path)}, have one colour alone"
    return [f"{which}, and {boxes} boxes: there is nothing to see; were they written whole?"]


def _note_several(dataset: CocoDataset, contents: Contents) -> list[str]:
    several = [image for image, content in zip(dataset.images, contents, strict=True) if content.several]
    if not several:
        return []
    which = f"{len(several)} of {len(contents)} images, first {quote_path(several[0].path)},"
    return [f"{which} have several pages or frames: the first one is read"]


def _note_turns(dataset: CocoDataset, contents: Contents) -> list[str]:
    pairs = zip(dataset.images, contents, strict=True)
    unclear = [(image, content) for image, content in pairs if _is_unclear(image, content)]
    quarters = _quarter_turns(dataset, contents)
    if not unclear or quarters == {True}:
        return []
    image, content = unclear[0]
    which = (
        f"{len(unclear)} of {len(contents)} images, first {quote_path(image.path)} (orientation {content.orientation}),"
    )
    if quarters == {False}:
        return [f"{which} are not turned as EXIF says: the sizes of those with a quarter turn are stated as stored"]
    return [
        f"{which} are turned as EXIF says, and their size does not tell whether their boxes are; if the boxes belong "
        "to the pixels as stored, remove the orientation from the files"
    ]


def _note_copies(dataset: CocoDataset, contents: Contents) -> list[str]:
    first: dict[str, ImageRecord] = {}
    copies = [
        (image, other)
        for image, content in zip(dataset.images, contents, strict=True)
        if (other := first.setdefault(content.digest, image)) is not image
    ]
    if not copies:
        return []
    image, other = copies[0]
    which = f"{quote_path(image.path)} as {quote_path(other.path)}"
    differ = sum(not _same_objects(image, other) for image, other in copies)
    what = f"; {differ} of them have other boxes: what is right in one is false in the other" if differ else ""
    return [f"{len(copies)} of {len(contents)} images hold the same pixels as another (first {which}){what}"]


def _same_objects(image: ImageRecord, other: ImageRecord) -> bool:
    """Return whether two images have the same boxes with the same labels, in any order."""

    def objects(each: ImageRecord) -> list[tuple[object, ...]]:
        return sorted(zip(*each.boxes.T.tolist(), each.labels.tolist(), each.crowd.tolist(), strict=True))

    return objects(image) == objects(other)
