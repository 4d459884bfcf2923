"""Image files that somebody or something spoiled, and names that lead elsewhere: a clear error, or the right pixels."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.data import CachePool, CocoDataset, ImageRecord, load_coco
from smnas_optuna.errors import DataError
from smnas_optuna.runtime.image_files import quiet_pillow
from tests.data.hostile import check_message, time_limit
from tests.data.records import decode_image, index_content

HEIGHT, WIDTH = 20, 30
PIXELS = np.stack((*np.indices((HEIGHT, WIDTH)) * 8, np.full((HEIGHT, WIDTH), 99)), axis=2).astype(np.uint8)
SEEDS = 12  # times 17 kinds of files


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.copy().save(stream, kind, **options)  # Pillow keeps options of one save for the next
    return stream.getvalue()


def _rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    return exif


IMAGE = Image.fromarray(PIXELS)
OTHER = Image.fromarray(PIXELS[::-1])
DEEP = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257)
FILES = {
    "png": _encode(IMAGE, "PNG", exif=_rotated()),
    "png with palette": _encode(IMAGE.quantize(), "PNG", transparency=b"\x00\x80"),
    "png with 16 bits": _encode(DEEP, "PNG"),
    "animated png": _encode(IMAGE, "PNG", save_all=True, append_images=[OTHER.copy()]),
    "jpeg": _encode(IMAGE, "JPEG", exif=_rotated()),
    "progressive jpeg": _encode(IMAGE, "JPEG", progressive=True),
    "mpo": _encode(IMAGE, "MPO", save_all=True, append_images=[OTHER.copy()]),
    "tiff": _encode(IMAGE, "TIFF", exif=_rotated()),
    "tiff with lzw": _encode(IMAGE, "TIFF", compression="tiff_lzw"),
    "tiff in cmyk": _encode(IMAGE.convert("CMYK"), "TIFF"),
    "tiff with pages": _encode(IMAGE, "TIFF", save_all=True, append_images=[OTHER.copy()]),
    "gif": _encode(IMAGE, "GIF", save_all=True, append_images=[OTHER.copy()]),
    "bmp": _encode(IMAGE, "BMP"),
    "webp": _encode(IMAGE, "WEBP", exif=_rotated()),
    "lossless webp": _encode(IMAGE, "WEBP", lossless=True),
    "jpeg 2000": _encode(IMAGE, "JPEG2000"),
    "ppm": _encode(IMAGE, "PPM"),
}


@pytest.fixture
def quiet() -> Iterator[None]:
    with quiet_pillow():
        yield


def _record(path: Path, height: int = HEIGHT, width: int = WIDTH) -> ImageRecord:
    boxes, labels, crowd = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return ImageRecord(image_id=1, path=path, height=height, width=width, boxes=boxes, labels=labels, crowd=crowd)


def _spoil(whole: bytes, rng: random.Random) -> bytes:
    reach = min(len(whole), rng.choice((60, 300, len(whole))))  # headers are what programs trust
    way = rng.choice(("flip", "flip", "overwrite", "truncate", "cut out", "swap"))
    first, last = sorted((rng.randrange(reach), rng.randrange(reach)))
    if way == "truncate":
        return whole[:first]
    if way == "cut out":
        return whole[:first] + whole[last:]
    if way == "swap":
        return whole[last:] + whole[:last]
    spoiled = bytearray(whole)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(reach)
        spoiled[place] = spoiled[place] ^ 1 << rng.randrange(8) if way == "flip" else rng.choice((0, 127, 128, 255))
    return bytes(spoiled)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kind", FILES)
def test_a_spoiled_image_is_refused_or_read_at_the_stated_size(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    for seed in range(SEEDS):
        rng = random.Random(f"{kind} {seed}")
        path.write_bytes(_spoil(FILES[kind], rng))
        height, width = rng.choice(((HEIGHT, WIDTH), (WIDTH, HEIGHT)))
        try:
            with time_limit():
                pixels = decode_image(path, height, width)
            assert pixels.shape == (height, width, 3)
            assert pixels.dtype == np.uint8
        except DataError as error:
            check_message(error)
        except BaseException as error:
            error.add_note(f"{kind}, seed {seed}")
            raise


@pytest.mark.parametrize("kind", FILES)
def test_the_name_does_not_say_what_a_file_is_and_the_first_image_counts(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(FILES[kind])

    pixels = np.rot90(decode_image(path, WIDTH, HEIGHT)) if kind == "tiff" else decode_image(path, HEIGHT, WIDTH)

    expected = PIXELS[:, :, [0, 0, 0]] if kind == "png with 16 bits" else PIXELS
    assert np.abs(pixels.astype(int) - expected).mean() < 4  # palettes and losses
    assert np.abs(pixels.astype(int) - expected[::-1]).mean() > 16  # the second image of files that have one


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(orientation: int, tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"image.{kind}" for kind in ("png", "tif")}
    exif = Image.Exif()
    exif[0x0112] = orientation
    for path in paths.values():
        IMAGE.save(path, exif=exif)
    height, width = (WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH)

    expected = decode_image(paths["png"], height, width)

    np.testing.assert_array_equal(decode_image(paths["tif"], height, width), expected)
    if orientation >= 5:  # Pillow gives the upright one only: better none than a distorted one
        with pytest.raises(DataError, match=r"tif: the image is 20x30 pixels \(width x height\), its annotation says"):
            decode_image(paths["tif"], HEIGHT, WIDTH)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("seed", range(20))
def test_spoiled_exif_data_does_not_cost_the_image(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    path = tmp_path / "image.jpg"
    garbage = rng.choice((b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0", b"Exif\0\0MM\0*")) + rng.randbytes(
        rng.randint(0, 99)
    )
    plain = _encode(IMAGE, "JPEG")
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(garbage) + 2) + garbage + plain[2:])

    with time_limit():
        pixels = decode_image(path, HEIGHT, WIDTH)

    with Image.open(io.BytesIO(plain)) as image:
        np.testing.assert_array_equal(pixels, np.asarray(image))


def _png(width: int, height: int, *chunks: tuple[bytes, bytes], colour: bool = False) -> bytes:
    """A PNG, grey or in colour, of that stated size with these chunks after its header."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2 * colour, 0, 0, 0))
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (header, *chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(_png(30_000, 30_000, (b"IDAT", zlib.compress(bytes(10**6)))))

    for size in ((30_000, 30_000), (HEIGHT, WIDTH)):
        with time_limit(1), pytest.raises(DataError, match=r"cannot be read: Image size .* exceeds limit") as error:
            decode_image(path, *size)
        check_message(error.value)


def test_the_size_is_compared_before_pixels_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(_png(9_000, 9_000, (b"IDAT", b"these are no pixels")))

    with time_limit(1), pytest.raises(DataError, match=r"the image is 9000x9000 pixels .*, its annotation says 30x20"):
        decode_image(path, HEIGHT, WIDTH)


@pytest.mark.parametrize(("limit", "stated"), [(400, (HEIGHT, WIDTH)), (400, (WIDTH, WIDTH)), (200, (HEIGHT, WIDTH))])
def test_more_pixels_than_pillow_likes_are_no_warning(
    limit: int, stated: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if these 600 pixels were 134 million, and 269 million
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    record = _record(tmp_path / "image.png", *stated)
    IMAGE.save(record.path)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if limit == 400 and stated == (HEIGHT, WIDTH):
            assert set(index_content([record], None)) == {record.path}
        else:
            with pytest.raises(DataError, match="exceeds limit" if limit == 200 else "the image is 30x20 pixels"):
                index_content([record], None)

    assert told == []


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP", b"iTXt"])
def test_a_text_that_unpacks_to_a_gigabyte_is_not_unpacked(chunk: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush()
    head = b"Comment\0\x01\0\0\0" if chunk == b"iTXt" else b"Comment\0\0"
    path.write_bytes(_png(WIDTH, HEIGHT, (chunk, head + packed), (b"IDAT", zlib.compress(bytes((WIDTH + 1) * HEIGHT)))))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with time_limit():
        try:
            assert not decode_image(path, HEIGHT, WIDTH).any()
        except DataError as error:
            check_message(error)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_jpeg_of_endless_scans_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    plain = _encode(Image.new("L", (WIDTH, HEIGHT), 128), "JPEG", progressive=True)
    scan = plain[plain.rindex(b"\xff\xda") : -2]
    for more, refused in ((400, False), (2_000_000 // len(scan), True)):
        path.write_bytes(plain[:-2] + more * scan + plain[-2:])
        with time_limit():
            if refused:
                with pytest.raises(DataError, match="more than 500 scans, which would take hours") as error:
                    decode_image(path, HEIGHT, WIDTH)
                check_message(error.value)
            else:
                assert (decode_image(path, HEIGHT, WIDTH) == 128).all()


def test_formats_that_start_programs_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_text(f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 {WIDTH} {HEIGHT}\n%%EndComments\nquit\n")

    with pytest.raises(DataError, match=r"the image cannot be read: cannot identify it as any of .*BMP, GIF, JPEG"):
        decode_image(path, HEIGHT, WIDTH)


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "image.webp"
    path.write_bytes(FILES["webp"])
    os.truncate(path, 2**31 + 1)  # takes no room on the disk

    with time_limit(1), pytest.raises(DataError, match="the image cannot be read: the file has more than 2147483648 b"):
        decode_image(path, HEIGHT, WIDTH)


def test_an_image_that_does_not_fit_into_memory_is_an_error(tmp_path: Path) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the system does not say how much memory the process has")
    path = tmp_path / "image.png"
    path.write_bytes(_png(13_000, 13_000, (b"IDAT", zlib.compress(bytes(10**6))), colour=True))
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, hard))
    try:
        with quiet_pillow(), pytest.raises(DataError) as error:
            decode_image(path, 13_000, 13_000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    assert str(error.value).startswith(f"{path}: the image, 13000x13000 pixels, does not fit into memory\n  fix: ")


def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with time_limit(1), pytest.raises(DataError, match="cannot be read: it is a pipe or a device, not a regular"):
            decode_image(path, HEIGHT, WIDTH)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        decode_image(tmp_path, HEIGHT, WIDTH)


# The names that annotation files give.


def _load(root: Path, file_name: str, save_as: str | bytes | None = None) -> CocoDataset:
    """A data set of one image; saved under that name below ``root/images``, if one is given."""
    (root / "images").mkdir(exist_ok=True)
    if save_as is not None:
        (root / "images" / os.fsdecode(save_as)).write_bytes(FILES["bmp"])
    row = {"id": 4, "image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 9]}
    document = {
        "images": [{"id": 1, "file_name": file_name, "width": WIDTH, "height": HEIGHT}],
        "annotations": [row],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / "train.json").write_text(json.dumps(document))
    with time_limit(1):
        return load_coco(root / "train.json", root / "images")


NAMES = {
    "missing": ("none.png", "none.png: No such file or directory"),
    "empty folder": (".", "images: Is a directory"),
    "too long": ("x" * 300, "x: File name too long"),
    "much too long": ("x" * 10**6, "': File name too long"),
    "too deep": ("x/" * 3_000 + "a.png", "a.png': File name too long"),
    "through a file": ("a.bmp/b.png", "a.bmp/b.png: Not a directory"),
    "NUL": ("a\0.bmp", r"a\x00.bmp': no file can have this name"),
    "lone surrogate": ("\ud800.bmp", r"\ud800.bmp': no file can have this name"),
    "line break": ("a\n  fix: rm", r"a\n  fix: rm': No such file or directory"),
    "terminal code": ("\x1b[2J\x9b.png", r"\x1b[2J\x9b.png': No such file or directory"),
    "override of direction": ("\u202egnp.a", r"\u202egnp.a': No such file or directory"),
    "separators of Windows": (r"sub\a.bmp", r"sub\a.bmp: No such file or directory"),
}


@pytest.mark.parametrize(("name", "shown"), NAMES.values(), ids=NAMES)
def test_a_name_without_an_image_is_told_on_one_line(name: str, shown: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        _load(tmp_path, name, save_as="a.bmp")

    check_message(error.value)
    assert error.value.message == f"{tmp_path / 'train.json'}: 1 of 1 images are missing or not regular files"
    assert str(error.value.first).startswith("image 1, ")
    assert str(error.value.first).endswith(shown)


def test_a_pipe_in_the_image_folder_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images" / "a.png")

    with pytest.raises(DataError, match=r"a\.png: it is a pipe or a device, not a regular file"):
        _load(tmp_path, "a.png")


@pytest.mark.parametrize("name", ["../a.bmp", "sub/../../a.bmp", "/etc/passwd", "..", "\x1b/../\n"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 of 1 images lie outside the image folder") as error:
        _load(tmp_path, name)

    check_message(error.value)


@pytest.mark.parametrize("name", ["a b.bmp", "<b>&amp;.bmp", "[bold].bmp", "猫.bmp", "a\nb\x1b.bmp", "sub\\a.bmp"])
def test_any_name_that_a_file_has_is_read(name: str, tmp_path: Path) -> None:
    dataset = _load(tmp_path, name, save_as=name)

    np.testing.assert_array_equal(decode_image(dataset.images[0].path, HEIGHT, WIDTH), PIXELS)


def test_a_name_that_is_no_utf_8_is_read_and_cached(tmp_path: Path) -> None:
    try:
        dataset = _load(tmp_path, "caf\udce9.bmp", save_as=b"caf\xe9.bmp")
    except OSError:
        pytest.skip("this file system takes no such name")

    hashes = index_content(dataset.images, tmp_path / "index.json")
    cache = CachePool(tmp_path / "cache", lambda _: None, free_bytes=lambda: 0).get(dataset, "h", 64, 32)

    assert index_content(dataset.images, tmp_path / "index.json") == hashes
    assert not cache.in_memory


# Symbolic links are the user's own: an annotation file cannot make one.


@pytest.mark.parametrize("linked", ["image", "folder"])
def test_links_may_lead_to_another_disk(linked: str, tmp_path: Path) -> None:
    images, other = tmp_path / "images", tmp_path / "other disk"
    other.mkdir()
    (other / "a.bmp").write_bytes(FILES["bmp"])
    if linked == "folder":
        images.symlink_to(other)
    else:
        images.mkdir()
        (images / "a.bmp").symlink_to(other / "a.bmp")

    assert _load(tmp_path, "a.bmp").images[0].path == images / "a.bmp"


@pytest.mark.parametrize(("target", "why"), [("nothing", "No such file"), ("a.bmp", "Too many levels of symbolic")])
def test_links_that_lead_nowhere_are_refused(target: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.bmp").symlink_to(tmp_path / "images" / target)

    with pytest.raises(DataError, match=f"a.bmp: {why}"):
        _load(tmp_path, "a.bmp")


def test_a_damaged_image_with_a_hostile_name_is_told_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b]0;title\x07\n.png"
    path.write_bytes(b"")

    with pytest.raises(DataError) as error:
        index_content([_record(path), _record(path)], None)

    check_message(error.value)
    assert r"a\x1b]0;title\x07\n.png': the image cannot be read" in str(error.value.first)
