"""The benchmark of longer trainings: what it tries, and what it makes of the results."""

from __future__ import annotations

import math
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional

from smnas_optuna.batch import Batch
from smnas_optuna.config import ShapesSettings
from smnas_optuna.data import DetectionLoader, load_coco
from smnas_optuna.data.shapes import make_shapes

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # no package: scripts that share modules

from longer import BASE, average_table, change_table
from longer_recipe.averages import averaged, horizon_decay
from longer_recipe.colour import coloured, jitter_colours
from longer_recipe.loader import VariedLoader
from longer_recipe.mosaic import MosaicPlan, mosaic

SIZE = (80, 120)  # of the images, on a canvas of 96 x 128
MEAN = (124, 116, 104)


def _batch(boxes: list[tuple[int, int, int, int]]) -> Batch:
    """One black image for each box, which is white, and one place for a box more."""
    number = len(boxes)
    images = torch.tensor(MEAN, dtype=torch.uint8)[None, :, None, None].repeat(number, 1, 96, 128)
    images[:, :, : SIZE[0], : SIZE[1]] = 0
    for image, (x1, y1, x2, y2) in zip(images, boxes, strict=True):
        image[:, y1:y2, x1:x2] = 255
    labels = torch.tensor([[1, 0]] * number)
    return Batch(
        images=images,
        boxes=torch.tensor([[box, (0, 0, 0, 0)] for box in boxes], dtype=torch.float32),
        labels=labels,
        crowd=torch.zeros_like(labels, dtype=torch.bool),
        num_boxes=torch.ones(number, dtype=torch.int64),
        image_ids=torch.arange(number),
        sizes=torch.tensor([SIZE] * number),
        original_sizes=torch.tensor([SIZE] * number),
        seeds=torch.arange(number),
    )


def _equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in Batch.__slots__)


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> DetectionLoader:
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, ShapesSettings(train_images=10, val_images=2))
    dataset = load_coco(folder / "instances_train.json", folder / "images")
    return DetectionLoader(
        dataset, long=64, short=48, batch_size=4, device=torch.device("cpu"), seed=0, train=True, flip=0.5
    )


def test_grey_stays_grey_and_the_border_stays_as_it_is() -> None:
    grey = torch.randint(256, (8, 1, 96, 128), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batch = Batch.of([grey.repeat(1, 3, 1, 1), *_batch([(5, 5, 20, 20)] * 8).tensors[1:]])

    changed = jitter_colours(batch, generator=torch.Generator().manual_seed(0)).images

    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    border = torch.ones(96, 128, dtype=torch.bool)
    border[: SIZE[0], : SIZE[1]] = False
    assert torch.equal(changed[..., border], batch.images[..., border])
    assert (changed != batch.images).flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    ("name", "factors"),
    [("adjust_brightness", (0.7, 1, 1)), ("adjust_contrast", (1, 0.7, 1)), ("adjust_saturation", (1, 1, 0.7))],
)
def test_colours_change_as_in_torchvision(name: str, factors: tuple[float, ...]) -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    numbers = [torch.full((1, 1, 1, 1), float(each)) for each in (*factors, 0)]

    changed = coloured(255 * image, torch.ones(1, 1, 16, 16, dtype=torch.bool), *numbers)

    assert torch.allclose(changed / 255, getattr(functional, name)(image, 0.7), atol=1e-3)


def test_a_third_of_a_turn_exchanges_the_colours() -> None:
    image = 255 * torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    numbers = [torch.full((1, 1, 1, 1), each) for each in (1.0, 1.0, 1.0, 2 * math.pi / 3)]

    changed = coloured(image, torch.ones(1, 1, 4, 4, dtype=torch.bool), *numbers)

    assert torch.allclose(changed, image[:, [2, 0, 1]], atol=1e-3)


def test_boxes_of_a_mosaic_lie_on_what_they_hold() -> None:
    parts = [_batch([(20 + 8 * at, 24, 60 + 8 * at, 56)] * 2) for at in range(4)]
    plan = MosaicPlan(
        chosen=torch.tensor([True, False]),
        middles=torch.tensor([[0.5, 0.5]] * 2),
        scales=torch.tensor([[0.5, 0.5, 0.75, 0.5]] * 2),
    )

    made = mosaic(parts, plan, SIZE)

    assert made.num_boxes.tolist() == [4, 1]
    assert (made.labels > 0).sum(dim=1).tolist() == [4, 1]
    assert torch.equal(made.images[1], parts[0].images[1])
    assert torch.equal(made.boxes[1, 0], parts[0].boxes[1, 0])
    white = made.images[0, 0] > 127
    inside = torch.zeros_like(white)
    for x1, y1, x2, y2 in made.boxes[0, :4].round().long().tolist():
        assert white[y1:y2, x1:x2].float().mean() > 0.95
        inside[y1:y2, x1:x2] = True
    assert not (white & ~inside)[: SIZE[0], : SIZE[1]].any()
    assert made.boxes[0, 4:].eq(0).all()


def test_varied_batches_do_not_depend_on_where_an_epoch_begins(loader: DetectionLoader) -> None:
    varied = VariedLoader(loader, colour=True, mosaics=2)
    whole = list(varied.epoch(1))

    assert len(whole) == 3
    assert all(_equal(one, other) for one, other in zip(varied.epoch(1, 1), islice(whole, 1, None), strict=True))


def test_there_are_no_mosaics_in_the_last_epochs(loader: DetectionLoader) -> None:
    varied = VariedLoader(loader, colour=False, mosaics=1)

    assert any(batch.boxes.shape[1] > loader_boxes(loader) for batch in varied.epoch(0))
    assert all(_equal(one, other) for one, other in zip(varied.epoch(1), loader.epoch(1), strict=True))


def loader_boxes(loader: DetectionLoader) -> int:
    return next(loader.epoch(0)).boxes.shape[1]


def test_an_average_forgets_the_first_weights_and_follows_its_horizon() -> None:
    weights = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weights.weight, 100.0)
    average, expected = averaged(weights, horizon_decay(0.1, 1000)), 100.0
    for step in range(200):
        nn.init.constant_(weights.weight, 1.0)
        average.update_parameters(weights)
        if step:  # the first call copies
            decay = min(0.99, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay)
        else:
            expected = 1.0

    assert next(average.parameters()).item() == pytest.approx(expected, rel=1e-5)


def test_the_tables_say_what_exceeds_the_noise() -> None:
    base = {str(seed): ap for seed, ap in enumerate((0.20, 0.21, 0.22))}
    results = {
        BASE: {seed: _run(ap, 0.001) for seed, ap in base.items()},
        "colour": {seed: _run(ap + 0.03 + 0.001 * int(seed), 0.001) for seed, ap in base.items()},
        "mosaics": {seed: _run(ap + 0.002 * (int(seed) - 1), 0.002) for seed, ap in base.items()},
    }

    assert "| colour | 3 | 24.1 | 1.1 | +3.1 | 0.1 | better | 9 |" in change_table(results)
    assert "| mosaics | 3 | 21.0 | 1.2 | +0.0 | 0.1 | no | 9 |" in change_table(results)
    assert "| all of the table | 3% | 9 | +0.1 | 0.0 | better |" in average_table(results)


def _run(ap: float, gain: float) -> dict[str, float]:
    return {"ap": ap, **{f"ap of the average over {share}": ap + gain for share in ("1%", "3%", "10%")}, "seconds": 9.0}
