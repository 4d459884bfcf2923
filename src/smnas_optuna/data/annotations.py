"""The annotations of a data set, held as arrays: a tenth of the memory that a dictionary for each would take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Annotations(Sequence[dict[str, Any]]):
    """``M`` annotations as COCO has them; each item is made when it is asked for, as a dictionary of these fields.

    Attributes:
        id: int64 [M].
        image_id: int64 [M].
        category_id: int64 [M].
        bbox: float64 [M, 4]: x, y, width and height in pixels, as written, not clipped.
        area: float64 [M], square pixels.
        iscrowd: int64 [M], 0 or 1.
    """

    id: Ints
    image_id: Ints
    category_id: Ints
    bbox: NDArray[np.float64]
    area: NDArray[np.float64]
    iscrowd: Ints

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Annotations:
        """Return the annotations with the fields of ``rows``."""
        rows = list(rows)

        def column(name: str) -> Ints:
            return np.fromiter((row[name] for row in rows), np.int64, len(rows))

        return cls(
            id=column("id"),
            image_id=column("image_id"),
            category_id=column("category_id"),
            bbox=np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4),
            area=np.fromiter((row["area"] for row in rows), np.float64, len(rows)),
            iscrowd=column("iscrowd"),
        )

    def __len__(self) -> int:
        """Number of annotations."""
        return len(self.id)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield each annotation."""
        names = [each.name for each in fields(self)]
        for values in zip(*(getattr(self, name).tolist() for name in names), strict=True):
            yield dict(zip(names, values, strict=True))

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> Annotations: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | Annotations:
        """Return one annotation, or some."""
        if isinstance(place, slice):
            return self._each(lambda values: values[place])
        return {each.name: getattr(self, each.name)[place].tolist() for each in fields(self)}

    def where(self, mask: NDArray[np.bool_]) -> Annotations:
        """Return the annotations for which ``mask``, bool [M], is true."""
        return self._each(lambda values: values[mask])

    def and_then(self, others: Annotations) -> Annotations:
        """Return these annotations and the others behind them, numbered anew from 1."""
        both = {
            each.name: np.concatenate((getattr(self, each.name), getattr(others, each.name))) for each in fields(self)
        }
        return Annotations(**{**both, "id": np.arange(1, len(self) + len(others) + 1)})

    def with_images(self, image_ids: Ints) -> Annotations:
        """Return the annotations as those of other images, int64 [M]."""
        return replace(self, image_id=image_ids)

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Annotations:
        return Annotations(**{each.name: change(getattr(self, each.name)) for each in fields(self)})
