from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smnas_optuna.batch import Batch
from smnas_optuna.data import augment

HEIGHT, WIDTH = 96, 128  # the canvas
SIZE = (80, 120)  # the image on it
MEAN = (124, 116, 104)

Corners = tuple[float, float, float, float]


def _batch(boxes: list[list[Corners]], crowd: tuple[int, ...] = ()) -> Batch:
    """Black images in the upper left of the canvas, every box filled with white; label ``i + 1`` for box ``i``."""
    num_images, max_boxes = len(boxes), max(len(row) for row in boxes) + 2
    images = torch.tensor(MEAN, dtype=torch.uint8)[None, :, None, None].repeat(num_images, 1, HEIGHT, WIDTH)
    images[:, :, : SIZE[0], : SIZE[1]] = 0
    padded = torch.zeros(num_images, max_boxes, 4)
    labels = torch.zeros(num_images, max_boxes, dtype=torch.int64)
    for image, row in enumerate(boxes):
        for number, box in enumerate(row):
            x1, y1, x2, y2 = (round(edge) for edge in box)
            images[image, :, y1:y2, x1:x2] = 255
            padded[image, number] = torch.tensor(box)
            labels[image, number] = number + 1
    is_crowd = torch.zeros(num_images, max_boxes, dtype=torch.bool)
    is_crowd[:, list(crowd)] = True
    return Batch(
        images=images,
        boxes=padded,
        labels=labels,
        crowd=is_crowd & (labels > 0),
        num_boxes=(labels > 0).sum(1),
        image_ids=torch.arange(num_images),
        sizes=torch.tensor([SIZE] * num_images),
        original_sizes=torch.tensor([SIZE] * num_images),
        seeds=torch.arange(num_images),
    )


def _augment(batch: Batch, *, flip: float = 0.0, jitter: tuple[float, float] = (1.0, 1.0), seed: int = 0) -> Batch:
    return augment(batch, flip=flip, scale_jitter=jitter, generator=torch.Generator().manual_seed(seed))


