"""Looks: equal for the same picture in another form, far apart for others; pairs are found as by comparing all."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from smnas_optuna.data import look as looking
from smnas_optuna.data.look import ALIKE, LOOK_BITS, find_alike, look_of, num_different


def _scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Smooth noise with some boxes, as coarse as a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    for _ in range(6):
        x, y, w, h = (int(number) for number in rng.integers((0, 0, 20, 20), (250, 180, 70, 60)))
        coarse.paste(tuple(int(number) for number in rng.integers(0, 256, 3)), (x, y, x + w, y + h))
    return coarse


def _look(image: Image.Image) -> int:
    return look_of(np.asarray(image))


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


SAME = {
    "encoded": _jpeg,
    "resized": lambda image: image.resize((200, 150), Image.Resampling.BILINEAR),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "an object more": lambda image: (image.paste((255, 0, 0), (150, 100, 166, 116)), image)[1],
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
@pytest.mark.parametrize("seed", range(5))
def test_a_picture_in_another_form_looks_alike(change: object, seed: int) -> None:
    assert num_different(_look(_scene(seed)), _look(change(_scene(seed)))) <= ALIKE  # type: ignore[operator]


def test_other_scenes_look_different() -> None:
    looks = [_look(_scene(seed)) for seed in range(100, 200)]
    nearest = min(num_different(one, other) for one in looks for other in looks if one is not other)
    assert nearest > 3 * ALIKE


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (3000, 2), (72, 72), (5, 7)])
def test_an_image_of_any_size_has_a_look(shape: tuple[int, int]) -> None:
    noise: NDArray[np.uint8] = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    assert 0 <= look_of(noise) < 2**LOOK_BITS
    assert look_of(np.full((*shape, 3), 255, np.uint8)) == 0


def test_only_one_colour_has_the_look_0() -> None:
    falling = np.repeat(np.arange(255, 0, -1, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert look_of(np.repeat(falling, 9, axis=0)) == 1
    assert look_of(np.full((9, 9, 3), (200, 0, 0), np.uint8)) == 0


def _flipped(look: int, bits: int, rng: random.Random) -> int:
    for bit in rng.sample(range(LOOK_BITS), bits):
        look ^= 1 << bit
    return look


@pytest.mark.parametrize("seed", range(5))
def test_alike_ones_are_those_of_comparing_all(seed: int) -> None:
    rng = random.Random(seed)
    among = [rng.getrandbits(LOOK_BITS) | rng.getrandbits(LOOK_BITS) for _ in range(200)]  # with many bits
    among += [_flipped(rng.choice(among), rng.randrange(6), rng) for _ in range(100)]
    looks = [_flipped(rng.choice(among), rng.randrange(14), rng) for _ in range(150)]

    found = find_alike(looks, among)

    for position, look in enumerate(looks):
        distances = [num_different(look, other) for other in among]
        nearest = min(distances)
        assert found.get(position) == (distances.index(nearest) if nearest <= ALIKE else None)


def test_plain_images_and_drawings_on_white_are_not_alike() -> None:
    assert find_alike([0, 0b111], [0, 0b111]) == {}
    few = sum(1 << bit for bit in range(0, 120, 5))  # 24 bits
    assert find_alike([few], [few]) == {0: 0}
    assert find_alike([few], [few ^ 0b111 ^ 1]) == {0: 0}
    assert find_alike([few], [few ^ 0b11111110]) == {}  # 6 bits of 30, which would be alike among 64


def test_no_images_are_like_none() -> None:
    assert find_alike([], []) == find_alike([2**100 - 1], []) == find_alike([], [2**100 - 1]) == {}


def test_many_images_are_compared_in_seconds() -> None:
    rng = random.Random(3)
    among = [rng.getrandbits(LOOK_BITS) | rng.getrandbits(LOOK_BITS) for _ in range(30_000)]
    looks = [_flipped(look, 8, rng) for look in among[:1000]]
    assert find_alike(looks, among) == {position: position for position in range(1000)}


def test_images_of_a_fixed_camera_are_compared_with_some_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, count = list[int](), looking._count

    def counted(halves: looking.Halves) -> NDArray[np.int64]:
        compared.append(len(halves))
        return count(halves)

    monkeypatch.setattr(looking, "_count", counted)
    rng = random.Random(4)
    view = rng.getrandbits(LOOK_BITS)
    looks, among = ([_flipped(view, 2, rng) for _ in range(number)] for number in (50, 4000))

    assert len(find_alike(looks, among)) == 50
    assert sum(compared) <= 3 * 50 * 10 * 500  # each pair of a block is counted up to three times
