"""Cache of all images of a data set, decoded and resized to one input size."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from smnas_optuna.allowance import free_disk_space, free_memory
from smnas_optuna.data.coco import CocoDataset, ImageRecord
from smnas_optuna.data.content import file_identity
from smnas_optuna.data.images import Progress, decode, decoding_bytes
from smnas_optuna.data.lock import acquire
from smnas_optuna.data.parallel import map_in_threads
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_error
from smnas_optuna.runtime.canvas import canvas_size, place
from smnas_optuna.runtime.image_files import quiet_pillow

_COMPARED = 8  # canvases of a cache file that are rendered again and compared

Note = Callable[[str], None]
"""Called with a message for the user."""


class _NotKeptError(DataError):
    """The disk does not take the file."""


class ImageCache:
    """The images of ``dataset``, resized and padded for the input size ``long`` x ``short`` (pixels), in memory.

    Each is resized (bilinear, antialiased) to fit the input size and lies in the upper left corner of its canvas (see
    :class:`smnas_optuna.batch.Batch`); the rest is ImageNet's mean colour.

    Args:
        dataset: The images; decoded here, once.
        long: Long edge of the input size.
        short: Short edge of the input size.
        file: File for the pixels instead of memory. An existing file is used if it has the right size and a sample of
            its canvases is equal to the images rendered again; otherwise it is written under a temporary name and then
            renamed.
        on_progress: Called after each decoded image; may raise to stop.

    Attributes:
        rows: By orientation (portrait or not), the positions of its images in ``dataset.images``, ascending.
        pixels: By orientation, uint8 [N, 3, H, W] RGB, in the order of ``rows``; read-only.

    Raises:
        DataError: If an image cannot be decoded as stated, or the file cannot be written.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        *,
        long: int,
        short: int,
        file: Path | None = None,
        on_progress: Progress = lambda *_: None,
    ) -> None:
        self.dataset = dataset
        self.long = long
        self.short = short
        self.rows = {
            portrait: [index for index, image in enumerate(dataset.images) if image.portrait == portrait]
            for portrait in (False, True)
        }
        self.in_memory = file is None
        self._on_progress = on_progress
        with quiet_pillow():
            buffer = self._fill_memory() if file is None else self._map(file)
        buffer.setflags(write=False)
        self.pixels: dict[bool, NDArray[np.uint8]] = {}
        start = 0
        for portrait, rows in self.rows.items():
            shape = (len(rows), 3, *canvas_size(long, short, portrait=portrait))
            self.pixels[portrait] = buffer[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)

    @property
    def num_bytes(self) -> int:
        """Size of all pixels."""
        return cache_bytes(self.dataset, self.long, self.short)

    def _render(self) -> Iterator[NDArray[np.uint8]]:
        """The canvases, landscape ones first."""
        images = (self.dataset.images[index] for rows in self.rows.values() for index in rows)
        canvases = map_in_threads(
            lambda image: render(image, self.long, self.short), images, bytes_each=decoding_bytes(self.dataset.images)
        )
        for done, canvas in enumerate(canvases, start=1):
            self._on_progress(done, len(self.dataset.images))
            yield canvas

    def _fill_memory(self) -> NDArray[np.uint8]:
        buffer = np.empty(self.num_bytes, np.uint8)
        size = buffer.size // len(self.dataset.images)
        for position, canvas in enumerate(self._render()):
            buffer[position * size : (position + 1) * size] = canvas.reshape(-1)
        return buffer

    def _map(self, file: Path) -> NDArray[np.uint8]:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(file.with_name(f"{file.name}.lock"))
            try:
                acquire(lock, self._on_progress)
                if not self._holds(file):  # a process that waited finds the file written
                    self._write(file)
            finally:
                lock.release()
            return np.memmap(file, np.uint8, mode="r")
        except OSError as error:
            raise _NotKeptError(
                f"{file}: the resized images cannot be kept on disk: {quote_error(error)}",
                fix=f"free {self.num_bytes / 2**20:,.0f} MiB on the disk, or make the folder writable",
            ) from error

    def _holds(self, file: Path) -> bool:
        """Check that ``file`` has the size of this cache and, in a sample of canvases, its pixels.

        After a power cut a file may have its name and size, but zeros as content.
        """
        if not (file.is_file() and file.stat().st_size == self.num_bytes):
            return False
        images = [self.dataset.images[index] for rows in self.rows.values() for index in rows]
        canvases = np.memmap(file, np.uint8, mode="r").reshape(len(images), -1)
        some = np.linspace(0, len(images) - 1, _COMPARED).astype(int)
        return all(
            np.array_equal(canvases[row], render(images[row], self.long, self.short).reshape(-1)) for row in set(some)
        )

    def _write(self, file: Path) -> None:
        temporary = file.with_name(f"{file.name}.tmp")
        try:
            temporary.unlink(missing_ok=True)  # it may be a link to elsewhere
            with temporary.open("xb") as stream:  # not mapped, so that a full disk is an error instead of a signal
                for canvas in self._render():
                    stream.write(canvas.tobytes())
                stream.flush()
                os.fsync(stream.fileno())  # before the rename
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


