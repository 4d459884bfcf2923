from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from smnas_optuna.batch import Batch, BatchSource
from smnas_optuna.data import CocoDataset, DetectionLoader, ImageCache, load_coco
from smnas_optuna.data import loader as loader_module
from smnas_optuna.data.loader import batch_of_one

from .records import decode_image

WriteCoco = Callable[..., Path]

SIZES = [(30, 50)] * 5 + [(50, 30)] * 3 + [(40, 40)] * 2
BOXES = [[(1, 5, 6, 20, 10), (2, 0, 0, 50, 30)], *([(2, 3, 4, 15, 12)] for _ in range(8)), []]
CPU = torch.device("cpu")


@pytest.fixture
def dataset(write_coco: WriteCoco, tmp_path: Path) -> CocoDataset:
    return load_coco(write_coco("train.json", SIZES, BOXES), tmp_path / "images")


def _train(dataset: CocoDataset, *, seed: int = 0, batch_size: int = 4, jitter: bool = True) -> BatchSource:
    return DetectionLoader(
        dataset,
        long=60,
        short=30,
        batch_size=batch_size,
        device=CPU,
        seed=seed,
        train=True,
        flip=0.5 if jitter else 0.0,
        scale_jitter=(0.8, 1.25) if jitter else (1.0, 1.0),
    )


def _evaluate(dataset: CocoDataset) -> BatchSource:
    return DetectionLoader(dataset, long=60, short=30, batch_size=4, device=CPU, seed=0, train=False)


def _ids(batches: list[Batch]) -> list[list[int]]:
    return [batch.image_ids.tolist() for batch in batches]


def _equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in Batch.__slots__)


def test_evaluation_takes_every_image_once_in_order(dataset: CocoDataset) -> None:
    loader = _evaluate(dataset)

    batches = list(loader.epoch(0))

    assert _ids(batches) == [[1, 2, 3, 4], [5, 9, 10], [6, 7, 8]]
    assert len(loader) == 3
    assert [tuple(batch.images.shape[-2:]) for batch in batches] == [(32, 64), (32, 64), (64, 32)]


def test_a_batch_holds_the_images_and_boxes_of_its_canvas(dataset: CocoDataset) -> None:
    first, second, portrait = _evaluate(dataset).epoch(0)

    cache = ImageCache(dataset, long=60, short=30)
    assert torch.equal(first.images, torch.from_numpy(cache.pixels[False][:4].copy()))
    assert first.sizes[0].tolist() == [30, 50]
    assert first.original_sizes[0].tolist() == [30, 50]
    assert first.boxes[0].tolist() == [[5, 6, 25, 16], [0, 0, 50, 30]]
    assert first.labels.tolist() == [[1, 2], [2, 0], [2, 0], [2, 0]]
    assert first.num_boxes.tolist() == [2, 1, 1, 1]
    assert second.sizes[1].tolist() == [30, 30]
    torch.testing.assert_close(second.boxes[1, 0], torch.tensor([3, 4, 18, 16]) * 0.75)
    assert second.num_boxes.tolist() == [1, 1, 0]
    assert portrait.sizes.tolist() == [[50, 30]] * 3


def test_a_box_at_the_border_does_not_leave_the_image_by_rounding(write_coco: WriteCoco, tmp_path: Path) -> None:
    sizes = [(427 + number, 640 - number) for number in range(12)]
    boxes = [[(1, 0.0, 0.0, float(width), float(height))] for height, width in sizes]
    dataset = load_coco(write_coco("train.json", sizes, boxes), tmp_path / "images")

    for batch in _evaluate(dataset).epoch(0):
        assert torch.equal(batch.boxes[:, 0, 2:], batch.sizes.flip(-1).float())


def test_training_takes_every_image_in_batches_of_one_shape(dataset: CocoDataset) -> None:
    loader = _train(dataset)

    batches = list(loader.epoch(0))

    assert len(batches) == len(loader) == 3
    assert all(len(batch) == 4 for batch in batches)
    assert {image for ids in _ids(batches) for image in ids} == set(range(1, 11))
    for batch in batches:
        assert batch.images.shape[2:] == ((64, 32) if batch.image_ids[0] in (6, 7, 8) else (32, 64))
        assert batch.boxes.shape == (4, 2, 4)


def test_a_batch_may_be_larger_than_the_data(dataset: CocoDataset) -> None:
    batches = list(_train(dataset, batch_size=16).epoch(0))

    assert [len(batch) for batch in batches] == [16, 16]


def test_an_epoch_is_the_same_whatever_ran_before(dataset: CocoDataset) -> None:
    loader = _train(dataset)
    list(loader.epoch(0))
    third = list(loader.epoch(3))

    again = list(_train(dataset).epoch(3))

    assert all(_equal(one, other) for one, other in zip(third, again, strict=True))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("start", range(5))
def test_an_epoch_may_start_anywhere(train: bool, start: int, dataset: CocoDataset) -> None:
    loader = _train(dataset, batch_size=2) if train else _evaluate(dataset)
    index = 2 if train else 0
    whole = list(loader.epoch(index))

    rest = list(loader.epoch(index, start))

    assert len(rest) == max(0, len(whole) - start)
    assert all(_equal(one, other) for one, other in zip(whole[start:], rest, strict=True))


