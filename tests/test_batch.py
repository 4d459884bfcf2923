from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.batch import CANVAS_MULTIPLE, Batch, canvas_size, fit_inside

edges = st.integers(1, 5000)


def _batch(images: int) -> Batch:
    return Batch(
        images=torch.zeros(images, 3, 32, 64, dtype=torch.uint8),
        boxes=torch.zeros(images, 2, 4),
        labels=torch.zeros(images, 2, dtype=torch.int64),
        crowd=torch.zeros(images, 2, dtype=torch.bool),
        num_boxes=torch.zeros(images, dtype=torch.int64),
        image_ids=torch.arange(images),
        sizes=torch.tensor([[32, 64]] * images),
        original_sizes=torch.tensor([[32, 64]] * images),
        seeds=torch.arange(images),
    )


@given(edges, edges, st.booleans())
def test_a_canvas_is_the_smallest_that_holds_the_input_size_on_a_grid_of_32(one: int, other: int, flag: bool) -> None:
    long, short = max(one, other), min(one, other)

    height, width = canvas_size(long, short, portrait=flag)

    assert height % CANVAS_MULTIPLE == width % CANVAS_MULTIPLE == 0
    across, along = (width, height) if flag else (height, width)
    assert short <= across < short + CANVAS_MULTIPLE
    assert long <= along < long + CANVAS_MULTIPLE


def test_a_portrait_canvas_is_the_landscape_one_turned() -> None:
    assert canvas_size(1333, 800, portrait=False) == (800, 1344)
    assert canvas_size(1333, 800, portrait=True) == (1344, 800)


@pytest.mark.parametrize(
    ("given_size", "fitted"),
    [
        ((480, 640), (240, 320)),
        ((640, 480), (320, 240)),
        ((240, 320), (240, 320)),
        ((60, 80), (240, 320)),  # small images are enlarged
        ((100, 1000), (32, 320)),  # the long edge decides
        ((500, 500), (240, 240)),  # the short edge decides
        ((1, 5000), (1, 320)),  # at least a pixel
    ],
)
def test_an_image_is_resized_to_fit_inside(given_size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fit_inside(*given_size, 320, 240) == fitted


@given(edges, edges, st.integers(32, 4096), st.integers(32, 4096))
def test_a_fitted_image_keeps_its_shape_and_touches_the_edge(height: int, width: int, one: int, other: int) -> None:
    long, short = max(one, other), min(one, other)

    fitted_height, fitted_width = fit_inside(height, width, long, short)

    assert 1 <= min(fitted_height, fitted_width) <= short
    assert max(fitted_height, fitted_width) <= long
    assert max(fitted_height, fitted_width) == long or min(fitted_height, fitted_width) == short
    # the aspect ratio, to half a pixel of rounding on each edge
    scale = min(long / max(height, width), short / min(height, width))
    assert abs(fitted_height - height * scale) <= 0.5 or fitted_height == 1
    assert abs(fitted_width - width * scale) <= 0.5 or fitted_width == 1


@given(edges, edges)
def test_a_turned_image_is_fitted_to_the_turned_size(height: int, width: int) -> None:
    assert fit_inside(width, height, 320, 240) == fit_inside(height, width, 320, 240)[::-1]


def test_the_length_of_a_batch_is_its_number_of_images() -> None:
    assert len(_batch(3)) == 3


@pytest.mark.parametrize(("start", "stop"), [(0, 2), (1, 3), (2, 9), (3, 3)])
def test_a_part_of_a_batch_is_that_part_of_every_tensor(start: int, stop: int) -> None:
    whole = _batch(3)

    part = whole[start:stop]

    assert len(part) == min(stop, 3) - start
    assert part.boxes.shape == (len(part), 2, 4)
    assert part.image_ids.tolist() == part.seeds.tolist() == [0, 1, 2][start:stop]
    for field in dataclasses.fields(Batch):
        assert torch.equal(getattr(part, field.name), getattr(whole, field.name)[start:stop])
    assert part.images.untyped_storage().data_ptr() == whole.images.untyped_storage().data_ptr()


def test_a_moved_batch_moves_every_tensor() -> None:
    moved = _batch(2).to(torch.device("meta"))

    assert {getattr(moved, field.name).device.type for field in dataclasses.fields(Batch)} == {"meta"}
    assert moved.images.shape == (2, 3, 32, 64)
    assert moved.labels.dtype == torch.int64


def test_neither_padding_nor_a_crowd_region_is_an_object() -> None:
    batch = dataclasses.replace(
        _batch(2),
        labels=torch.tensor([[3, 1], [2, 0]]),
        crowd=torch.tensor([[False, True], [False, False]]),
    )

    assert batch.objects.tolist() == [[True, False], [True, False]]


def test_a_batch_is_made_anew_of_its_tensors() -> None:
    batch = _batch(2)

    again = Batch.of(batch.tensors)

    assert all(getattr(again, field.name) is getattr(batch, field.name) for field in dataclasses.fields(Batch))