class CachePool:
    """Image caches by data set and input size, for the many detectors of one search.

    A cache that would take more than half of the free memory is kept in a file, unless dropping the least recently used
    caches from memory makes room for it. Processes that share a machine also share the files, and with them the memory:
    one of them decodes each image, and all map the file. Each decodes for itself where the disk has no room or
    cannot be written.

    Args:
        folder: Folder of these files, which later processes use again.
        note: Called when a cache is kept on disk because memory is short.
        on_progress: Called after each decoded image; may raise to stop.
        shared: True if other processes on this machine use the same folder at the same time.
        free_bytes: Returns the free memory in bytes.
        free_disk: Returns the free bytes on the disk of a folder that need not exist.

    Attributes:
        shared: As above.
    """

    def __init__(
        self,
        folder: Path,
        note: Note,
        *,
        on_progress: Progress = lambda *_: None,
        shared: bool = False,
        free_bytes: Callable[[], int] = free_memory,
        free_disk: Callable[[Path], int] = free_disk_space,
    ) -> None:
        self._folder = folder
        self._on_progress = on_progress
        self._note = note
        self.shared = shared
        self._free_bytes = free_bytes
        self._free_disk = free_disk
        self._caches: OrderedDict[tuple[CocoDataset, int, int], ImageCache] = OrderedDict()

    def get(self, dataset: CocoDataset, content_hash: str, long: int, short: int) -> ImageCache:
        """Return the cache of ``dataset`` at ``long`` x ``short`` pixels; it is built on first use.

        Args:
            dataset: The images.
            content_hash: Hash of the study's data; files of other content are not used.
            long: Long edge of the input size.
            short: Short edge of the input size.

        Raises:
            DataError: If an image cannot be decoded as stated, or the disk is full or read-only.
        """
        key = (dataset, long, short)
        if key not in self._caches:
            needed = cache_bytes(dataset, long, short)
            on_disk = self.shared and 2 * needed <= self._free_disk(self._folder)
            file = None
            if on_disk or not self._make_room(needed):
                file = self._folder / _file_name(dataset, content_hash, long, short)
            if file is not None and not on_disk:
                self._note(
                    f"{len(dataset.images)} images at {long}x{short} take {needed / 2**20:,.0f} MiB, "
                    f"more than half of the free memory: kept on disk in {file}"
                )
            self._caches[key] = self._build(dataset, long, short, file)
        self._caches.move_to_end(key)
        return self._caches[key]

    def _build(self, dataset: CocoDataset, long: int, short: int, file: Path | None) -> ImageCache:
        """Build a cache; one that could as well be in memory is there if the disk does not take it."""
        try:
            return ImageCache(dataset, long=long, short=short, file=file, on_progress=self._on_progress)
        except _NotKeptError:
            if not self._make_room(cache_bytes(dataset, long, short)):
                raise
        return ImageCache(dataset, long=long, short=short, on_progress=self._on_progress)

    def _make_room(self, needed: int) -> bool:
        """Drop caches if necessary, and return whether ``needed`` bytes are at most half of the free memory."""
        held = sum(cache.num_bytes for cache in self._caches.values() if cache.in_memory)
        if 2 * needed > self._free_bytes() + held:
            return False
        for key in [key for key, cache in self._caches.items() if cache.in_memory]:
            if 2 * needed <= self._free_bytes():
                break
            del self._caches[key]
        return 2 * needed <= self._free_bytes()


def render(image: ImageRecord, long: int, short: int) -> NDArray[np.uint8]:
    """Return an image decoded, resized and padded for ``long`` x ``short`` pixels, uint8 [3, H, W].

    Raises:
        DataError: If the file cannot be decoded as stated.
    """
    return place(decode(image).pixels, long, short)


def cache_bytes(dataset: CocoDataset, long: int, short: int) -> int:
    """Return the size in bytes of all images at ``long`` x ``short`` pixels, the same for both orientations."""
    return len(dataset.images) * 3 * math.prod(canvas_size(long, short, portrait=False))


def _file_name(dataset: CocoDataset, content_hash: str, long: int, short: int) -> str:
    """Return a name that depends on the content, the input size, and the file of each image in order."""
    digest = blake2b(f"{content_hash}|{long}x{short}".encode(), digest_size=12)
    for image in dataset.images:
        # file names are bytes; Python represents those that are not UTF-8 as surrogates
        digest.update(f"|{file_identity(image)}".encode(errors="surrogatepass"))
    return f"{long}x{short}-{digest.hexdigest()}.pixels"
