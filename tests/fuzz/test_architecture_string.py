"""Spoiled architecture strings: each is read, and then written the same, or is refused in one message."""

from __future__ import annotations

import random

import pytest

from smnas_optuna.arch import BASELINES, decode, encode, find_spec
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.errors import ArchError

from ..data.hostile import time_limit
from .properties import refusal

VALID = tuple(encode(spec) for spec in BASELINES.values())
LETTERS = "0123456789.-_xwpcabcdefnrt /\\\n\0\x1b٣é\u202e\ud800"
PARTS = tuple(sorted({part for arch in VALID for part in arch.split(".")}))
LONGEST = 1_000_000
"""Characters of the longest one."""


def spoiled(rng: random.Random) -> str:
    """A valid string after one to four mutations."""
    arch = rng.choice(VALID)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, end = sorted(rng.choices(range(len(arch) + 1), k=2))
        match rng.randrange(7):
            case 0:
                arch = arch[:place] + "".join(rng.choices(LETTERS, k=rng.choice((1, 1, 9)))) + arch[place:]
            case 1:
                arch = arch[:place] + arch[end:]
            case 2:
                times = rng.choice((1, 2, min(20_000, LONGEST // max(1, end - place))))
                arch = (arch[:end] + arch[place:end] * times + arch[end:])[:LONGEST]
            case 3:
                parts = arch.split(".")
                parts[rng.randrange(len(parts))] = rng.choice(PARTS)
                arch = ".".join(parts)
            case 4:
                arch = ".".join(rng.sample(arch.split("."), k=len(arch.split("."))))
            case 5:
                digits = [i for i, letter in enumerate(arch) if letter.isdigit()] or [0]
                spot = rng.choice(digits)
                arch = arch[:spot] + rng.choice(("0", "00", "99999", "-1", "9" * 5000, "²")) + arch[spot + 1 :]
            case _:
                arch = arch.upper() if rng.random() < 0.2 else arch[:place]
    return arch


def _try(arch: str) -> bool:
    """Return whether ``arch`` is refused."""
    try:
        spec = decode(arch)
    except ArchError as error:
        refusal(error, "architecture")
        with pytest.raises(ArchError) as caught:
            find_spec(arch)
        refusal(caught.value, "architecture")
        return True
    assert encode(spec) == arch
    assert arch.isascii()
    assert len(arch) < 200
    return False


@pytest.mark.parametrize(
    ("begin", "count"),
    [(0, 1000), *(pytest.param(n, 10_000, marks=pytest.mark.nightly) for n in range(1000, 101_000, 10_000))],
)
def test_spoiled_strings_are_read_or_refused(begin: int, count: int) -> None:
    refused = refused_sizes = 0
    for seed in range(begin, begin + count):
        arch = spoiled(random.Random(seed))
        try:
            with time_limit(5):
                refused += _try(arch)
                refused_sizes += _refuses_size(arch.partition(".")[0])
        except BaseException as error:
            error.add_note(f"seed {seed}: {arch[:300]!r}")
            raise

    assert 0.7 * count < refused < 0.99 * count
    assert 0.3 * count < refused_sizes < 0.7 * count


def _refuses_size(text: str) -> bool:
    try:
        size = parse_input_size(text)
    except ArchError as error:
        refusal(error, "input size")
        return True
    assert str(parse_input_size(str(size))) == str(size)
    return False
