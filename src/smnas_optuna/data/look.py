"""What an image looks like, in 128 bits, and which images of two sets look alike.

A difference hash (Krawetz 2013, "Kind of Like That"), of rows and of columns: each bit says whether a part of the image
is brighter than the part before it. It hardly changes when an image is encoded, resized or lit differently, and differs
by about 50 bits between images of different scenes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LOOK_BITS = 128
_PARTS = 8
_EDGE = _PARTS * (_PARTS + 1)  # pixels of the small image: divisible by the number of parts, and by one more

ALIKE = 8
"""Bits in which images differ at most that look alike: a pair of photographs through one microscope, refocused, differs
in 8, and the nearest photographs of different scenes in 36 (bccd, COCO val2017)."""
_FEWEST_BITS = 16  # set in either of two looks; an image with fewer is nearly plain
_BITS_FOR_EACH = (
    8  # set in either of two looks, for each bit that differs: drawings with much plain white differ in few
)
_BLOCKS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
"""(first bit, bits) of the blocks of a half: if two looks differ in at most 8 bits, a half differs in at most 4, and so
one of its 5 blocks is equal."""
_MOST_PAIRS = 2**22  # compared at a time
_MOST_COMPARED = 500
"""Looks of one block that a look is compared with: images of one fixed camera share blocks by the thousand."""

Halves = NDArray[np.uint64]
"""Looks, uint64 [N, 2]."""


def look_of(pixels: NDArray[np.uint8]) -> int:
    """Return the look of an RGB image, uint8 [height, width, 3]: a number of ``LOOK_BITS`` bits.

    It is 0 for an image of one colour, and for no other.
    """
    grey = Image.fromarray(pixels).convert("L").resize((_EDGE, _EDGE), Image.Resampling.BOX)
    small = np.asarray(grey, np.int64)
    rows = small.reshape(_PARTS, _PARTS + 1, _PARTS + 1, _PARTS).sum((1, 3))
    columns = small.reshape(_PARTS + 1, _PARTS, _PARTS, _PARTS + 1).sum((1, 3))
    bits = np.concatenate([(np.diff(rows, axis=1) > 0).ravel(), (np.diff(columns, axis=0) > 0).ravel()])
    look = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return look if look or (pixels == pixels[0, 0]).all() else 1


def num_different(first: int, second: int) -> int:
    """Return the number of bits in which two looks differ."""
    return (first ^ second).bit_count()


def find_alike(looks: Sequence[int], among: Sequence[int]) -> dict[int, int]:
    """Return, for each position in ``looks`` that looks like an image of ``among``, the position of the nearest there.

    It is the nearest of those that are compared: all that share a block of bits, or 500 of them if there are more.
    Takes time in proportion to both numbers of images.
    """
    some, others = _halves(looks), _halves(among)
    nothing = np.iinfo(np.int64).max
    best = np.full(len(some), nothing)  # (bits that differ) * (number of others) + (position there)
    for first, second in _candidates(some, others):
        different = _count(some[first] ^ others[second])
        informed = _count(some[first] | others[second])
        alike = informed >= np.maximum(_BITS_FOR_EACH * different, _FEWEST_BITS)
        np.minimum.at(best, first[alike], different[alike] * len(others) + second[alike])
    return {int(position): int(best[position]) % len(others) for position in np.flatnonzero(best < nothing)}


def _halves(looks: Sequence[int]) -> Halves:
    data = b"".join(look.to_bytes(LOOK_BITS // 8, "big") for look in looks)
    return np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, 2)


def _candidates(some: Halves, others: Halves) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield positions in ``some`` and in ``others``, pair by pair, of looks that differ in ``ALIKE`` bits at most.

    Of a look and more than ``_MOST_COMPARED`` others that share a block, only so many are compared.
    """
    distinct, back = np.unique(some, axis=0, return_inverse=True)
    rows_of = np.argsort(back.ravel(), kind="stable")
    starts = np.searchsorted(back.ravel()[rows_of], np.arange(len(distinct) + 1))
    unique, first_of = np.unique(others, axis=0, return_index=True)
    for half in range(2):
        for first_bit, bits in _BLOCKS:
            keys, other_keys = (
                (each[:, half] >> np.uint64(first_bit)) & np.uint64(2**bits - 1) for each in (distinct, unique)
            )
            order = np.argsort(other_keys, kind="stable")
            low = np.searchsorted(other_keys[order], keys, "left")
            count = np.minimum(np.searchsorted(other_keys[order], keys, "right") - low, _MOST_COMPARED)
            for begin, end in _parts(count):
                which = np.repeat(np.arange(begin, end), count[begin:end])
                offset = _counted(count[begin:end])
                matched = order[np.repeat(low[begin:end], count[begin:end]) + offset]
                near = _count(distinct[which] ^ unique[matched]) <= ALIKE
                which, matched = which[near], matched[near]
                times = np.diff(starts)[which]
                copies = np.repeat(starts[which], times) + _counted(times)
                yield rows_of[copies], np.repeat(first_of[matched], times)


def _counted(times: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return 0, 1, .. ``times[0]`` - 1, 0, 1, .. ``times[1]`` - 1, and so on."""
    return np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)


def _parts(count: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows that have about ``_MOST_PAIRS`` pairs together."""
    part = np.cumsum(count) // _MOST_PAIRS
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(count)]
    yield from ((begin, end) for begin, end in pairwise(edges) if begin < end)


def _count(halves: Halves) -> NDArray[np.int64]:
    """Return the number of bits that are set in each row of uint64 [N, 2]."""
    return np.asarray(_SET[np.ascontiguousarray(halves).view(np.uint16)].sum(1), np.int64)


_SET = np.array([number.bit_count() for number in range(2**16)], np.int64)