def _extent(mask: torch.Tensor) -> list[int]:
    """(x1, y1, x2, y2) around the true pixels of Tensor[H, W]."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@settings(deadline=None, max_examples=40)
@given(
    x=st.integers(0, 100),
    y=st.integers(0, 60),
    width=st.integers(4, 120),
    height=st.integers(4, 80),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    jitter=st.sampled_from([(1.0, 1.0), (0.5, 0.9), (1.0, 1.2), (1.5, 2.5), (0.4, 2.0)]),
    seed=st.integers(0, 2**31),
)
def test_boxes_go_where_the_pixels_go(
    x: int, y: int, width: int, height: int, flip: float, jitter: tuple[float, float], seed: int
) -> None:
    box = (x, y, min(x + width, SIZE[1]), min(y + height, SIZE[0]))
    before = _batch([[box]] * 4)

    after = _augment(before, flip=flip, jitter=jitter, seed=seed)

    assert (after.images.shape, after.images.dtype) == (before.images.shape, torch.uint8)
    # half a pixel of the canvas for rounding, and half a pixel of the image, which is larger where it is enlarged
    tolerance = 0.51 + 0.5 * max(1.0, jitter[1])
    for image, boxes, count in zip(after.images, after.boxes, after.num_boxes.tolist(), strict=True):
        white = image[0] > 190
        if count:
            torch.testing.assert_close(torch.tensor(_extent(white)).float(), boxes[0], atol=tolerance, rtol=0)
        else:  # at least 70 % are gone, or less than a pixel is left; two pixels more for rounding
            most = 0.3 * (box[2] - box[0] + 2) * (box[3] - box[1] + 2) * jitter[1] ** 2
            assert int(white.sum()) <= max(most, 2 * max(HEIGHT, WIDTH))


@settings(deadline=None, max_examples=20)
@given(
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    jitter=st.sampled_from([(1.0, 1.0), (0.5, 0.9), (1.0, 1.2), (1.5, 2.5)]),
    seed=st.integers(0, 2**31),
)
def test_sizes_are_the_lower_right_corner_of_what_is_seen(flip: float, jitter: tuple[float, float], seed: int) -> None:
    after = _augment(_batch([[]] * 4), flip=flip, jitter=jitter, seed=seed)

    for image, (height, width) in zip(after.images, after.sizes.tolist(), strict=True):  # one pixel is blurred
        _, _, x2, y2 = _extent(image[0] < 62)
        assert 0 <= width - x2 <= 1
        assert 0 <= height - y2 <= 1
        assert (image[:, :, width + 1 :] == torch.tensor(MEAN)[:, None, None]).all()
        assert (image[:, height + 1 :] == torch.tensor(MEAN)[:, None, None]).all()


@settings(deadline=None, max_examples=40)
@given(
    boxes=st.lists(
        st.lists(
            st.tuples(st.integers(0, 100), st.integers(0, 60), st.integers(1, 20), st.integers(1, 20)), max_size=6
        ),
        min_size=1,
        max_size=3,
    ),
    num_crowd=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_the_invariants_of_a_batch_hold(boxes: list[list[Corners]], num_crowd: int, seed: int) -> None:
    corners = [[(x, y, x + width, y + height) for x, y, width, height in row] for row in boxes]
    last = tuple(range(max(len(row) for row in boxes) - num_crowd, 6))
    before = _batch(corners)
    before = replace(before, crowd=torch.isin(before.labels, torch.tensor(last) + 1) & (before.labels > 0))

    after = _augment(before, flip=0.5, jitter=(0.4, 3.0), seed=seed)

    real = after.labels > 0
    assert after.num_boxes.tolist() == real.sum(1).tolist()
    assert (real == (torch.arange(real.shape[1]) < after.num_boxes[:, None])).all()
    assert not after.boxes[~real].any()
    assert not after.crowd[~real].any()
    assert (after.boxes[real][:, 2:] - after.boxes[real][:, :2] >= 1).all()
    assert (after.boxes[..., 2:] <= after.sizes[:, None].flip(-1) + 1e-3).all()
    assert (after.boxes >= 0).all()
    assert (after.crowd.int().diff(dim=1)[real[:, 1:]] >= 0).all()  # crowd regions stay last
    for name in ("boxes", "labels", "crowd", "num_boxes", "sizes", "image_ids", "original_sizes"):
        assert getattr(after, name).dtype == getattr(before, name).dtype
        assert getattr(after, name).shape == getattr(before, name).shape
    for old, new in zip(before.labels.tolist(), after.labels.tolist(), strict=True):
        assert [label for label in new if label] == [label for label in old if label and label in new]  # in their order


def test_a_flip_is_exact_and_twice_is_nothing() -> None:
    before = _batch([[(3, 5, 30, 40), (50, 60, 51, 70)], [(0, 0, 120, 80)]])
    random = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before.images[:, :, : SIZE[0], : SIZE[1]] = random

    once = _augment(before, flip=1.0)
    twice = _augment(once, flip=1.0)

    assert torch.equal(once.images[:, :, : SIZE[0], : SIZE[1]], random.flip(-1))
    assert once.boxes[0, 0].tolist() == [90, 5, 117, 40]
    assert once.labels[0].tolist() == [1, 2, 0, 0]
    for name in Batch.__slots__:
        assert torch.equal(getattr(twice, name), getattr(before, name))


@pytest.mark.parametrize(("flip", "share"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_flips_as_often_as_asked(flip: float, share: float) -> None:
    after = _augment(_batch([[(0, 0, 20, 20)]] * 400), flip=flip)

    assert after.boxes[:, 0, 0].gt(0).float().mean().item() == pytest.approx(share, abs=0.1 if 0 < share < 1 else 0)


def test_scales_over_the_whole_range() -> None:
    after = _augment(_batch([[(40, 30, 80, 50)]] * 400), jitter=(0.5, 1.5))

    kept = after.boxes[after.num_boxes > 0, 0]
    heights = kept[:, 3] - kept[:, 1]
    inside = (kept[:, 0] > 0) & (kept[:, 2] < WIDTH) & (kept[:, 1] > 0) & (kept[:, 3] < HEIGHT)
    assert heights[inside].min().item() == pytest.approx(10, abs=1)
    assert heights[inside].max().item() == pytest.approx(30, abs=1.5)


def test_a_crowd_region_stays_while_any_of_it_is_seen() -> None:
    boxes = [[(0.0, 0.0, 120.0, 80.0)]] * 50
    zoomed = _augment(_batch(boxes), jitter=(4.0, 4.0))
    crowd = _augment(_batch(boxes, crowd=(0,)), jitter=(4.0, 4.0))

    assert zoomed.num_boxes.sum() == 0  # a canvas shows less than 30 % of a fourfold image
    assert crowd.num_boxes.tolist() == [1] * 50


def test_the_same_generator_gives_the_same_batch() -> None:
    before = _batch([[(3, 5, 30, 40)]] * 8)

    first, same, other = (_augment(before, flip=0.5, jitter=(0.8, 1.2), seed=seed) for seed in (1, 1, 2))

    assert torch.equal(first.images, same.images)
    assert torch.equal(first.boxes, same.boxes)
    assert not torch.equal(first.boxes, other.boxes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_the_same_random_numbers() -> None:
    before = _batch([[(3, 5, 30, 40), (60, 20, 90, 70)]] * 8)

    cpu = _augment(before, flip=0.5, jitter=(0.5, 2.0))
    gpu = _augment(before.to(torch.device("cuda")), flip=0.5, jitter=(0.5, 2.0)).to(torch.device("cpu"))
    torch.cuda.synchronize()

    torch.testing.assert_close(gpu.boxes, cpu.boxes)
    assert torch.equal(gpu.labels, cpu.labels)
    assert (gpu.images.int() - cpu.images.int()).abs().max() <= 1