def test_what_comes_before_the_start_is_not_made(dataset: CocoDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Batch] = []

    def watched(batch: Batch, **_: object) -> Batch:
        made.append(batch)
        return batch

    loader = _train(dataset, batch_size=2)
    monkeypatch.setattr(loader_module, "augment", watched)

    list(loader.epoch(0, 4))

    assert len(made) == len(loader) - 4 == 2


def test_every_image_of_every_step_has_a_seed_of_its_own(dataset: CocoDataset) -> None:
    loaders = [_train(dataset), _train(dataset, jitter=False), _train(dataset, seed=1)]

    seeds = [[batch.seeds for index in range(3) for batch in loader.epoch(index)] for loader in loaders]

    for own in seeds:
        assert len({int(seed) for batch in own for seed in batch}) == 3 * 3 * 4
        assert all(batch.dtype == torch.int64 and (batch >= 0).all() for batch in own)
    assert all(torch.equal(one, other) for one, other in zip(seeds[0], seeds[1], strict=True))
    assert not {int(seed) for batch in seeds[0] for seed in batch} & {int(seed) for batch in seeds[2] for seed in batch}
    assert not any(batch.seeds.any() for batch in _evaluate(dataset).epoch(0))


def test_epochs_and_seeds_differ(dataset: CocoDataset) -> None:
    loader = _train(dataset, jitter=False)

    orders = [_ids(list(loader.epoch(index))) for index in range(3)]
    orders.append(_ids(list(_train(dataset, seed=1, jitter=False).epoch(0))))

    assert len({str(order) for order in orders}) == 4


def test_without_augmentation_the_pixels_are_those_of_the_cache(dataset: CocoDataset) -> None:
    rows = {
        int(batch.image_ids[i]): batch.images[i] for batch in _evaluate(dataset).epoch(0) for i in range(len(batch))
    }

    for batch in _train(dataset, jitter=False).epoch(0):
        for image_id, image in zip(batch.image_ids.tolist(), batch.images, strict=True):
            assert torch.equal(image, rows[image_id])


def test_augmentation_changes_pixels_and_is_for_training_only(dataset: CocoDataset) -> None:
    plain, changed = _train(dataset, jitter=False), _train(dataset)

    pairs = list(zip(plain.epoch(0), changed.epoch(0), strict=True))

    assert all(torch.equal(one.image_ids, other.image_ids) for one, other in pairs)
    assert not all(torch.equal(one.images, other.images) for one, other in pairs)


def test_decodes_nothing_after_the_start(dataset: CocoDataset) -> None:
    loader = _train(dataset)
    for image in dataset.images:
        image.path.unlink(missing_ok=True)

    assert len(list(loader.epoch(0))) == 3


def test_images_kept_on_disk_give_the_same_batches(dataset: CocoDataset, tmp_path: Path) -> None:
    cache = ImageCache(dataset, long=60, short=30, file=tmp_path / "some.pixels")
    mapped = DetectionLoader(dataset, long=60, short=30, batch_size=4, device=CPU, seed=0, train=False, cache=cache)

    assert all(_equal(one, other) for one, other in zip(mapped.epoch(0), _evaluate(dataset).epoch(0), strict=True))


def test_data_without_any_box_still_has_a_place_for_one(write_coco: WriteCoco, tmp_path: Path) -> None:
    dataset = load_coco(write_coco("train.json", [(30, 50)] * 3, [[]] * 3), tmp_path / "images")

    (batch,) = _train(dataset).epoch(0)

    assert batch.boxes.shape == (4, 1, 4)
    assert not batch.labels.any()


def test_a_cache_of_another_size_is_a_programmers_mistake(dataset: CocoDataset) -> None:
    cache = ImageCache(dataset, long=64, short=32)

    with pytest.raises(AssertionError):
        DetectionLoader(dataset, long=60, short=30, batch_size=4, device=CPU, seed=0, train=False, cache=cache)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("on_device", [False, True])
def test_a_gpu_gets_the_same_batches(
    train: bool, on_device: bool, dataset: CocoDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not on_device:
        monkeypatch.setattr(loader_module, "_free_gpu_memory", lambda _: 0)
    cpu, gpu = (
        DetectionLoader(
            dataset, long=60, short=30, batch_size=4, device=torch.device(name), seed=0, train=train, flip=0.5
        )
        for name in ("cpu", "cuda")
    )

    for one, other in zip(cpu.epoch(0), gpu.epoch(0), strict=True):
        assert other.images.device.type == "cuda"
        assert bool(gpu._on_device) == on_device
        for name in Batch.__slots__:
            np.testing.assert_allclose(getattr(other, name).cpu(), getattr(one, name), atol=1e-4)


@pytest.mark.parametrize("size", [(30, 50), (50, 30), (40, 40), (200, 300), (9, 3)], ids=str)
def test_one_image_is_the_batch_that_evaluation_sees(
    size: tuple[int, int], write_coco: WriteCoco, tmp_path: Path
) -> None:
    dataset = load_coco(write_coco("val.json", [size], [[]]), tmp_path / "images")
    (expected,) = DetectionLoader(dataset, long=60, short=30, batch_size=1, device=CPU, seed=0, train=False).epoch(0)

    batch = batch_of_one(decode_image(dataset.images[0].path, *size), long=60, short=30)

    assert _equal(batch, replace(expected, image_ids=torch.tensor([0])))
