from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smnas_optuna.arch import InputSize
from smnas_optuna.benchmark.images import NUM_IMAGES, drawn_images, images_of_folder
from smnas_optuna.config import ShapesSettings
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.errors import DataError
from smnas_optuna.session.listener import Listener, step_of
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

CPU = torch.device("cpu")
SIZE = InputSize(long=96, short=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes") / "data"
    make_shapes(root, ShapesSettings(train_images=2, val_images=40, width=64, height=64))
    return root


def test_validation_images_of_a_folder_are_spread_over_all_of_them(data: Path) -> None:
    images = images_of_folder(data, CPU)
    batches = images.at(SIZE)

    assert len(batches) == NUM_IMAGES == 32
    ids = sorted(int(batch.image_ids) for batch in batches)
    assert (ids[0], ids[-1], len(set(ids))) == (1, 40, 32)
    assert {tuple(batch.images.shape) for batch in batches} == {(1, 3, 64, 96)}
    assert {batch.images.dtype for batch in batches} == {torch.uint8}
    assert images.num_classes == 10
    assert images.source == f"32 images of {data}/instances_val.json (val)"
    assert images.at(SIZE) is batches, "loaded once"


def test_a_folder_without_validation_images_gives_training_images(data: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(data / "images")
    (tmp_path / "instances_train.json").symlink_to(data / "instances_train.json")

    images = images_of_folder(tmp_path, CPU)

    assert len(images.at(SIZE)) == 2
    assert images.source == f"2 images of {tmp_path}/instances_train.json (train)"


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:
        images_of_folder(tmp_path, CPU)
    assert str(refusal.value).startswith(
        f"{tmp_path}: holds annotations in no format that is known\n  fix: name a folder with images/ and one of "
    )

    with pytest.raises(DataError, match=r"nowhere: there is no such folder\n  fix: name the data folder: --data DIR"):
        images_of_folder(tmp_path / "nowhere", CPU)


@pytest.mark.parametrize("size", [SIZE, InputSize(long=40, short=32)], ids=str)
def test_scenes_are_drawn_at_the_asked_size(size: InputSize) -> None:
    steps: list[tuple[int, int]] = []
    with drawn_images(7, CPU, lambda done, total: steps.append((done, total))) as images:
        batches = images.at(size)

    assert len(batches) == 32
    assert images.num_classes == 7
    landscape = [batch for batch in batches if batch.sizes.tolist() == [[size.short, size.long]]]
    portrait = [batch for batch in batches if batch.sizes.tolist() == [[size.long, size.short]]]
    assert (len(landscape), len(portrait)) == (26, 6)
    factor = 1 if size.short >= 64 else 2
    assert all(torch.equal(batch.original_sizes, factor * batch.sizes) for batch in batches)
    assert steps[-1] == (33, 33)


def test_drawing_can_be_stopped() -> None:
    stop = StopRequest()
    with drawn_images(7, CPU, step_of("load", Listener(), stop)) as images:
        stop.ask(2)
        with pytest.raises(Interrupted):
            images.at(SIZE)
