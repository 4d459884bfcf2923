from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from weakref import WeakSet

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from smnas_optuna.data import CachePool, CocoDataset, ImageCache, load_coco
from smnas_optuna.data.cache import cache_bytes
from smnas_optuna.errors import DataError

from .records import decode_image

WriteCoco = Callable[..., Path]

SIZES = [(30, 50), (50, 30), (40, 40), (64, 128), (9, 3)]
PLENTY = 10**12


@pytest.fixture
def dataset(write_coco: WriteCoco, tmp_path: Path) -> CocoDataset:
    return load_coco(write_coco("train.json", SIZES), tmp_path / "images")


def _note(text: str) -> None:
    raise AssertionError(text)


def test_holds_what_decoding_each_image_gives(dataset: CocoDataset) -> None:
    cache = ImageCache(dataset, long=60, short=30)

    assert cache.rows == {False: [0, 2, 3], True: [1, 4]}
    assert cache.pixels[False].shape == (3, 3, 32, 64)
    assert cache.pixels[True].shape == (2, 3, 64, 32)
    assert cache.num_bytes == 5 * 3 * 32 * 64
    for portrait, row, index, (height, width) in [
        (False, 0, 0, (30, 50)),
        (False, 1, 2, (30, 30)),
        (False, 2, 3, (30, 60)),
        (True, 0, 1, (50, 30)),
        (True, 1, 4, (60, 20)),
    ]:
        canvas = cache.pixels[portrait][row].transpose(1, 2, 0)
        image = dataset.images[index]
        decoded = Image.fromarray(decode_image(image.path, image.height, image.width))
        resized = np.asarray(decoded.resize((width, height), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(canvas[:height, :width], resized)
        assert (canvas[height:] == (124, 116, 104)).all()
        assert (canvas[:, width:] == (124, 116, 104)).all()


def test_a_file_holds_the_same_and_is_used_again(dataset: CocoDataset, tmp_path: Path) -> None:
    notes: list[str] = []
    folder = tmp_path / "pixels"
    in_memory = ImageCache(dataset, long=60, short=30)

    mapped = CachePool(folder, notes.append, free_bytes=lambda: 2 * in_memory.num_bytes - 1).get(dataset, "h", 60, 30)
    (file,) = folder.glob("*.pixels")
    written = file.stat().st_mtime_ns, file.stat().st_ino
    again = CachePool(folder, notes.append, free_bytes=lambda: 0).get(dataset, "h", 60, 30)

    assert not mapped.in_memory
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written
    for cache in (mapped, again):
        for portrait in (False, True):
            np.testing.assert_array_equal(cache.pixels[portrait], in_memory.pixels[portrait])
    assert notes == [f"5 images at 60x30 take 0 MiB, more than half of the free memory: kept on disk in {file}"] * 2
    assert list(folder.glob("*.tmp")) == []


@pytest.mark.parametrize("other", ["content", "size", "image", "order"])
def test_a_file_of_something_else_is_not_used(
    other: str, dataset: CocoDataset, write_coco: WriteCoco, tmp_path: Path
) -> None:
    folder = tmp_path / "pixels"
    CachePool(folder, lambda _: None, free_bytes=lambda: 0).get(dataset, "h", 60, 30)
    if other == "image":
        Image.new("RGB", (50, 30)).save(dataset.images[0].path)
    if other == "order":
        images = {image.image_id: image for image in dataset.images}
        dataset = CocoDataset(
            source=dataset.source,
            images=tuple(reversed(images.values())),
            category_ids=dataset.category_ids,
            category_names=dataset.category_names,
            annotations=dataset.annotations,
            notes=dataset.notes,
        )
    pool = CachePool(folder, lambda _: None, free_bytes=lambda: 0)
    cache = pool.get(dataset, "x" if other == "content" else "h", 60, 29 if other == "size" else 30)

    assert len(list(folder.glob("*.pixels"))) == 2
    np.testing.assert_array_equal(
        cache.pixels[False], ImageCache(dataset, long=60, short=29 if other == "size" else 30).pixels[False]
    )


def test_an_incomplete_file_is_made_anew(dataset: CocoDataset, tmp_path: Path) -> None:
    file = tmp_path / "some.pixels"
    file.write_bytes(b"half")
    (tmp_path / "some.pixels.tmp").write_bytes(b"of a process that died")

    cache = ImageCache(dataset, long=60, short=30, file=file)

    np.testing.assert_array_equal(cache.pixels[True], ImageCache(dataset, long=60, short=30).pixels[True])
    assert not (tmp_path / "some.pixels.tmp").exists()


@pytest.mark.parametrize("row", [0, 4])
def test_a_file_with_other_pixels_is_made_anew(row: int, dataset: CocoDataset, tmp_path: Path) -> None:
    file = tmp_path / "some.pixels"
    cache = ImageCache(dataset, long=60, short=30, file=file)
    size = cache.num_bytes // len(dataset.images)
    whole = bytearray(file.read_bytes())
    spoiled = whole[: row * size] + bytes(size) + whole[(row + 1) * size :]
    file.unlink()  # what is mapped must not change under the feet of its users
    file.write_bytes(spoiled)

    ImageCache(dataset, long=60, short=30, file=file)

    assert file.read_bytes() == whole


def test_nothing_is_left_of_a_file_that_could_not_be_finished(dataset: CocoDataset, tmp_path: Path) -> None:
    dataset.images[3].path.write_bytes(b"")
    file = tmp_path / "pixels" / "some.pixels"

    with pytest.raises(DataError, match=r"3\.png: the image cannot be read"):
        ImageCache(dataset, long=60, short=30, file=file)

    assert {path.name for path in file.parent.iterdir()} <= {"some.pixels.lock"}


def test_a_disk_that_takes_nothing_is_an_error(dataset: CocoDataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    file = tmp_path / "file" / "some.pixels"

    with pytest.raises(DataError, match=rf"^{file}: the resized images cannot be kept on disk: "):
        ImageCache(dataset, long=60, short=30, file=file)


def test_a_full_disk_is_an_error(dataset: CocoDataset, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # bytes that a file may have
    try:
        with pytest.raises(DataError, match="cannot be kept on disk: File too large"):
            ImageCache(dataset, long=60, short=30, file=tmp_path / "some.pixels")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert not list(tmp_path.glob("some.pixels")) + list(tmp_path.glob("*.tmp"))


def test_pixels_cannot_be_changed(dataset: CocoDataset) -> None:
    cache = ImageCache(dataset, long=60, short=30)

    with pytest.raises(ValueError, match="read-only"):
        cache.pixels[False][0] = 0


def test_the_pool_gives_the_same_cache_again(dataset: CocoDataset, tmp_path: Path) -> None:
    pool = CachePool(tmp_path, _note, free_bytes=lambda: PLENTY)
    cache = pool.get(dataset, "h", 60, 30)
    dataset.images[0].path.unlink()

    assert pool.get(dataset, "h", 60, 30) is cache


def test_the_pool_drops_what_was_used_least_recently(dataset: CocoDataset, tmp_path: Path) -> None:
    alive: WeakSet[ImageCache] = WeakSet()
    total = 4 * cache_bytes(dataset, 64, 32)  # half of what is free: room for a third cache, not for a fourth
    pool = CachePool(tmp_path, _note, free_bytes=lambda: total - sum(cache.num_bytes for cache in alive))
    alive.add(pool.get(dataset, "h", 64, 32))
    alive.add(pool.get(dataset, "h", 63, 31))
    alive.add(pool.get(dataset, "h", 62, 30))
    assert sorted(cache.long for cache in alive) == [62, 63, 64]
    pool.get(dataset, "h", 64, 32)

    alive.add(pool.get(dataset, "h", 61, 29))

    assert sorted(cache.long for cache in alive) == [61, 62, 64]


def test_the_pool_drops_nothing_for_what_will_never_fit(dataset: CocoDataset, tmp_path: Path) -> None:
    free = [PLENTY]
    pool = CachePool(tmp_path / "pixels", lambda _: None, free_bytes=lambda: free[0])
    small = pool.get(dataset, "h", 60, 30)
    free[0] = small.num_bytes

    assert not pool.get(dataset, "h", 320, 320).in_memory
    assert pool.get(dataset, "h", 60, 30) is small


def test_processes_on_one_machine_share_the_pixels(dataset: CocoDataset, tmp_path: Path) -> None:
    def fail(*_: int) -> None:
        raise AssertionError("decoded again")

    notes: list[str] = []
    first = CachePool(tmp_path, notes.append, shared=True).get(dataset, "h", 60, 30)
    second = CachePool(tmp_path, notes.append, shared=True, on_progress=fail).get(dataset, "h", 60, 30)

    assert not first.in_memory
    for portrait in (False, True):
        np.testing.assert_array_equal(first.pixels[portrait], second.pixels[portrait])
    assert notes == []


@pytest.mark.parametrize(("missing", "in_memory"), [(0, False), (1, True)])
def test_pixels_are_not_shared_on_a_disk_without_room(
    missing: int, in_memory: bool, dataset: CocoDataset, tmp_path: Path
) -> None:
    free = 2 * cache_bytes(dataset, 60, 30) - missing
    pool = CachePool(tmp_path, _note, shared=True, free_bytes=lambda: PLENTY, free_disk=lambda _: free)

    assert pool.get(dataset, "h", 60, 30).in_memory is in_memory


@pytest.mark.parametrize("free", [PLENTY, 0])
def test_a_disk_that_takes_no_shared_pixels_leaves_them_in_memory(
    free: int, dataset: CocoDataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    pool = CachePool(tmp_path / "file", _note, shared=True, free_bytes=lambda: free, free_disk=lambda _: PLENTY)

    if free:
        assert pool.get(dataset, "h", 60, 30).in_memory
    else:
        with pytest.raises(DataError, match="cannot be kept on disk"):
            pool.get(dataset, "h", 60, 30)


def test_waiting_for_the_pixels_of_another_process_can_be_stopped(dataset: CocoDataset, tmp_path: Path) -> None:
    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "some.pixels"
    with FileLock(tmp_path / "some.pixels.lock"), pytest.raises(KeyboardInterrupt):
        ImageCache(dataset, long=60, short=30, file=file, on_progress=stop)
